//! What settings need to know of the machine: its memory, its address, the operator's file.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Reads a whole file. For the settings file and what the kernel tells under `/proc` and `/sys`.
///
/// # Errors
/// What the system says.
#[allow(clippy::disallowed_methods, reason = "these are not data files: the kernel's have no length to read by")]
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// The address other machines would see this one at: that of the interface with the default route. Sends nothing.
pub fn default_host() -> Option<IpAddr> {
    // A documentation address (RFC 5737): connecting a datagram socket only asks for the route.
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

/// How much memory this process may use: the machine's, or less if a control group says so.
pub(crate) fn memory_bytes(read: ReadFile<'_>) -> Option<u64> {
    let text = |path: &str| read(Path::new(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let number = |path: &str| text(path)?.trim().parse::<u64>().ok();

    let machine = text("/proc/meminfo").and_then(|info| total_memory(&info));
    let group = text("/proc/self/cgroup").and_then(|groups| unified_group(&groups).map(String::from));
    let group_limit = group.and_then(|group| number(&format!("/sys/fs/cgroup{group}/memory.max")));
    let container_limit = number("/sys/fs/cgroup/memory.max");
    let old_limit = number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    [machine, group_limit, container_limit, old_limit].into_iter().flatten().filter(|&bytes| bytes > 0).min()
}

fn total_memory(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The process's group in the unified hierarchy, such as `/system.slice/etcd.service`.
fn unified_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::")).filter(|group| *group != "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &'static [(&'static str, &'static str)]) -> impl Fn(&Path) -> io::Result<Vec<u8>> {
        move |path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn the_smallest_limit_counts() {
        let memory = ("/proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\n");
        let files: &[_] = Box::leak(Box::new([memory]));
        assert_eq!(memory_bytes(&machine(files)), Some(16_384_000_000));
        let files: &[_] = Box::leak(Box::new([memory, ("/sys/fs/cgroup/memory.max", "max\n")]));
        assert_eq!(memory_bytes(&machine(files)), Some(16_384_000_000));
        let files: &[_] = Box::leak(Box::new([
            memory,
            ("/proc/self/cgroup", "0::/a.slice\n"),
            ("/sys/fs/cgroup/a.slice/memory.max", "1048576\n"),
        ]));
        assert_eq!(memory_bytes(&machine(files)), Some(1_048_576));
        assert_eq!(memory_bytes(&machine(&[])), None);
    }
}
