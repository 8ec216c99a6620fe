//! Request ids: unique across members and restarts, as etcd makes them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{InternalRaftRequest, RequestHeader};
use bytes::Bytes;
use prost::Message;
use types::MemberId;

const TIME_BITS: u32 = 40;
const COUNTER_BITS: u32 = 8;

/// Counts upwards from a start made of the member's id and the time, so that a restarted member does not repeat
/// itself: 16 bits member, 40 bits milliseconds, 8 bits counter.
pub(crate) struct RequestIds {
    prefix: u64,
    suffix: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(member: MemberId, wall: Duration) -> RequestIds {
        let milliseconds = wall.as_millis() as u64 & ((1 << TIME_BITS) - 1);
        RequestIds {
            prefix: member.0 << (TIME_BITS + COUNTER_BITS),
            suffix: AtomicU64::new(milliseconds << COUNTER_BITS),
        }
    }

    pub(crate) fn next(&self) -> u64 {
        let suffix = self.suffix.fetch_add(1, Ordering::Relaxed) + 1;
        self.prefix | (suffix & ((1 << (TIME_BITS + COUNTER_BITS)) - 1))
    }
}

/// The log entry of `request`: an encoded `InternalRaftRequest` whose header carries `id`.
pub(crate) fn encode(id: u64, request: Request) -> Bytes {
    let header = Some(RequestHeader { id, ..Default::default() });
    InternalRaftRequest { header, id: 0, request: Some(request) }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_low_bits_of_the_member_and_never_repeat() {
        let ids = RequestIds::new(MemberId(0x8e9e_05c5_2164_694d), Duration::from_millis(1));
        let (first, second) = (ids.next(), ids.next());
        assert_eq!((first >> 48, second - first), (0x694d, 1));
    }
}
