//! Transactions.
//!
//! First every compare is evaluated on the state before, nested ones included, which fixes the path through the
//! branches. Then everything on that path that could be refused is checked. Only then the operations run, in order,
//! each seeing what the earlier ones did. So a transaction happens wholly or not at all.
//!
//! Source: etcd-io/etcd `server/etcdserver/apply.go` (`compareToPath`, `checkRequests`, `applyTxn`).

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};
use bytes::BytesMut;
use lease::Lessor;
use mvcc::{MvccError, RangeResult, Txn};
use parking_lot::Mutex;
use types::KeyRange;

use crate::compare::{State, holds};
use crate::error::{ApplyError, Failure, RequestError};
use crate::key_spans::KeySpans;
use crate::kv;
use crate::query::{check_sort, key_range, range_query};
use crate::wire;

const SUCCEEDED: u8 = wire::number_tag(2);
const RESPONSES: u8 = wire::bytes_tag(3);
const HEADER: u8 = wire::bytes_tag(1);
const RESPONSE_RANGE: u8 = wire::bytes_tag(1);
const RESPONSE_PUT: u8 = wire::bytes_tag(2);
const RESPONSE_DELETE_RANGE: u8 = wire::bytes_tag(3);
const RESPONSE_TXN: u8 = wire::bytes_tag(4);

/// Which branch runs: of the transaction itself, and of the nested ones on its path, in the order they are met.
#[derive(Debug, Default)]
pub(crate) struct Path {
    pub(crate) succeeded: bool,
    nested: Vec<bool>,
    /// How many compares were evaluated.
    pub(crate) compares: u64,
}

/// Evaluates every compare on the way.
pub(crate) fn choose_path(state: &impl State, txn: &TxnRequest) -> Result<Path, MvccError> {
    let mut path = Path::default();
    path.succeeded = choose(state, txn, &mut path)?;
    Ok(path)
}

fn choose(state: &impl State, txn: &TxnRequest, path: &mut Path) -> Result<bool, MvccError> {
    let mut succeeded = true;
    for compare in &txn.compare {
        path.compares += 1;
        if !holds(state, compare)? {
            succeeded = false;
            break;
        }
    }
    for op in branch(txn, succeeded) {
        if let Some(Request::RequestTxn(inner)) = &op.request {
            let at = path.nested.len();
            path.nested.push(false);
            path.nested[at] = choose(state, inner, path)?;
        }
    }
    Ok(succeeded)
}

pub(crate) fn branch(txn: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// The revisions a range on the path may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readable {
    pub(crate) compacted: i64,
    pub(crate) current: i64,
}

impl Readable {
    /// 0 means the state as the transaction has it. A negative revision is compacted, once anything was.
    pub(crate) fn check(&self, range: &RangeRequest) -> Result<(), ApplyError> {
        if range.revision > self.current {
            return Err(ApplyError::FutureRevision);
        }
        if range.revision != 0 && range.revision < self.compacted {
            return Err(ApplyError::Compacted);
        }
        Ok(())
    }
}

/// Checks everything on the path that could be refused: puts first, then ranges, as etcd does.
pub(crate) fn check(
    state: &impl State,
    lessor: &Mutex<Lessor>,
    readable: Readable,
    txn: &TxnRequest,
    path: &Path,
) -> Result<(), Failure> {
    let mut keeps_something = false;
    visit(txn, path, &mut |op| {
        match op {
            None => return Err(RequestError::EmptyOperation.into()),
            Some(Request::RequestRange(range)) => {
                kv::check_key(&range.key)?;
                check_sort(range)?;
            }
            Some(Request::RequestPut(put)) => {
                kv::check_key(&put.key)?;
                kv::check_kept(state, put)?;
                kv::check_lease(lessor, put)?;
                keeps_something |= kv::keeps_something(put);
            }
            Some(Request::RequestDeleteRange(delete)) => kv::check_key(&delete.key)?,
            Some(Request::RequestTxn(_)) => {}
        }
        Ok(())
    })?;
    if keeps_something {
        check_kept_until_put(txn, path)?;
    }
    visit(txn, path, &mut |op| match op {
        Some(Request::RequestRange(range)) => Ok(readable.check(range)?),
        _ => Ok(()),
    })
}

/// Refuses a put that is to keep something of a key which an earlier operation deletes. etcd's checks let some of
/// them pass (a delete "to the end", say) and then it panics.
fn check_kept_until_put(txn: &TxnRequest, path: &Path) -> Result<(), Failure> {
    let mut deletes: Vec<KeyRange> = Vec::new();
    visit(txn, path, &mut |op| {
        if let Some(Request::RequestDeleteRange(delete)) = op {
            deletes.push(key_range(&delete.key, &delete.range_end));
        }
        Ok(())
    })?;
    let (mut deleted, mut deletes) = (KeySpans::default(), deletes.iter());
    visit(txn, path, &mut |op| {
        match op {
            Some(Request::RequestDeleteRange(_)) => {
                deleted.insert(deletes.next().expect("the path has not changed"));
            }
            Some(Request::RequestPut(put)) if kv::keeps_something(put) && deleted.contains(&put.key) => {
                return Err(ApplyError::KeyNotFound.into());
            }
            _ => {}
        }
        Ok(())
    })
}

