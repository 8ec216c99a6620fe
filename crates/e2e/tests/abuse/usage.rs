//! What a process takes of the machine.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::within;
use tokio::time::sleep;

pub(crate) const MEGABYTE: usize = 1 << 20;

/// How long a process may take to become idle.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

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

    /// From when the process has held about the same for two seconds: what it did before is over then, and what that took is not there to
    /// be used again.
    pub(crate) async fn of_idle(process: u32) -> Result<Peak> {
        const LOOKS: u32 = 20;
        let mut held = resident(process)?;
        let mut alike = 0;
        within(IDLE_LIMIT, async {
            while alike < LOOKS {
                sleep(Duration::from_millis(100)).await;
                let now = resident(process)?;
                alike = if now.abs_diff(held) < MEGABYTE { alike + 1 } else { 0 };
                held = now;
            }
            Peak::of(process)
        })
        .await?
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
