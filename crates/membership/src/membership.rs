//! The members of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use types::MemberId;

use crate::change::{Change, MembershipError};
use crate::member::{Attributes, Member};
use crate::version::{ClusterVersion, Downgrade};

/// Which members raft counts, and how: what must agree with [`Membership`] at every index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    pub voters: Vec<MemberId>,
    pub learners: Vec<MemberId>,
}

/// The members, those that were removed, and the cluster's version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    members: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
    version: Option<ClusterVersion>,
    downgrade: Downgrade,
}

impl Membership {
    /// A cluster as it was stored, or as it starts.
    pub fn new(
        members: impl IntoIterator<Item = Member>,
        removed: impl IntoIterator<Item = MemberId>,
        version: Option<ClusterVersion>,
        downgrade: Downgrade,
    ) -> Membership {
        let members = members.into_iter().map(|member| (member.id, member)).collect();
        Membership { members, removed: removed.into_iter().collect(), version, downgrade }
    }

    /// Every member, in order of ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// Ids that may never return, in order.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// `None` until the first leader has decided.
    pub fn version(&self) -> Option<ClusterVersion> {
        self.version
    }

    pub fn downgrade(&self) -> &Downgrade {
        &self.downgrade
    }

    pub fn conf_state(&self) -> ConfState {
        let ids = |learners: bool| {
            self.members.values().filter(|member| member.is_learner == learners).map(|member| member.id).collect()
        };
        ConfState { voters: ids(false), learners: ids(true) }
    }

    /// Whether `change` could be made now, with at most `learners_max` learners.
    ///
    /// # Errors
    /// The first reason against it, in etcd's order.
    ///
    /// Source: etcd-io/etcd `membership/cluster.go`, `ValidateConfigurationChange`.
    pub fn validate(&self, change: &Change, learners_max: usize) -> Result<(), MembershipError> {
        let id = change.member();
        if self.is_removed(id) {
            return Err(MembershipError::IdRemoved);
        }
        let member = self.member(id);
        match change {
            Change::Promote(_) if !member.ok_or(MembershipError::IdNotFound)?.is_learner => {
                Err(MembershipError::NotLearner)
            }
            Change::Promote(_) => Ok(()),
            Change::Add(_) if member.is_some() => Err(MembershipError::IdExists),
            Change::Add(added) if self.uses_any(&added.peer_urls, id) => Err(MembershipError::PeerUrlExists),
            Change::Add(added) if added.is_learner && self.conf_state().learners.len() >= learners_max => {
                Err(MembershipError::TooManyLearners)
            }
            Change::Add(_) => Ok(()),
            Change::Remove(_) | Change::Update { .. } if member.is_none() => Err(MembershipError::IdNotFound),
            // Nobody could decide anything any more, and raft cannot be without voters.
            Change::Remove(_) if self.conf_state().voters == [id] => Err(MembershipError::OnlyVoter),
            Change::Remove(_) => Ok(()),
            Change::Update { peer_urls, .. } if self.uses_any(peer_urls, id) => Err(MembershipError::PeerUrlExists),
            Change::Update { .. } => Ok(()),
        }
    }

    /// Makes a change. A changed peer URL leaves the learner flag as it is.
    ///
    /// # Errors
    /// What [`Membership::validate`] says; nothing has changed then.
    pub fn apply(&mut self, change: Change, learners_max: usize) -> Result<(), MembershipError> {
        self.validate(&change, learners_max)?;
        match change {
            Change::Add(member) => {
                self.members.insert(member.id, member);
            }
            Change::Promote(id) => self.existing(id).is_learner = false,
            Change::Remove(id) => {
                self.members.remove(&id);
                self.removed.insert(id);
            }
            Change::Update { id, peer_urls } => self.existing(id).peer_urls = peer_urls,
        }
        Ok(())
    }

    /// Notes what a member says of itself. A removed member's words are dropped, returning `Ok(false)`.
    ///
    /// # Errors
    /// If the member never was one.
    pub fn set_attributes(&mut self, id: MemberId, attributes: Attributes) -> Result<bool, MembershipError> {
        if self.is_removed(id) {
            return Ok(false);
        }
        self.members.get_mut(&id).ok_or(MembershipError::IdNotFound)?.attributes = attributes;
        Ok(true)
    }

    pub fn set_version(&mut self, version: ClusterVersion) {
        self.version = Some(version);
    }

