//! Makes answers of two servers comparable.

use std::fmt::Debug;

use api::etcdserverpb::range_request::SortTarget;
use api::etcdserverpb::{
    AlarmResponse, CompactionResponse, DefragmentResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse,
    RangeRequest, RangeResponse, ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};
use api::mvccpb::KeyValue;
use api::v3electionpb::{CampaignResponse, LeaderResponse, ProclaimResponse, ResignResponse};
use api::v3lockpb::{LockResponse, UnlockResponse};

/// A response with a header.
pub(super) trait Answer: prost::Message + Default + PartialEq + Debug {
    fn header(&mut self) -> Option<&mut ResponseHeader>;
}

macro_rules! answers {
    ($($response:ty),* $(,)?) => {
        $(impl Answer for $response {
            fn header(&mut self) -> Option<&mut ResponseHeader> {
                self.header.as_mut()
            }
        })*
    };
}

answers!(
    AlarmResponse,
    CampaignResponse,
    CompactionResponse,
    DefragmentResponse,
    DeleteRangeResponse,
    HashKvResponse,
    LeaderResponse,
    LeaseGrantResponse,
    LeaseKeepAliveResponse,
    LeaseLeasesResponse,
    LeaseRevokeResponse,
    LeaseTimeToLiveResponse,
    LockResponse,
    ProclaimResponse,
    PutResponse,
    RangeResponse,
    ResignResponse,
    StatusResponse,
    TxnResponse,
    UnlockResponse,
    WatchResponse,
);

/// What a server says of itself in every header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    cluster_id: u64,
    member_id: u64,
    raft_term: u64,
}

impl Identity {
    pub(super) fn of(header: &ResponseHeader) -> Identity {
        Identity { cluster_id: header.cluster_id, member_id: header.member_id, raft_term: header.raft_term }
    }

    /// Blanks `header` if it names this identity, as it must; another one stays and shows as a difference.
    pub(super) fn blank(self, header: Option<&mut ResponseHeader>) {
        let Some(header) = header else { return };
        if Identity::of(header) == self {
            *header = ResponseHeader { revision: header.revision, ..ResponseHeader::default() };
        }
    }
}

/// Puts pairs that a sort leaves in any order into the order of their keys. Of the last such group before a cut it is
/// open which pairs are shown, so those are blanked.
pub(super) fn settle_ties(request: &RangeRequest, response: &mut RangeResponse) {
    let by = request.sort_target();
    if by == SortTarget::Key {
        return;
    }
    let values_gone = request.keys_only && by == SortTarget::Value;
    let tied = |a: &KeyValue, b: &KeyValue| match by {
        SortTarget::Key => false,
        SortTarget::Version => a.version == b.version,
        SortTarget::Create => a.create_revision == b.create_revision,
        SortTarget::Mod => a.mod_revision == b.mod_revision,
        SortTarget::Value => values_gone || a.value == b.value,
    };
    let mut groups = response.kvs.chunk_by_mut(tied).peekable();
    while let Some(group) = groups.next() {
        match groups.peek() {
            None if response.more => group.fill(KeyValue::default()),
            _ => group.sort_by(|a, b| a.key.cmp(&b.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb::range_request::SortOrder;

    use super::*;

    fn pair(key: &'static str, version: i64) -> KeyValue {
        KeyValue { key: key.into(), version, ..KeyValue::default() }
    }

    #[test]
    fn ties_are_settled_and_cut_ones_blanked() {
        let request = RangeRequest {
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Version.into(),
            ..RangeRequest::default()
        };
        let kvs = vec![pair("b", 1), pair("a", 1), pair("d", 2), pair("c", 2)];
        let mut whole = RangeResponse { kvs: kvs.clone(), ..RangeResponse::default() };
        settle_ties(&request, &mut whole);
        assert_eq!(whole.kvs, [pair("a", 1), pair("b", 1), pair("c", 2), pair("d", 2)]);
        let mut cut = RangeResponse { kvs, more: true, ..RangeResponse::default() };
        settle_ties(&request, &mut cut);
        assert_eq!(cut.kvs, [pair("a", 1), pair("b", 1), KeyValue::default(), KeyValue::default()]);
    }
}
