//! A file system that loses what was not synced when its power is cut.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::ioctl;

/// A mounted ext4 on a file; unmounted when dropped.
#[derive(Debug)]
pub struct FragileDisk {
    image: PathBuf,
    root: PathBuf,
}

/// `FS_IOC_SHUTDOWN` (`EXT4_IOC_SHUTDOWN`), by which file systems are tested themselves.
const SHUTDOWN: ioctl::Opcode = ioctl::opcode::read::<u32>(b'X', 125);
/// Neither data nor journal is written any more.
const WITHOUT_FLUSH: u32 = 2;

impl FragileDisk {
    /// Mounts one of `megabytes` below `dir`; only what is written takes space.
    pub fn mount(dir: &Path, megabytes: u64) -> Result<FragileDisk> {
        let disk = FragileDisk { image: dir.join("disk.image"), root: dir.join("disk") };
        File::create(&disk.image)?.set_len(megabytes << 20)?;
        fs::create_dir(&disk.root)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        disk.attach()?;
        Ok(disk)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// From here on nothing that is written arrives, and every sync fails.
    pub fn cut_power(&self) -> Result<()> {
        let root = File::open(&self.root)?;
        #[allow(unsafe_code, reason = "no safe call does this")]
        // SAFETY: this request reads one `u32`, which is what its number says and what the setter points it to.
        let done = unsafe { ioctl::ioctl(&root, ioctl::Setter::<SHUTDOWN, u32>::new(WITHOUT_FLUSH)) };
        done.context("cannot shut the file system down")
    }

    /// What was synced before the cut is there again. No process may have anything open on it.
    pub fn restore_power(&self) -> Result<()> {
        run(Command::new("umount").arg(&self.root))?;
        self.attach()
    }

    /// Without what ext4 does for programs that forget to sync, and without a journal that is written by the clock.
    fn attach(&self) -> Result<()> {
        let options = "loop,noauto_da_alloc,commit=600";
        run(Command::new("mount").args(["-t", "ext4", "-o", options]).arg(&self.image).arg(&self.root))
    }
}

impl Drop for FragileDisk {
    fn drop(&mut self) {
        // Lazily: a process that is still ending may hold it. If it fails, a mount is left behind, no more.
        Command::new("umount").arg("--lazy").arg(&self.root).status().ok();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: this test must run as root, with the right to mount");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// It would otherwise prove nothing that all is there after a cut.
    #[test]
    fn what_was_not_synced_is_lost_and_what_was_is_there() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let disk = FragileDisk::mount(dir.path(), 64)?;
        for name in ["synced", "renamed", "grown"] {
            let mut file = File::create(disk.path(name))?;
            file.write_all(b"synced")?;
            file.sync_all()?;
        }
        File::open(disk.path(""))?.sync_all()?;
        fs::write(disk.path("new"), "not synced")?;
        fs::rename(disk.path("renamed"), disk.path("other name"))?;
        File::options().append(true).open(disk.path("grown"))?.write_all(b", and more")?;
        disk.cut_power()?;
        assert!(fs::write(disk.path("late"), "anything").is_err());
        disk.restore_power()?;
        let mut names: Vec<_> =
            fs::read_dir(disk.path(""))?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        names.sort_unstable();
        assert_eq!(names, ["grown", "lost+found", "renamed", "synced"]);
        for name in ["synced", "renamed", "grown"] {
            assert_eq!(fs::read(disk.path(name))?, b"synced", "{name}");
        }
        Ok(())
    }
}
