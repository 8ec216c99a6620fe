//! Answers that need not go through the log.
//!
//! Whether the state is fresh enough (a linearizable read waits for its read index first) is the caller's business.
//! As in etcd 3.5.30, the alarm CORRUPT does not stop reads.

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseLeasesResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    RangeRequest, TxnRequest,
};
use bytes::{Bytes, BytesMut};
use env::Monotonic;
use mvcc::{MvccError, RangeQuery, RangeResult, View};
use prost::Message;
use thiserror::Error;
use types::{LeaseId, Record, RecordMeta};

use crate::compare::State;
use crate::error::{Failure, RequestError};
use crate::kv;
use crate::members;
use crate::query::{key_range, range_query};
use crate::reply::Reply;
use crate::shared::Shared;
use crate::txn::{Readable, branch, choose_path, put_range, put_succeeded};

/// Only the leader knows how long leases have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a primary lessor")]
pub struct NotPrimary;

impl Shared {
    /// Reads a range. The keys are encoded later, by whoever sends the answer.
    ///
    /// # Errors
    /// A revision that is compacted or not there yet, an empty key, unknown sort options; or the store is broken.
    pub fn range(&self, range: &RangeRequest) -> Result<Reply, Failure> {
        kv::check_key(&range.key)?;
        Ok(Reply::range(self.view().range(&range_query(range)?)?))
    }

    /// How many keys [`Shared::range`] would look at, told only up to `enough`.
    ///
    /// # Errors
    /// Unknown sort options.
    pub fn keys_looked_at(&self, range: &RangeRequest, enough: usize) -> Result<usize, RequestError> {
        Ok(self.view().keys_looked_at(&range_query(range)?, enough))
    }

    /// How many keys [`Shared::read_only_txn`] would look at, at most, told only up to `enough`: both branches and all
    /// compares count.
    ///
    /// # Errors
    /// Unknown sort options.
    pub fn txn_keys_looked_at(&self, txn: &TxnRequest, enough: usize) -> Result<usize, RequestError> {
        let mut keys = 0;
        for compare in &txn.compare {
            let query = RangeQuery::current(key_range(&compare.key, &compare.range_end));
            keys += self.view().keys_looked_at(&query, enough.saturating_sub(keys));
        }
        for op in txn.success.iter().chain(&txn.failure) {
            if let Some(Request::RequestRange(range)) = &op.request {
                keys += self.keys_looked_at(range, enough.saturating_sub(keys))?;
            }
        }
        Ok(keys.min(enough))
    }

    /// Carries out a transaction that holds nothing but ranges. Everything in it is read at one revision.
    ///
    /// # Errors
    /// As [`Shared::range`]; and [`RequestError::EmptyOperation`] if there is something else in it.
    pub fn read_only_txn(&self, txn: &TxnRequest) -> Result<Reply, Failure> {
        self.read_only_txn_with_reads(txn).map(|(reply, _)| reply)
    }

    /// As [`Shared::read_only_txn`]; tells also how many reads that took, compares included.
    ///
    /// # Errors
    /// As there.
    pub fn read_only_txn_with_reads(&self, txn: &TxnRequest) -> Result<(Reply, u64), Failure> {
        let view = self.view();
        loop {
            let revision = view.revision();
            let result = txn_at(&Pinned { view, revision }, txn);
            // A compaction may have overtaken the revision meanwhile; reads of single keys do not notice.
            if view.compacted() <= revision {
                return result;
            }
        }
    }

    /// How a lease stands; an unknown one has a time to live of -1.
    ///
    /// # Errors
    /// On members that do not lead.
    pub fn time_to_live(&self, request: &LeaseTimeToLiveRequest, now: Monotonic) -> Result<Reply, NotPrimary> {
        let revision = self.view().revision();
        let id = LeaseId(request.id);
        let mut response = LeaseTimeToLiveResponse { id: request.id, ttl: -1, ..LeaseTimeToLiveResponse::default() };
        {
            let lessor = self.lessor().lock();
            if !lessor.is_primary() {
                return Err(NotPrimary);
            }
            if let Some(found) = lessor.time_to_live(id, now) {
                response.ttl = found.remaining_ttl.ok_or(NotPrimary)?;
                response.granted_ttl = found.granted_ttl;
                if request.keys {
                    response.keys = lessor.keys(id).into_iter().flatten().map(Bytes::copy_from_slice).collect();
                }
            }
        }
        Ok(encoded(revision, &response))
    }

    /// Every lease, the one that lapses first in front.
    pub fn leases(&self) -> Reply {
        let revision = self.view().revision();
        let leases = self.lessor().lock().leases();
        let leases = leases.into_iter().map(|id| LeaseStatus { id: id.0 }).collect();
        encoded(revision, &LeaseLeasesResponse { header: None, leases })
    }

    /// The members. Answers about the cluster have no revision.
    pub fn list_members(&self) -> Reply {
        Reply::encoded(0, members::list(&self.membership()))
    }

    /// The hash of all key-values up to a revision; 0 is the current one. Reads the whole store: not for a thread that
    /// others wait for.
    ///
    /// # Errors
    /// A revision that is compacted or not there yet; or the store is broken.
    pub fn hash_kv(&self, request: &HashKvRequest) -> Result<Reply, Failure> {
        let revision = self.view().revision();
        let hash = self.view().hash_kv(request.revision)?;
        let response = HashKvResponse {
            header: None,
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        };
        Ok(encoded(revision, &response))
    }
}

fn txn_at(state: &Pinned<'_>, txn: &TxnRequest) -> Result<(Reply, u64), Failure> {
    let path = choose_path(state, txn)?;
    let readable = Readable { compacted: state.view.compacted(), current: state.revision };
    let mut queries = Vec::new();
    for op in branch(txn, path.succeeded) {
        let Some(Request::RequestRange(range)) = &op.request else { return Err(RequestError::EmptyOperation.into()) };
        kv::check_key(&range.key)?;
        queries.push(range_query(range)?);
        readable.check(range)?;
    }
    let reads = path.compares + queries.len() as u64;
    let mut body = BytesMut::new();
    put_succeeded(&mut body, path.succeeded);
    for query in queries {
        put_range(&mut body, state.revision, state.range(query)?)?;
    }
    Ok((Reply::encoded(state.revision, body), reads))
}

/// The store as it is at one revision.
struct Pinned<'v> {
    view: &'v View,
    revision: i64,
}

impl State for Pinned<'_> {
    fn meta(&self, key: &[u8]) -> Result<Option<RecordMeta>, MvccError> {
        Ok(self.record(key)?.map(|record| record.meta()))
    }

    fn record(&self, key: &[u8]) -> Result<Option<Record>, MvccError> {
        self.view.get_at(key, self.revision)
    }

    fn range(&self, mut query: RangeQuery) -> Result<RangeResult, MvccError> {
        if query.revision <= 0 {
            query.revision = self.revision;
        }
        self.view.range(&query)
    }
}

fn encoded(revision: i64, response: &impl Message) -> Reply {
    let mut body = BytesMut::with_capacity(response.encoded_len());
    response.encode(&mut body).expect("a BytesMut grows as needed");
    Reply::encoded(revision, body)
}
