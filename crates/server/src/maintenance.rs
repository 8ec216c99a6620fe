//! What operators ask: members, status, alarms, hashes, space.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{AlarmRequest, DefragmentResponse, DowngradeInfo, HashKvRequest, HashResponse, StatusResponse};
use backend::Table;
use consensus::{LogProgress, Status};
use machine::{Body, Reply};
use prost::Message;
use types::{Index, MemberId};

use crate::error::Error;
use crate::handle::Handle;
use crate::large_reads::blocking;

/// How consensus stands at one moment.
#[derive(Clone, Debug)]
pub struct RaftStatus {
    pub id: MemberId,
    pub status: Status,
    /// `MemberId(0)` if for nobody.
    pub vote: MemberId,
    pub applied: Index,
    /// Empty where this member does not lead.
    pub progress: Vec<LogProgress>,
}

impl Handle {
    /// The members of the cluster.
    ///
    /// # Errors
    /// [`Error`], if `linearizable` is asked for.
    pub async fn member_list(&self, linearizable: bool) -> Result<Reply, Error> {
        if linearizable {
            self.linearizable().await?;
        }
        // Cluster answers carry no revision.
        Ok(self.state().list_members())
    }

    /// How this member stands.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn status(&self) -> Result<Reply, Error> {
        self.check_running()?;
        let (member, state) = (self.inner(), self.state());
        let size = member.database_size();
        let leader = member.board.leader();
        let mut errors = Vec::new();
        if leader.is_none() {
            errors.push("etcdserver: no leader".to_owned());
        }
        for (member, alarm) in state.alarms().iter() {
            let name = alarm.name();
            // etcd prints its message here, which leaves a 0 out.
            let member = if member.0 == 0 { String::new() } else { format!("memberID:{} ", member.0) };
            errors.push(format!("{member}alarm:{name} "));
        }
        // In this order: what is applied is committed.
        let applied = member.board.applied();
        let commit = member.board.commit();
        let status = StatusResponse {
            header: None,
            version: member.identity.version.to_owned(),
            db_size: size.taken_bytes as i64,
            leader: leader.map_or(0, |leader| leader.0),
            raft_index: commit.0,
            raft_term: member.board.term().0,
            raft_applied_index: applied.0,
            errors,
            db_size_in_use: size.in_use_bytes as i64,
            is_learner: self.is_learner(),
            storage_version: String::new(),
            db_size_quota: member.settings.quota_bytes.map_or(0, |quota| quota as i64),
            downgrade_info: Some(DowngradeInfo::default()),
        };
        Ok(reply(self.view().revision(), &status))
    }

    /// How consensus stands, as whoever looks for a fault wants to see it. Waits for whoever steps consensus right now.
    pub fn raft_status(&self) -> RaftStatus {
        let (status, vote, progress) = self.inner().consensus.standing();
        RaftStatus { id: self.identity().member_id, status, vote, applied: self.inner().board.applied(), progress }
    }

    /// Lists, raises or clears alarms.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn alarm(&self, request: AlarmRequest) -> Result<Reply, Error> {
        self.propose(Request::Alarm(request)).await
    }

    /// A hash over everything stored on this member; for tests, it differs between members.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn hash(&self) -> Result<Reply, Error> {
        self.check_running()?;
        let member = self.inner();
        let backend = member.backend.clone();
        let revision = self.view().revision();
        let begun_at = self.now();
        let hash = member.large_reads.run(move || hash_everything(&backend)).await??;
        member.board.figures.hash.observe(self.now().since(begun_at));
        Ok(reply(revision, &HashResponse { header: None, hash }))
    }

    /// A hash over the keys up to a revision, equal on all members.
    ///
    /// # Errors
    /// [`Error`]: compacted or future revision.
    pub async fn hash_kv(&self, request: HashKvRequest) -> Result<Reply, Error> {
        self.check_running()?;
        let (state, begun_at) = (self.state().clone(), self.now());
        let reply = self.inner().large_reads.run(move || state.hash_kv(&request)).await??;
        self.inner().board.figures.hash_kv.observe(self.now().since(begun_at));
        Ok(reply)
    }

    /// Gives free space of the backend's file back to the file system.
    ///
    /// # Errors
    /// [`Error`]; the file is as it was then.
    pub async fn defragment(&self) -> Result<Reply, Error> {
        self.check_running()?;
        let (backend, board, clock) =
            (self.inner().backend.clone(), self.inner().board.clone(), self.inner().clock.clone());
        // It goes on if the client leaves.
        let defragment = move || {
            let begun_at = clock.now();
            board.figures.defragmenting.increment();
            let done = backend.defragment();
            board.figures.defragmenting.subtract(1);
            board.figures.defragment.observe(clock.now().since(begun_at));
            done
        };
        blocking(defragment).await??;
        Ok(reply(0, &DefragmentResponse::default()))
    }
}

fn reply(revision: i64, message: &impl Message) -> Reply {
    Reply { revision, body: Body::Encoded(message.encode_to_vec().into()) }
}

/// Every table by name, keys and values; without what differs between members that hold the same data.
fn hash_everything(backend: &backend::Backend) -> Result<u32, backend::BackendError> {
    use std::ops::ControlFlow;
    use types::Revision;
    let mut hash = crc32c::crc32c(b"key");
    let (from, to) = (Revision::default(), Revision::first(i64::MAX));
    backend.scan(from, to, &mut |row, record| {
        hash = crc32c::crc32c_append(hash, row.encode().as_ref());
        hash = crc32c::crc32c_append(hash, record);
        ControlFlow::Continue(())
    })?;
    for table in [Table::Alarm, Table::Cluster, Table::Lease, Table::Members, Table::MembersRemoved] {
        for (key, value) in backend.values(table)? {
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, &value);
        }
    }
    Ok(hash)
}
