//! What is wrong with a request before any state is looked at: the front end asks before it proposes.
//!
//! Errors come in etcd's order. Source: etcd-io/etcd `server/etcdserver/api/v3rpc/key.go`.

use std::collections::BTreeSet;

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::error::RequestError;
use crate::key_spans::KeySpans;
use crate::query::check_sort;

/// How many transactions may lie inside one another, the outermost included. A log entry is decoded with a bound on
/// its depth (100 messages, two for each level): what is accepted here must be readable there.
pub const TXN_DEPTH_MAX: usize = 40;

/// # Errors
/// An empty key, or unknown sort options (as etcd 3.6 has it; 3.5 crashes on some).
pub fn check_range(range: &RangeRequest) -> Result<(), RequestError> {
    check_key(&range.key)?;
    check_sort(range)
}

/// # Errors
/// An empty key, or a value or lease beside the flag that says to keep the old one.
pub fn check_put(put: &PutRequest) -> Result<(), RequestError> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// # Errors
/// An empty key.
pub fn check_delete_range(delete: &DeleteRangeRequest) -> Result<(), RequestError> {
    check_key(&delete.key)
}

/// Checks a transaction and everything nested in it.
///
/// The longest of a transaction's three lists counts against `ops_max`; a nested one has what its parents left.
///
/// # Errors
/// The first thing wrong in etcd's order: counts and operations from the outside in, then keys written twice.
pub fn check_txn(txn: &TxnRequest, ops_max: usize) -> Result<(), RequestError> {
    check_ops(txn, ops_max, 1)?;
    check_written_once(&txn.success)?;
    check_written_once(&txn.failure)
}

fn check_key(key: &[u8]) -> Result<(), RequestError> {
    if key.is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

fn check_ops(txn: &TxnRequest, ops_max: usize, depth: usize) -> Result<(), RequestError> {
    let count = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left = ops_max.checked_sub(count).ok_or(RequestError::TooManyOps)?;
    if depth > TXN_DEPTH_MAX {
        return Err(RequestError::TxnTooDeep);
    }
    for compare in &txn.compare {
        check_key(&compare.key)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op.request.as_ref().ok_or(RequestError::EmptyOperation)? {
            Request::RequestRange(range) => check_range(range)?,
            Request::RequestPut(put) => check_put(put)?,
            Request::RequestDeleteRange(delete) => check_delete_range(delete)?,
            Request::RequestTxn(nested) => check_ops(nested, left, depth + 1)?,
        }
    }
    Ok(())
}

/// Refuses a branch whose operations put a key twice, or put a key and delete it.
fn check_written_once(branch: &[RequestOp]) -> Result<(), RequestError> {
    let is_txn = |op: &RequestOp| matches!(op.request, Some(Request::RequestTxn(_)));
    if branch.len() > 1 || branch.iter().any(is_txn) {
        Written::by(branch)?;
    }
    Ok(())
}

/// What a branch writes, on any path through the transactions nested in it.
#[derive(Default)]
struct Written<'r> {
    puts: BTreeSet<&'r [u8]>,
    deletes: KeySpans<'r>,
}

impl<'r> Written<'r> {
    /// Gathers the writes of a branch.
    ///
    /// etcd looks at things in an order that lets some overlaps pass, and clients may rely on what passes: a nested
    /// put followed by a delete in a later nested transaction is let through, the other way round is not; and a
    /// delete "to the end" (range end `\0`) or of an empty range never overlaps.
    ///
    /// Source: etcd-io/etcd `checkIntervals`; each case tried on etcd 3.5.30.
    fn by(branch: &'r [RequestOp]) -> Result<Written<'r>, RequestError> {
        let mut written = Written::default();
        for op in branch {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                written.add_delete(delete);
            }
        }
        for op in branch {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                let (success, failure) = (Written::by(&nested.success)?, Written::by(&nested.failure)?);
                // Only one of the two will run, so they may overlap with each other.
                written.check(&success.puts)?;
                written.check(&failure.puts)?;
                written.absorb(success);
                written.absorb(failure);
            }
        }
        for op in branch {
            if let Some(Request::RequestPut(put)) = &op.request
                && (written.deletes.contains(&put.key) || !written.puts.insert(&put.key))
            {
                return Err(RequestError::DuplicateKey);
            }
        }
        Ok(written)
    }

    fn add_delete(&mut self, delete: &'r DeleteRangeRequest) {
        match &delete.range_end[..] {
            b"" => self.deletes.insert_key(&delete.key),
            // No key sorts before `\0`, so "to the end" is among the ranges that hold nothing.
            end => self.deletes.insert_range(&delete.key, Some(end)),
        }
    }

    fn check(&self, puts: &BTreeSet<&'r [u8]>) -> Result<(), RequestError> {
        let (few, many) = if puts.len() < self.puts.len() { (puts, &self.puts) } else { (&self.puts, puts) };
        if few.iter().any(|key| many.contains(key)) || self.deletes.contains_any(puts) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }

    fn absorb(&mut self, mut other: Written<'r>) {
        if other.puts.len() > self.puts.len() {
            std::mem::swap(&mut self.puts, &mut other.puts);
        }
        // One by one: `append` would cost as much as the larger set.
        self.puts.extend(other.puts);
        self.deletes.absorb(other.deletes);
    }
}

#[cfg(test)]
mod tests;
