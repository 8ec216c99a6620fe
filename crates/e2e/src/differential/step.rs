//! One request of the sequence.

use api::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest,
};
use api::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use api::v3lockpb::{LockRequest, UnlockRequest};
use bytes::Bytes;

/// What is asked of both servers.
#[derive(Clone, Debug)]
pub enum Step {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    /// A grant with an id of the server's choice, a look at it and its revocation.
    LeaseOfTheServersChoice(i64),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    LeaseLeases,
    LeaseKeepAlive(i64),
    /// A grant with a time to live below the least, and its revocation before it can lapse.
    LeaseOfNoTime(LeaseGrantRequest),
    Alarm(AlarmRequest),
    Status,
    HashKv(HashKvRequest),
    Defragment,
    /// Left out if it would have to wait.
    Lock(LockRequest),
    Unlock(UnlockRequest),
    /// Left out if it would have to wait.
    Campaign(CampaignRequest),
    Proclaim(ProclaimRequest),
    Leader(LeaderRequest),
    Resign(ResignRequest),
    /// A message cut short or changed anywhere, for the method at this path.
    Damaged {
        path: &'static str,
        body: Bytes,
    },
    WatchCreate(WatchCreateRequest),
    WatchCancel {
        stream: WatchKind,
        watch_id: i64,
    },
    WatchProgress,
}

/// Where a watch starts, seen from its creation. Each kind has a stream of its own: whether a request for progress is
/// answered depends on all watches of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Asked for no revision: in step from the start.
    Live,
    /// Earlier: in step once it has caught up.
    Past,
    /// With the next revision or later: holds progress back until then.
    Future,
    /// Nowhere: refused or cancelled at once.
    Refused,
}

impl WatchKind {
    pub(super) const ALL: [WatchKind; 4] = [WatchKind::Live, WatchKind::Past, WatchKind::Future, WatchKind::Refused];

    pub(super) fn of(start_revision: i64, revision: i64, compacted: i64) -> WatchKind {
        match start_revision {
            0 => WatchKind::Live,
            start if start < 0 || start < compacted => WatchKind::Refused,
            start if start <= revision => WatchKind::Past,

            _ => WatchKind::Future,
        }
    }
}
