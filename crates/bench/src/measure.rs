//! What the kernel says of a process.

#![allow(clippy::disallowed_methods, reason = "reads /proc")]

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// What a process has used so far, or between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time of all its threads, living and gone.
    pub(crate) cpu: Duration,
    /// Bytes it caused to be sent to storage.
    pub(crate) written_bytes: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Usage> {
        Ok(Usage { cpu: cpu(pid)?, written_bytes: field(&format!("/proc/{pid}/io"), "write_bytes:")? })
    }

    /// The sum over several processes.
    pub(crate) fn of_all(pids: &[u32]) -> anyhow::Result<Usage> {
        let mut sum = Usage::default();
        for &pid in pids {
            let usage = Usage::of(pid)?;
            sum = Usage { cpu: sum.cpu + usage.cpu, written_bytes: sum.written_bytes + usage.written_bytes };
        }
        Ok(sum)
    }

    pub(crate) fn since(&self, before: &Usage) -> Usage {
        Usage { cpu: self.cpu - before.cpu, written_bytes: self.written_bytes - before.written_bytes }
    }
}

/// utime and stime are fields 14 and 15 of /proc/pid/stat, in clock ticks, counted after the command's closing bracket.
fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("stat without a name")?.1;
    let fields = after_name.split_ascii_whitespace().collect::<Vec<_>>();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Resident memory now.
pub(crate) fn rss_mb(pid: u32) -> anyhow::Result<f64> {
    Ok(field(&format!("/proc/{pid}/status"), "VmRSS:")? as f64 / 1024.0)
}

/// The most it ever was.
pub(crate) fn peak_rss_mb(pid: u32) -> anyhow::Result<f64> {
    Ok(field(&format!("/proc/{pid}/status"), "VmHWM:")? as f64 / 1024.0)
}

fn field(path: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path}: no {name}"))?;
    let number = line.split_ascii_whitespace().next().context("empty field")?;
    Ok(number.parse()?)
}