    pub fn set_downgrade(&mut self, downgrade: Downgrade) {
        self.downgrade = downgrade;
    }

    fn existing(&mut self, id: MemberId) -> &mut Member {
        self.members.get_mut(&id).expect("the change was validated")
    }

    /// Whether a member other than `but` has one of these peer URLs.
    fn uses_any(&self, peer_urls: &[String], but: MemberId) -> bool {
        let others = self.members.values().filter(|member| member.id != but);
        others.flat_map(|member| &member.peer_urls).any(|url| peer_urls.contains(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, is_learner: bool) -> Member {
        Member {
            id: MemberId(id),
            peer_urls: vec![format!("http://m{id}:2380")],
            is_learner,
            attributes: Attributes::default(),
        }
    }

    fn three() -> Membership {
        let mut membership = Membership::default();
        for change in [member(1, false), member(2, false), member(3, true)] {
            membership.apply(Change::Add(change), 1).unwrap();
        }
        membership
    }

    #[test]
    fn refused_changes_change_nothing() {
        let mut membership = three();
        membership.apply(Change::Remove(MemberId(2)), 1).unwrap();
        let before = membership.clone();
        let urls = |url: &str| vec![url.to_owned()];
        for (change, error) in [
            (Change::Add(member(2, false)), MembershipError::IdRemoved),
            (Change::Remove(MemberId(2)), MembershipError::IdRemoved),
            (Change::Promote(MemberId(9)), MembershipError::IdNotFound),
            (Change::Promote(MemberId(1)), MembershipError::NotLearner),
            (Change::Add(member(1, true)), MembershipError::IdExists),
            (Change::Add(Member { id: MemberId(9), ..member(1, true) }), MembershipError::PeerUrlExists),
            (Change::Add(member(9, true)), MembershipError::TooManyLearners),
            (Change::Remove(MemberId(9)), MembershipError::IdNotFound),
            (Change::Update { id: MemberId(9), peer_urls: urls("http://m1:2380") }, MembershipError::IdNotFound),
            (Change::Update { id: MemberId(3), peer_urls: urls("http://m1:2380") }, MembershipError::PeerUrlExists),
        ] {
            assert_eq!(membership.apply(change.clone(), 1), Err(error), "{change:?}");
            assert_eq!(membership, before);
        }
    }

    #[test]
    fn the_only_voter_is_not_removed_whoever_else_there_is() {
        let mut membership = three();
        membership.apply(Change::Remove(MemberId(2)), 1).unwrap();
        let before = membership.clone();
        assert_eq!(membership.apply(Change::Remove(MemberId(1)), 1), Err(MembershipError::OnlyVoter));
        assert_eq!(membership, before);
        membership.apply(Change::Remove(MemberId(3)), 1).unwrap();
        assert_eq!(membership.apply(Change::Remove(MemberId(1)), 1), Err(MembershipError::OnlyVoter));
    }

    #[test]
    fn changes_are_made() {
        let mut membership = three();
        membership.apply(Change::Update { id: MemberId(3), peer_urls: vec!["http://x:1".to_owned()] }, 1).unwrap();
        assert!(membership.member(MemberId(3)).unwrap().is_learner);
        membership.apply(Change::Promote(MemberId(3)), 1).unwrap();
        membership.apply(Change::Remove(MemberId(1)), 1).unwrap();
        membership.apply(Change::Add(member(4, true)), 1).unwrap();
        let expected = ConfState { voters: vec![MemberId(2), MemberId(3)], learners: vec![MemberId(4)] };
        assert_eq!(membership.conf_state(), expected);
    }

    #[test]
    fn attributes_of_strangers_are_refused_and_of_the_removed_dropped() {
        let mut membership = three();
        let attributes = Attributes { name: "one".to_owned(), client_urls: vec!["http://c:1".to_owned()] };
        assert_eq!(membership.set_attributes(MemberId(1), attributes.clone()), Ok(true));
        assert_eq!(membership.member(MemberId(1)).unwrap().attributes, attributes);
        assert_eq!(membership.set_attributes(MemberId(9), attributes.clone()), Err(MembershipError::IdNotFound));
        membership.apply(Change::Remove(MemberId(1)), 1).unwrap();
        assert_eq!(membership.set_attributes(MemberId(1), attributes), Ok(false));
    }
}
