//! A machine on a simulated disk, requests in few words, and replies as text.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{self as pb, InternalRaftRequest, RequestOp, request_op, response_op};
use api::mvccpb::KeyValue;
use backend::{Backend, Table};
use bytes::Bytes;
use env::{Disk, Monotonic, SimDisk};
use lease::LessorOptions;
use machine::{Applied, ApplyError, Machine, MachineOptions, Reply};
use mvcc::StoreOptions;
use prost::Message;
use types::{EntryKind, Index, LogEntry, Term};

pub(crate) fn options() -> MachineOptions {
    MachineOptions {
        store: StoreOptions { value_budget_bytes: 1 << 20, restore_threads: 1 },
        lessor: LessorOptions { ttl_min: 2, checkpoint_interval: None },
        ..MachineOptions::default()
    }
}

pub(crate) fn open(disk: &SimDisk) -> Backend {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Backend::open(disk, Path::new("db"), backend::Options::default()).unwrap()
}

pub(crate) fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

/// Rows of a small table.
pub(crate) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// One member's state, and the log it has been given.
pub(crate) struct Member {
    pub(crate) machine: Machine,
    pub(crate) backend: Backend,
    pub(crate) disk: SimDisk,
    last: Index,
}

impl Member {
    pub(crate) fn new() -> Member {
        Member::with(options())
    }

    pub(crate) fn with(options: MachineOptions) -> Member {
        Member::on(SimDisk::new(), options)
    }

    pub(crate) fn on(disk: SimDisk, options: MachineOptions) -> Member {
        let backend = open(&disk);
        let machine = Machine::restore(backend.clone(), options).unwrap();
        let last = machine.applied();
        Member { machine, backend, disk, last }
    }

    /// Commits, then starts again from the disk.
    pub(crate) fn restart(self) -> Member {
        self.backend.commit().unwrap();
        let disk = self.disk.clone();
        drop(self);
        Member::on(disk, options())
    }

    /// Applies one entry; returns all that came of it.
    pub(crate) fn entry(&mut self, kind: EntryKind, data: Bytes) -> Applied {
        self.last = self.machine.applied().next();
        let entry = LogEntry { term: Term(1), index: self.last, kind, data };
        let mut applied = Applied::default();
        self.machine.apply(&[entry], at(0), &mut applied).unwrap();
        applied
    }

    pub(crate) fn apply(&mut self, request: Request) -> Result<Reply, ApplyError> {
        let data = encode(77, request);
        let (id, index, result) = self.entry(EntryKind::Normal, data).results.pop().unwrap();
        assert_eq!((id, index), (77, self.last));
        result
    }

    /// Applies requests one by one and compares the replies' texts.
    #[track_caller]
    pub(crate) fn expect(&mut self, steps: impl IntoIterator<Item = (Request, &'static str)>) {
        for (request, expected) in steps {
            let what = format!("{request:?}");
            assert_eq!(self.show(request), expected, "{what}");
        }
    }

    /// Applies a request and shows the reply.
    pub(crate) fn show(&mut self, request: Request) -> String {
        match self.apply(request.clone()) {
            Ok(reply) => show(&request, reply),
            Err(error) => format!("error: {error}"),
        }
    }

    /// Everything the small tables hold, but for the applied index.
    pub(crate) fn tables(&self) -> Vec<(Table, Rows)> {
        Table::ALL.iter().map(|&table| (table, self.backend.values(table).unwrap())).collect()
    }

    pub(crate) fn hash(&self) -> mvcc::HashKv {
        self.machine.shared().view().hash_kv(0).unwrap()
    }
}

pub(crate) fn encode(id: u64, request: Request) -> Bytes {
    InternalRaftRequest { id, request: Some(request), header: None }.encode_to_vec().into()
}

pub(crate) fn put(key: &str, value: &str) -> Request {
    Request::Put(put_request(key, value))
}

pub(crate) fn put_request(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..pb::PutRequest::default() }
}

pub(crate) fn put_leased(key: &str, value: &str, lease: i64) -> Request {
    Request::Put(pb::PutRequest { lease, ..put_request(key, value) })
}

pub(crate) fn delete(key: &str, range_end: &str) -> Request {
    Request::DeleteRange(delete_request(key, range_end))
}

pub(crate) fn delete_request(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: false }
}

pub(crate) fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(range_end), ..pb::RangeRequest::default() }
}

pub(crate) fn compact(revision: i64) -> Request {
    Request::Compaction(pb::CompactionRequest { revision, physical: false })
}

pub(crate) fn grant(id: i64, ttl: i64) -> Request {
    Request::LeaseGrant(pb::LeaseGrantRequest { id, ttl })
}

pub(crate) fn revoke(id: i64) -> Request {
    Request::LeaseRevoke(pb::LeaseRevokeRequest { id })
}

