//! Carries out entries, one by one, inside a batch.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, TxnRequest,
};
use backend::Staged;
use bytes::BytesMut;
use env::Monotonic;
use membership::ClusterVersion;
use mvcc::{Batch, Change, Changes, Current, Work};
use prost::Message;
use types::{EntryKind, LeaseId, LogEntry};
use watch::{Event, RevisionEvents};

use crate::alarms::Alarm;
use crate::cost::txn_cost;
use crate::counts::Operation;
use crate::digest::{Folding, Mark};
use crate::error::{ApplyError, Failure, MachineError};
use crate::kv;
use crate::leases;
use crate::machine::{Applied, State};
use crate::members::{self, VoterChange};
use crate::query::range_query;
use crate::reply::Reply;
use crate::txn::{self, Readable};

/// From this version on, checkpoints of leases are stored by every member.
const CHECKPOINTS_STORED_SINCE: ClusterVersion = ClusterVersion { major: 3, minor: 6 };

/// A batch being applied.
pub(crate) struct Execution<'a, 'b> {
    batch: &'a mut Batch<'b>,
    state: &'a mut State,
    staged: &'a mut Staged,
    now: Monotonic,
    out: &'a mut Applied,
    /// Of the entry at hand.
    folding: Folding,
    pub(crate) alarms_changed: bool,
    pub(crate) membership_changed: bool,
}

impl<'a, 'b> Execution<'a, 'b> {
    pub(crate) fn new(
        batch: &'a mut Batch<'b>,
        state: &'a mut State,
        staged: &'a mut Staged,
        now: Monotonic,
        out: &'a mut Applied,
    ) -> Execution<'a, 'b> {
        Execution {
            batch,
            state,
            staged,
            now,
            out,
            folding: Folding::Stored,
            alarms_changed: false,
            membership_changed: false,
        }
    }

    /// What is staged before an entry; see [`Digest::fold`](crate::digest::Digest::fold).
    pub(crate) fn mark(&self) -> Mark {
        Mark::of(self.staged)
    }

    pub(crate) fn staged(&self) -> &Staged {
        self.staged
    }

    /// Carries out one entry and notes what came of it. Returns what of it belongs into the digest.
    pub(crate) fn entry(&mut self, entry: &LogEntry) -> Result<Folding, MachineError> {
        self.folding = Folding::Stored;
        let (id, result) = match entry.kind {
            // A new term begins.
            EntryKind::Normal if entry.data.is_empty() => return Ok(self.folding),
            EntryKind::Normal => self.normal(entry)?,
            EntryKind::ConfChange => self.conf_change(entry),
            EntryKind::ConfChangeV2 => {
                self.out.voter_changes.push(VoterChange::Unchanged);
                (0, Err(ApplyError::Unsupported("joint consensus")))
            }
        };
        self.out.results.push((id, entry.index, result));
        Ok(self.folding)
    }

    fn normal(&mut self, entry: &LogEntry) -> Result<(u64, Result<Reply, ApplyError>), MachineError> {
        let read = match InternalRaftRequest::decode(entry.data.clone()) {
            Ok(read) => read,
            Err(error) => return Ok((0, Err(ApplyError::Undecodable(error.to_string())))),
        };
        let id = if read.id != 0 { read.id } else { read.header.map_or(0, |header| header.id) };
        let Some(request) = read.request else {
            return Ok((id, Err(ApplyError::Undecodable("unknown kind of request".to_owned()))));
        };
        let operation = Operation::of(&request);
        match self.request(request) {
            Ok(reply) => {
                self.out.counts.note(operation, true);
                Ok((id, Ok(reply)))
            }
            Err(Failure::Refused(error)) => {
                // etcd takes what is compacted for a success.
                self.out.counts.note(operation, error == ApplyError::Compacted);
                Ok((id, Err(error)))
            }
            Err(Failure::Broken(error)) => Err(error),
        }
    }

