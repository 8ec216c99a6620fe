//! The requests of each workload.

use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::{Compare, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op};
use bytes::Bytes;
use clap::ValueEnum;
use prost::Message;

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Put a random key.
    Put,
    /// Linearizable get of a random key.
    Get,
    /// Serializable get of a random key.
    GetSerializable,
    /// All keys under `range/`.
    Range,
    /// The first of all keys.
    LimitOne,
    /// How many keys there are.
    CountOnly,
    /// Create a key if it is absent, else read it.
    Txn,
    /// Grant a lease of ten minutes.
    LeaseGrant,
    /// What an apiserver does: guarded updates, gets, paged lists.
    Kubernetes,
}

impl Workload {
    /// Whether it changes what the server keeps.
    pub(crate) fn writes(self) -> bool {
        match self {
            Workload::Put | Workload::Txn | Workload::LeaseGrant | Workload::Kubernetes => true,
            Workload::Get | Workload::GetSerializable | Workload::Range | Workload::LimitOne | Workload::CountOnly => {
                false
            }
        }
    }
}

pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(crate) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";

/// Makes the requests of one stream.
pub(crate) struct Maker {
    pub(crate) workload: Workload,
    pub(crate) key_size: usize,
    pub(crate) value: Bytes,
    pub(crate) keys: u64,
    pub(crate) random: fastrand::Rng,
}

impl Maker {
    /// The next request: path and encoded message.
    pub(crate) fn next(&mut self) -> (&'static str, Bytes) {
        match self.workload {
            Workload::Put => (PUT, encode(&self.put())),
            Workload::Get => (RANGE, encode(&self.get(false))),
            Workload::GetSerializable => (RANGE, encode(&self.get(true))),
            Workload::Range => (RANGE, encode(&prefix("range/"))),
            Workload::LimitOne => (RANGE, encode(&RangeRequest { limit: 1, ..all() })),
            Workload::CountOnly => (RANGE, encode(&RangeRequest { count_only: true, ..all() })),
            Workload::Txn => (TXN, encode(&self.create_or_get())),
            Workload::LeaseGrant => (LEASE_GRANT, encode(&LeaseGrantRequest { ttl: 600, id: 0 })),
            Workload::Kubernetes => self.kubernetes(),
        }
    }

    fn key(&mut self) -> Bytes {
        key(self.random.u64(0..self.keys), self.key_size)
    }

    fn put(&mut self) -> PutRequest {
        PutRequest { key: self.key(), value: self.value.clone(), ..Default::default() }
    }

    fn get(&mut self, serializable: bool) -> RangeRequest {
        RangeRequest { key: self.key(), serializable, ..Default::default() }
    }

    fn create_or_get(&mut self) -> TxnRequest {
        let key = self.key();
        TxnRequest {
            compare: vec![mod_revision_is(key.clone(), 0)],
            success: vec![put_op(key.clone(), self.value.clone())],
            failure: vec![range_op(RangeRequest { key, ..Default::default() })],
        }
    }

    /// Half guarded updates (most of which fail and read, as a busy controller's do), a third gets, the rest lists
    /// of 50.
    fn kubernetes(&mut self) -> (&'static str, Bytes) {
        match self.random.u8(0..100) {
            0..50 => (TXN, encode(&self.create_or_get())),
            50..85 => (RANGE, encode(&self.get(false))),
            _ => {
                let from = self.key();
                let page =
                    RangeRequest { key: from, range_end: Bytes::from_static(b"\0"), limit: 50, ..Default::default() };
                (RANGE, encode(&page))
            }
        }
    }
}

/// The `number`th key, of `size` bytes: hex digits, so that neighbours in number are neighbours in order.
pub(crate) fn key(number: u64, size: usize) -> Bytes {
    format!("{number:0size$x}").into_bytes().into()
}

pub(crate) fn prefix(prefix: &str) -> RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("prefixes here are not empty") += 1;
    RangeRequest { key: Bytes::copy_from_slice(prefix.as_bytes()), range_end: end.into(), ..Default::default() }
}

fn all() -> RangeRequest {
    RangeRequest { key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0"), ..Default::default() }
}

pub(crate) fn put_op(key: Bytes, value: Bytes) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestPut(PutRequest { key, value, ..Default::default() })) }
}

fn range_op(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestRange(range)) }
}

fn mod_revision_is(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key,
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

pub(crate) fn encode(message: &impl Message) -> Bytes {
    testkit::grpc::frame(message)
}