/// Calls `visit_op` with every operation on the path, in the order they run.
fn visit<'t>(
    txn: &'t TxnRequest,
    path: &Path,
    visit_op: &mut dyn FnMut(Option<&'t Request>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    fn walk<'t>(
        ops: &'t [RequestOp],
        nested: &mut std::slice::Iter<'_, bool>,
        visit_op: &mut dyn FnMut(Option<&'t Request>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for op in ops {
            visit_op(op.request.as_ref())?;
            if let Some(Request::RequestTxn(inner)) = &op.request {
                walk(branch(inner, next(nested)), nested, visit_op)?;
            }
        }
        Ok(())
    }
    walk(branch(txn, path.succeeded), &mut path.nested.iter(), visit_op)
}

fn next(nested: &mut std::slice::Iter<'_, bool>) -> bool {
    *nested.next().expect("the path has a choice for every nested transaction on it")
}

/// Runs the operations of a checked path. Returns the response without its header.
pub(crate) fn run(
    store: &mut Txn<'_>,
    lessor: &Mutex<Lessor>,
    base: i64,
    txn: &TxnRequest,
    path: &Path,
) -> Result<BytesMut, Failure> {
    let mut out = BytesMut::new();
    put_succeeded(&mut out, path.succeeded);
    let mut run = Run { store, lessor, base, changed: false };
    run.ops(branch(txn, path.succeeded), &mut path.nested.iter(), &mut out)?;
    Ok(out)
}

struct Run<'a, 's> {
    store: &'a mut Txn<'s>,
    lessor: &'a Mutex<Lessor>,
    /// The revision before the transaction.
    base: i64,
    changed: bool,
}

impl Run<'_, '_> {
    fn ops(
        &mut self,
        ops: &[RequestOp],
        nested: &mut std::slice::Iter<'_, bool>,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        for op in ops {
            match op.request.as_ref().ok_or(RequestError::EmptyOperation)? {
                Request::RequestRange(range) => {
                    let mut query = range_query(range)?;
                    query.revision = query.revision.max(0);
                    self.store.count_range();
                    let result = self.store.range(&query)?;
                    put_range(out, self.revision(), result)?;
                }
                Request::RequestPut(put) => {
                    let answer = kv::put(self.store, self.lessor, put)?;
                    self.changed = true;
                    put_op(out, RESPONSE_PUT, self.revision(), answer.len());
                    answer.encode(out);
                }
                Request::RequestDeleteRange(delete) => {
                    let answer = kv::delete_range(self.store, self.lessor, delete)?;
                    self.changed |= answer.deleted > 0;
                    put_op(out, RESPONSE_DELETE_RANGE, self.revision(), answer.len());
                    answer.encode(out);
                }
                Request::RequestTxn(inner) => {
                    let succeeded = next(nested);
                    let mut response = BytesMut::new();
                    // The header of a nested answer is there, but empty.
                    wire::put_bytes(&mut response, HEADER, b"");
                    put_succeeded(&mut response, succeeded);
                    self.ops(branch(inner, succeeded), nested, &mut response)?;
                    let len = response.len() as u64;
                    wire::put_len(out, RESPONSES, wire::delimited_len(len));
                    wire::put_bytes(out, RESPONSE_TXN, &response);
                }
            }
        }
        Ok(())
    }

    /// The revision that the header of an inner answer shows at this point.
    fn revision(&self) -> i64 {
        self.base + i64::from(self.changed)
    }
}

/// Appends whether the compares held, as the response says it.
pub(crate) fn put_succeeded(out: &mut BytesMut, succeeded: bool) {
    wire::put_number(out, SUCCEEDED, i64::from(succeeded));
}

/// Appends the answer to a range inside a transaction.
pub(crate) fn put_range(out: &mut BytesMut, revision: i64, result: RangeResult) -> Result<(), Failure> {
    put_op(out, RESPONSE_RANGE, revision, kv::range_len(&result));
    kv::encode_range(out, result)
}

/// Appends the head of one operation's answer and its header; `len` bytes must follow.
fn put_op(out: &mut BytesMut, tag: u8, revision: i64, len: u64) {
    let len = wire::inner_header_len(revision) + len;
    wire::put_len(out, RESPONSES, wire::delimited_len(len));
    wire::put_len(out, tag, len);
    wire::put_inner_header(out, revision);
}