    fn request(&mut self, request: Request) -> Result<Reply, Failure> {
        if !self.state.alarms.is_empty() {
            self.check_alarms(&request)?;
        }
        match request {
            Request::Put(put) => self.put(&put),
            Request::Txn(txn) => self.txn(&txn),
            Request::DeleteRange(delete) => self.delete_range(&delete),
            Request::Range(range) => self.range(&range),
            Request::Compaction(compaction) => self.compact(compaction),
            Request::LeaseGrant(grant) => self.lease_grant(&grant),
            Request::LeaseRevoke(revoke) => self.lease_revoke(revoke),
            Request::LeaseCheckpoint(checkpoint) => {
                let by_version = self.state.membership.version() >= Some(CHECKPOINTS_STORED_SINCE);
                let store = by_version || self.state.options.persist_checkpoints;
                self.folding = Folding::Asked;
                leases::checkpoint(self.state.shared.lessor(), &checkpoint, store, self.staged);
                Ok(self.unchanged())
            }
            Request::Alarm(alarm) => {
                let body = self.state.alarms.apply(&alarm, self.staged)?;
                self.alarms_changed = true;
                Ok(Reply::encoded(self.batch.revision(), body))
            }
            Request::ClusterVersionSet(request) => {
                self.membership_changed = true;
                let before = self.state.membership.version();
                members::set_version(&mut self.state.membership, request, self.staged)?;
                self.out.versions_before.extend(before);
                Ok(self.unchanged())
            }
            Request::ClusterMemberAttrSet(request) => {
                self.membership_changed = true;
                members::set_attributes(&mut self.state.membership, request, self.staged)?;
                Ok(self.unchanged())
            }
            Request::DowngradeInfoSet(request) => {
                self.membership_changed = true;
                members::set_downgrade(&mut self.state.membership, request, self.staged);
                Ok(self.unchanged())
            }
            unsupported => Err(ApplyError::Unsupported(name(&unsupported)).into()),
        }
    }

    fn check_alarms(&self, request: &Request) -> Result<(), ApplyError> {
        let touches_data = matches!(
            request,
            Request::Put(_)
                | Request::Txn(_)
                | Request::DeleteRange(_)
                | Request::Range(_)
                | Request::Compaction(_)
                | Request::LeaseGrant(_)
                | Request::LeaseRevoke(_)
        );
        if touches_data && self.state.alarms.has(Alarm::Corrupt) {
            return Err(ApplyError::Corrupt);
        }
        let adds = match request {
            Request::Put(_) | Request::LeaseGrant(_) => true,
            Request::Txn(txn) => txn_cost(txn) > 0,
            _ => false,
        };
        if adds && self.state.alarms.has(Alarm::NoSpace) { Err(ApplyError::NoSpace) } else { Ok(()) }
    }

    fn put(&mut self, put: &PutRequest) -> Result<Reply, Failure> {
        kv::check_key(&put.key)?;
        let lessor = self.state.shared.lessor();
        kv::check_lease(lessor, put)?;
        let mut txn = self.batch.txn();
        kv::check_kept(&txn, put)?;
        let answer = kv::put(&mut txn, lessor, put);
        let changes = txn.finish(self.staged);
        let answer = answer?;
        let revision = self.publish(changes)?;
        if answer.len() == 0 {
            return Ok(Reply::empty(revision));
        }
        let mut body = BytesMut::with_capacity(answer.len() as usize);
        answer.encode(&mut body);
        Ok(Reply::encoded(revision, body))
    }

