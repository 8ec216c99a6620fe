//! Addresses that no two tests share.

use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where one member listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub client: SocketAddr,
    pub peer: SocketAddr,
}

/// etcd's usual ports on a loopback address of the member's own.
pub(crate) fn unused() -> Addresses {
    let host = unused_host();
    Addresses { client: (host, 2379).into(), peer: (host, 2380).into() }
}

/// A loopback address, every port of which is the caller's.
///
/// All of 127.0.0.0/8 is this machine, so the process id and a counter in the address keep parallel tests apart
/// without the race there is between finding a free port and using it. An address comes again only after 249 others.
pub fn unused_host() -> Ipv4Addr {
    static USED: AtomicUsize = AtomicUsize::new(0);
    let counter = (USED.fetch_add(1, Ordering::Relaxed) % 250 + 1) as u8;
    let [.., high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, counter, high, low)
}
