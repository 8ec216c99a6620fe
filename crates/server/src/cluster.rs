//! Who belongs to the cluster, and who leads it, as operators ask for it.

use std::time::Duration;

use api::etcdserverpb::{
    MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderResponse,
};
use config::Url;
use machine::{ApplyError, Body, Reply};
use membership::{Change, HEALTH_INTERVAL_SECONDS, Link, Member, Unwise, is_in_sync, member_id};
use prost::Message;
use types::MemberId;

use crate::error::Error;
use crate::handle::Handle;
use crate::leader_calls::Found;
use crate::stepper::{Answer, Proposal, ToConsensus};

impl Handle {
    /// Adds a member, which then has to be started.
    ///
    /// # Errors
    /// [`Error::BadMemberUrls`], [`Error::UnhealthyCluster`], [`Error::NotEnoughStarted`], [`Error::Apply`] and what keeps
    /// any proposal from being applied.
    pub async fn member_add(&self, request: MemberAddRequest) -> Result<Reply, Error> {
        let peer_urls = checked_urls(&request.peer_ur_ls)?;
        let added_at = self.inner().clock.wall().as_secs();
        let id = member_id(&peer_urls, "", Some(added_at));
        let member = Member { id, peer_urls, is_learner: request.is_learner, ..Member::default() };
        let change = Change::Add(member);
        self.admit_change(&change)?;
        self.change_members(change).await
    }

    /// Removes a member for good: its id never comes back, and it stops by itself.
    ///
    /// # Errors
    /// As [`Handle::member_add`].
    pub async fn member_remove(&self, request: MemberRemoveRequest) -> Result<Reply, Error> {
        let change = Change::Remove(MemberId(request.id));
        self.admit_change(&change)?;
        self.change_members(change).await
    }

    /// Gives a member other peer URLs.
    ///
    /// # Errors
    /// As [`Handle::member_add`].
    pub async fn member_update(&self, request: MemberUpdateRequest) -> Result<Reply, Error> {
        let peer_urls = checked_urls(&request.peer_ur_ls)?;
        self.change_members(Change::Update { id: MemberId(request.id), peer_urls }).await
    }

    /// Makes a learner that has caught up a voter. Any member may be asked; the leader knows how far the learner is.
    ///
    /// # Errors
    /// As [`Handle::member_add`], and [`Error::LearnerNotReady`].
    pub async fn member_promote(&self, request: MemberPromoteRequest) -> Result<Reply, Error> {
        let id = MemberId(request.id);
        let promoted = self
            .at_leader(
                async || self.promote_here(id).await,
                async |url, timeout| peer::client::promote::<Member>(&url, id.0, None, timeout).await,
            )
            .await?;
        match promoted {
            Found::Here(reply) => Ok(reply),
            // What the leader has done arrives here in time.
            Found::There(_) | Found::Nowhere => {
                self.linearizable().await?;
                Ok(self.state().list_members())
            }
        }
    }

    /// The leader's part of a promotion.
    ///
    /// # Errors
    /// [`Error::NotLeader`], and as [`Handle::member_promote`].
    pub(crate) async fn promote_here(&self, id: MemberId) -> Result<Reply, Error> {
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        let promoted = self.promote_uncounted(id).await;
        let figures = &self.inner().board.figures;
        match &promoted {
            Ok(_) => figures.promoted.increment(),
            // The reasons are etcd's words.
            Err(Error::LearnerNotReady) => figures.not_promoted(api::errors::LEARNER_NOT_READY.text.to_owned()),
            Err(error) => figures.not_promoted(error.to_string()),
        }
        promoted
    }

    async fn promote_uncounted(&self, id: MemberId) -> Result<Reply, Error> {
        let change = Change::Promote(id);
        let membership = self.state().membership();
        // What cannot be changed at all is said first.
        membership.validate(&change, self.inner().settings.learners_max).map_err(ApplyError::from)?;
        let progress = self.inner().consensus.progress();
        let learner = progress.iter().find(|progress| progress.member == id).map(|progress| progress.matched);
        if !learner.is_some_and(|learner| is_in_sync(learner, self.inner().consensus.last_index())) {
            return Err(Error::LearnerNotReady);
        }
        self.admit_change(&change)?;
        self.change_members(change).await
    }

    /// Hands leadership to another voter, and returns when it leads.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::BadLeaderTransferee`], [`Error::TransferTimeout`].
    pub async fn move_leader(&self, target: MemberId) -> Result<Reply, Error> {
        self.check_running()?;
        let done = || Reply { revision: 0, body: Body::Encoded(MoveLeaderResponse::default().encode_to_vec().into()) };
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        if target == self.identity().member_id {
            return Ok(done());
        }
        if self.state().membership().member(target).is_none_or(|member| member.is_learner) {
            return Err(Error::BadLeaderTransferee);
        }
        self.send(ToConsensus::TransferLeader(target));
        let mut status = self.status_changes();
        let moved = status.wait_for(|status| status.leader == target);
        match tokio::time::timeout(self.limits().election_timeout, moved).await {
            Ok(Ok(_)) => Ok(done()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::TransferTimeout),
        }
    }

    /// Whether this member is the leader, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.inner().board.is_leader()
    }

    /// Asks whether a change is wise, if it is to be asked.
    fn admit_change(&self, change: &Change) -> Result<(), Error> {
        let member = self.inner();
        if !member.settings.strict_reconfig_check {
            return Ok(());
        }
        let link = |id| self.link(id);
        match self.state().membership().check_wise(change, link) {
            Ok(()) => Ok(()),
            Err(Unwise::NotEnoughStarted) => Err(Error::NotEnoughStarted),
            Err(Unwise::Unhealthy) => Err(Error::UnhealthyCluster),
        }
    }

    /// How long this member has been in touch with another.
    fn link(&self, id: MemberId) -> Link {
        if id == self.identity().member_id {
            return Link::Steady;
        }
        match self.inner().outbox.active_since(id).map(|since| self.now().since(since)) {
            None => Link::Down,
            Some(age) if age < Duration::from_secs(HEALTH_INTERVAL_SECONDS) => Link::Fresh,
            Some(_) => Link::Steady,
        }
    }

    async fn change_members(&self, change: Change) -> Result<Reply, Error> {
        self.check_running()?;
        let id = self.inner().ids.next();
        let data = machine::encode_conf_change(id, &change);
        let proposal = |address| ToConsensus::ProposeConfChange(Proposal { id, data, reply_to: Some(address) });
        match self.ask_for_proposal(proposal).await? {
            Answer::Applied(reply) => Ok(reply),
            Answer::ReadNow => Err(Error::Internal("a read's answer went to a proposal".into())),
        }
    }
}

/// URLs as they are stored: well-formed, sorted.
fn checked_urls(urls: &[String]) -> Result<Vec<String>, Error> {
    let mut checked = Vec::new();
    for url in urls {
        checked.push(Url::parse(url).map_err(|_| Error::BadMemberUrls)?.to_string());
    }
    checked.sort();
    if checked.is_empty() { Err(Error::BadMemberUrls) } else { Ok(checked) }
}
