//! What a process takes of the machine.

use std::fs;

use anyhow::{Context, Result};

pub(crate) const MEGABYTE: usize = 1 << 20;

/// Bytes of memory the process holds.
pub(crate) fn resident(process: u32) -> Result<usize> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS is there")?;
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}

/// How many files and sockets the process has open.
pub(crate) fn descriptors(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// How many threads the process has.
pub(crate) fn threads(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/task"))?.count())
}

/// Follows how much memory a process holds at most.
pub(crate) struct Peak {
    process: u32,
    before: usize,
    peak: usize,
}

impl Peak {
    pub(crate) fn of(process: u32) -> Result<Peak> {
        let before = resident(process)?;
        Ok(Peak { process, before, peak: before })
    }

    /// Looks again; returns by how much the process has grown at most.
    pub(crate) fn growth(&mut self) -> Result<usize> {
        self.peak = self.peak.max(resident(self.process)?);
        Ok(self.peak.saturating_sub(self.before))
    }

    /// By how much the process is larger than at first, now.
    pub(crate) fn left(&self) -> Result<usize> {
        Ok(resident(self.process)?.saturating_sub(self.before))
    }
}
