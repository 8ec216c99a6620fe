//! A file system of a few megabytes, which a test can fill.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A mounted tmpfs; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    root: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `megabytes` below `dir`.
    pub fn mount(dir: &Path, megabytes: u32) -> Result<SmallDisk> {
        let root = dir.join("disk");
        fs::create_dir(&root)?;
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&root).status();
        let mounted = mounted.context("cannot run mount")?;
        ensure!(mounted.success(), "cannot mount a tmpfs: this test must run as root, with the right to mount");
        Ok(SmallDisk { root })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Takes `megabytes` of what is free.
    pub fn take(&self, megabytes: usize) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.filler())?;
        for _ in 0..megabytes {
            file.write_all(&vec![b'x'; 1 << 20])?;
        }
        Ok(())
    }

    /// Takes all that is free, to the last page.
    pub fn take_all(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.filler())?;
        for piece in [1 << 20, 4096] {
            loop {
                match file.write_all(&vec![b'x'; piece]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Gives back what was taken.
    pub fn give_back(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.path("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is still ending may hold it. If it fails, a mount is left behind, no more.
        Command::new("umount").arg("--lazy").arg(&self.root).status().ok();
    }
}