    fn delete_range(&mut self, delete: &DeleteRangeRequest) -> Result<Reply, Failure> {
        kv::check_key(&delete.key)?;
        let mut txn = self.batch.txn();
        let answer = kv::delete_range(&mut txn, self.state.shared.lessor(), delete);
        let changes = txn.finish(self.staged);
        let answer = answer?;
        let revision = self.publish(changes)?;
        let mut body = BytesMut::with_capacity(answer.len() as usize);
        answer.encode(&mut body);
        Ok(Reply::encoded(revision, body))
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<Reply, Failure> {
        let readable = Readable { compacted: self.batch.compacted(), current: self.batch.revision() };
        let lessor = self.state.shared.lessor();
        let mut store = self.batch.txn();
        let path = txn::choose_path(&store, request)?;
        self.out.counts.add(Work { ranges: path.compares, ..Work::default() });
        txn::check(&store, lessor, readable, request, &path)?;
        let body = txn::run(&mut store, lessor, readable.current, request, &path);
        let changes = store.finish(self.staged);
        let body = body?;
        let revision = self.publish(changes)?;
        Ok(Reply::encoded(revision, body))
    }

    /// Never proposed by this server, but etcd's log may hold it.
    fn range(&mut self, range: &RangeRequest) -> Result<Reply, Failure> {
        kv::check_key(&range.key)?;
        self.out.counts.add(Work { ranges: 1, ..Work::default() });
        let mut query = range_query(range)?;
        query.revision = query.revision.max(0);
        Ok(Reply::range(self.batch.txn().range(&query)?))
    }

    fn compact(&mut self, compaction: CompactionRequest) -> Result<Reply, Failure> {
        self.batch.compact(self.staged, compaction.revision)?;
        self.out.compacted = true;
        Ok(self.unchanged())
    }

    fn lease_grant(&mut self, grant: &LeaseGrantRequest) -> Result<Reply, Failure> {
        let body = leases::grant(self.state.shared.lessor(), grant, self.now, self.staged)?;
        self.folding = Folding::Asked;
        Ok(Reply::encoded(self.batch.revision(), body))
    }

    fn lease_revoke(&mut self, revoke: LeaseRevokeRequest) -> Result<Reply, Failure> {
        let lessor = self.state.shared.lessor();
        let changes = leases::revoke(lessor, LeaseId(revoke.id), self.batch.txn(), self.staged)?;
        Ok(Reply::empty(self.publish(changes)?))
    }

    fn conf_change(&mut self, entry: &LogEntry) -> (u64, Result<Reply, ApplyError>) {
        let (id, change) = members::decode_conf_change(&entry.data).unwrap_or_else(|error| (0, Err(error)));
        let learners_max = self.state.options.learners_max;
        let made =
            change.and_then(|change| members::change(&mut self.state.membership, learners_max, &change, self.staged));
        let (result, voters) = match made {
            Ok((body, voters)) => (Ok(Reply::encoded(0, body)), voters),
            Err(error) => (Err(error), VoterChange::Unchanged),
        };
        self.membership_changed |= result.is_ok();
        self.out.voter_changes.push(voters);
        (id, result)
    }

    fn unchanged(&self) -> Reply {
        Reply::empty(self.batch.revision())
    }

    /// Turns changes into events; returns the store's revision.
    fn publish(&mut self, changes: Changes) -> Result<i64, Failure> {
        let Changes { revision, changes, work } = changes;
        self.out.counts.add(work);
        if !changes.is_empty() {
            let batch = &*self.batch;
            let event = |change: Change| {
                let load = |current: Current| batch.load(&current);
                let previous = change.previous.map(load).transpose()?;
                Ok(Event { row: change.row, record: change.record, previous })
            };
            let events = changes.into_iter().map(event).collect::<Result<_, Failure>>()?;
            self.out.events.push(RevisionEvents { revision, events });
        }
        Ok(revision)
    }
}

/// What a request that is not supported is called.
fn name(request: &Request) -> &'static str {
    match request {
        Request::AuthEnable(_) => "auth enable",
        Request::AuthDisable(_) => "auth disable",
        Request::AuthStatus(_) => "auth status",
        Request::Authenticate(_) => "authenticate",
        Request::AuthUserAdd(_) => "user add",
        Request::AuthUserDelete(_) => "user delete",
        Request::AuthUserGet(_) => "user get",
        Request::AuthUserChangePassword(_) => "user change password",
        Request::AuthUserGrantRole(_) => "user grant role",
        Request::AuthUserRevokeRole(_) => "user revoke role",
        Request::AuthUserList(_) => "user list",
        Request::AuthRoleList(_) => "role list",
        Request::AuthRoleAdd(_) => "role add",
        Request::AuthRoleDelete(_) => "role delete",
        Request::AuthRoleGet(_) => "role get",
        Request::AuthRoleGrantPermission(_) => "role grant permission",
        Request::AuthRoleRevokePermission(_) => "role revoke permission",
        Request::DowngradeVersionTest(_) => "downgrade version test",
        _ => "request",
    }
}