/// A request as an operation of a transaction.
pub(crate) fn op(request: Request) -> RequestOp {
    let request = match request {
        Request::Put(put) => request_op::Request::RequestPut(put),
        Request::DeleteRange(delete) => request_op::Request::RequestDeleteRange(delete),
        Request::Range(range) => request_op::Request::RequestRange(range),
        Request::Txn(txn) => request_op::Request::RequestTxn(txn),
        other => panic!("no operation of a transaction: {other:?}"),
    };
    RequestOp { request: Some(request) }
}

pub(crate) fn txn(
    compare: impl Into<Vec<pb::Compare>>,
    success: impl IntoIterator<Item = Request>,
    failure: impl IntoIterator<Item = Request>,
) -> Request {
    Request::Txn(pb::TxnRequest {
        compare: compare.into(),
        success: success.into_iter().map(op).collect(),
        failure: failure.into_iter().map(op).collect(),
    })
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A reply as text: `@` the header's revision, then what there is.
pub(crate) fn show(request: &Request, reply: Reply) -> String {
    let revision = reply.revision;
    let body = reply.body;
    let len = body.encoded_len();
    let body = body.into_bytes().unwrap();
    assert_eq!(body.len() as u64, len);
    let mut out = format!("@{revision}");
    match request {
        Request::Put(_) => show_put(&mut out, &decode::<pb::PutResponse>(&body)),
        Request::DeleteRange(_) => show_delete(&mut out, &decode::<pb::DeleteRangeResponse>(&body)),
        Request::Range(_) => show_range(&mut out, &decode::<pb::RangeResponse>(&body)),
        Request::Txn(_) => show_txn(&mut out, &decode::<pb::TxnResponse>(&body)),
        Request::LeaseGrant(_) => {
            let granted = decode::<pb::LeaseGrantResponse>(&body);
            write!(out, " id {} ttl {}", granted.id, granted.ttl).unwrap();
        }
        Request::Alarm(_) => {
            for alarm in decode::<pb::AlarmResponse>(&body).alarms {
                write!(out, " {}:{}", alarm.member_id, alarm.alarm().as_str_name()).unwrap();
            }
        }
        _ => assert_eq!(body.len(), 0, "only a header"),
    }
    out
}

/// Decodes a reply, having seen that it is encoded as any protobuf encoder would.
pub(crate) fn decode<M: Message + Default + std::fmt::Debug>(body: &Bytes) -> M {
    let message = M::decode(body.clone()).unwrap();
    assert_eq!(message.encode_to_vec(), body[..], "{message:?}");
    message
}

fn show_put(out: &mut String, put: &pb::PutResponse) {
    if let Some(previous) = &put.prev_kv {
        write!(out, " was {}", show_kv(previous)).unwrap();
    }
}

fn show_delete(out: &mut String, delete: &pb::DeleteRangeResponse) {
    write!(out, " deleted {}", delete.deleted).unwrap();
    for previous in &delete.prev_kvs {
        write!(out, " {}", show_kv(previous)).unwrap();
    }
}

fn show_range(out: &mut String, range: &pb::RangeResponse) {
    for kv in &range.kvs {
        write!(out, " {}", show_kv(kv)).unwrap();
    }
    write!(out, " of {}{}", range.count, if range.more { " more" } else { "" }).unwrap();
}

fn show_txn(out: &mut String, txn: &pb::TxnResponse) {
    let revision = |header: &Option<pb::ResponseHeader>| {
        let header = header.expect("operations have a header");
        assert_eq!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
        header.revision
    };
    out.push_str(if txn.succeeded { " then" } else { " else" });
    for response in &txn.responses {
        out.push_str(" [");
        match response.response.as_ref().unwrap() {
            response_op::Response::ResponsePut(put) => {
                write!(out, "@{}", revision(&put.header)).unwrap();
                show_put(out, put);
            }
            response_op::Response::ResponseDeleteRange(delete) => {
                write!(out, "@{}", revision(&delete.header)).unwrap();
                show_delete(out, delete);
            }
            response_op::Response::ResponseRange(range) => {
                write!(out, "@{}", revision(&range.header)).unwrap();
                show_range(out, range);
            }
            response_op::Response::ResponseTxn(txn) => {
                assert_eq!(txn.header, Some(pb::ResponseHeader::default()), "a nested header is there, but empty");
                show_txn(out, txn);
            }
        }
        out.push(']');
    }
}

/// `key=value create/mod/version`, and the lease if there is one.
pub(crate) fn show_kv(kv: &KeyValue) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let numbers = format!("{}/{}/{}", kv.create_revision, kv.mod_revision, kv.version);
    let lease = if kv.lease == 0 { String::new() } else { format!("/lease{}", kv.lease) };
    format!("{}={} {numbers}{lease}", text(&kv.key), text(&kv.value))
}
