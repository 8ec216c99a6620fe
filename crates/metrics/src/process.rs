//! What the system says of this process.
//!
//! Read from `/proc` at each scrape. What cannot be read is left out.
#![allow(
    clippy::disallowed_methods,
    reason = "/proc is no disk: what is read there is the kernel's answer at this moment"
)]

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::{Exposition, names};

/// What the process takes of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// Seconds since the Unix epoch.
    pub start_seconds: f64,
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
}

/// Adds the families `process_*` and `os_fd_*`.
pub fn collect(out: &mut Exposition) {
    if let Some(usage) = usage() {
        out.value(&names::PROCESS_CPU, usage.cpu_seconds);
        out.value(&names::PROCESS_START, usage.start_seconds);
        out.value(&names::PROCESS_VIRTUAL, usage.virtual_bytes as f64);
        out.value(&names::PROCESS_RESIDENT, usage.resident_bytes as f64);
    }
    let virtual_max = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    out.value(&names::PROCESS_VIRTUAL_MAX, virtual_max as f64);
    let files_max = open_files_max() as f64;
    out.value(&names::PROCESS_FILES_MAX, files_max);
    out.value(&names::FILES_MAX, files_max);
    if let Some(files) = open_files() {
        out.value(&names::PROCESS_FILES, files as f64);
        out.value(&names::FILES, files as f64);
    }
    if let Some((received, sent)) = fs::read_to_string("/proc/self/net/netstat").ok().and_then(|text| octets(&text)) {
        out.value(&names::PROCESS_NETWORK_RECEIVED, received as f64);
        out.value(&names::PROCESS_NETWORK_SENT, sent as f64);
    }
}

/// How many files the process may open.
pub fn open_files_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}

/// How much of the machine the process takes.
pub fn usage() -> Option<Usage> {
    let boot = fs::read_to_string("/proc/stat").ok()?;
    parse(&fs::read_to_string("/proc/self/stat").ok()?, boot_seconds(&boot)?)
}

/// Reads `/proc/self/stat`; its fields are counted from behind the program's name, which may hold anything.
fn parse(stat: &str, boot_seconds: u64) -> Option<Usage> {
    let (ticks, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as u64);
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Usage {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
        start_seconds: boot_seconds as f64 + field(22)? as f64 / ticks,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
    })
}

fn boot_seconds(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Bytes received and sent, from the two lines of `IpExt`: names, then numbers.
fn octets(netstat: &str) -> Option<(u64, u64)> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let pairs = || names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace());
    let number = |wanted| pairs().find(|(name, _)| *name == wanted)?.1.parse().ok();
    Some((number("InOctets")?, number("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 300 50 13 14 15 16 17 18 1000 4096 2 21";
        let usage = parse(stat, 100).unwrap();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(usage.cpu_seconds, 350.0 / ticks);
        assert_eq!(usage.start_seconds, 100.0 + 1000.0 / ticks);
        assert_eq!((usage.virtual_bytes, usage.resident_bytes), (4096, 2 * rustix::param::page_size() as u64));
        assert_eq!(parse("12 (short) S 1 2", 100), None);
        assert_eq!(boot_seconds("cpu 1 2\nbtime 77\nctxt 3\n"), Some(77));
        assert_eq!(octets("TcpExt: A\nTcpExt: 1\nIpExt: X InOctets OutOctets\nIpExt: 1 2 3\n"), Some((2, 3)));
        assert_eq!(octets("IpExt: X\nIpExt: 1\n"), None);
    }

    #[test]
    fn this_process_has_run_and_takes_memory() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 100 << 10 && usage.virtual_bytes >= usage.resident_bytes, "{usage:?}");
        assert!(usage.start_seconds > 1.7e9 && usage.cpu_seconds >= 0.0, "{usage:?}");
        let mut out = Exposition::default();
        collect(&mut out);
        assert_eq!(out.finish().matches("# TYPE").count(), 11);
    }
}
