//! Whether a change of the members is wise: what the member that is asked looks at before it proposes one.
//!
//! Nothing here is looked at again when the change is applied ([`Membership::validate`] is): who is started and connected
//! differs from member to member.
//!
//! Source: etcd-io/etcd `etcdserver/server.go` (`mayAddMember`, `mayPromote`, `mayRemoveMember`), `membership/cluster.go`.

use thiserror::Error;
use types::{Index, MemberId};

use crate::change::Change;
use crate::member::Member;
use crate::membership::Membership;

/// Why a change is not proposed with strict reconfiguration checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unwise {
    /// Too few voters have ever started for the quorum there would be.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few voters are connected.
    #[error("unhealthy cluster")]
    Unhealthy,
}

/// How the member that is asked sees another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Down,
    /// Connected, but not for long.
    Fresh,
    /// Connected for [`HEALTH_INTERVAL_SECONDS`] at least, or this member itself.
    Steady,
}

/// How long a connection must have been up to be counted upon.
pub const HEALTH_INTERVAL_SECONDS: u64 = 5;

impl Membership {
    /// Whether `change` leaves a quorum that can be expected to work, as far as `link` tells. Promotions need
    /// [`is_in_sync`] besides, with the checks or without.
    ///
    /// # Errors
    /// The first reason against it, in etcd's order.
    pub fn check_wise(&self, change: &Change, link: impl Fn(MemberId) -> Link) -> Result<(), Unwise> {
        let voters: Vec<&Member> = self.members().filter(|member| !member.is_learner).collect();
        let started =
            |but: Option<MemberId>| voters.iter().filter(|voter| Some(voter.id) != but && voter.is_started()).count();
        let steady = || voters.iter().filter(|voter| link(voter.id) == Link::Steady).count();
        match change {
            Change::Add(added) => {
                // With one voter there is nothing to lose: how else would it get company?
                let is_enough = voters.len() == 1 && started(None) == 1 || started(None) >= quorum(voters.len() + 1);
                if !added.is_learner && !is_enough {
                    return Err(Unwise::NotEnoughStarted);
                }
                let is_healthy = voters.len() == 1 || steady() >= quorum(voters.len() + 1);
                is_healthy.then_some(()).ok_or(Unwise::Unhealthy)
            }
            // It runs, or it could not be in sync.
            Change::Promote(_) if started(None) + 1 < quorum(voters.len() + 1) => Err(Unwise::NotEnoughStarted),
            Change::Remove(id) if voters.iter().any(|voter| voter.id == *id) => {
                if started(Some(*id)) < quorum(voters.len() - 1) {
                    return Err(Unwise::NotEnoughStarted);
                }
                // One that is down takes nothing away from those that work.
                let is_healthy = link(*id) == Link::Down || steady() > quorum(voters.len() - 1);
                is_healthy.then_some(()).ok_or(Unwise::Unhealthy)
            }
            Change::Promote(_) | Change::Remove(_) | Change::Update { .. } => Ok(()),
        }
    }
}

/// How many of `voters` make a decision; one, where there are none.
fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether a learner has caught up with its leader, so that it may vote: the last entry known to be in its log lies at
/// nine tenths or more of the leader's.
pub fn is_in_sync(learner: Index, leader: Index) -> bool {
    u128::from(learner.0) * 10 >= u128::from(leader.0) * 9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Attributes;

    /// Voters 1 to `started + unstarted`, of which the first have started.
    fn voters(started: u64, unstarted: u64) -> Membership {
        let members = (1..=started + unstarted).map(|id| member(id, id <= started, false));
        Membership::new(members, [], None, Default::default())
    }

    fn member(id: u64, is_started: bool, is_learner: bool) -> Member {
        let name = if is_started { format!("m{id}") } else { String::new() };
        Member {
            id: MemberId(id),
            is_learner,
            attributes: Attributes { name, ..Attributes::default() },
            ..Member::default()
        }
    }

    fn add() -> Change {
        Change::Add(member(9, false, false))
    }

    fn all_steady(_: MemberId) -> Link {
        Link::Steady
    }

    /// The members from `first` on are down.
    fn down_from(first: u64) -> impl Fn(MemberId) -> Link {
        move |id| if id.0 >= first { Link::Down } else { Link::Steady }
    }

    #[test]
    fn a_voter_is_added_where_enough_have_started() {
        for (started, unstarted, wise) in
            [(1, 0, true), (2, 0, true), (1, 1, false), (3, 0, true), (2, 1, false), (4, 1, true), (3, 2, false)]
        {
            let checked = voters(started, unstarted).check_wise(&add(), all_steady);
            assert_eq!(checked, if wise { Ok(()) } else { Err(Unwise::NotEnoughStarted) }, "{started} + {unstarted}");
        }
        let learner = Change::Add(member(9, false, true));
        assert_eq!(voters(1, 1).check_wise(&learner, all_steady), Ok(()));
    }

    #[test]
    fn a_member_is_added_where_the_quorum_to_come_is_connected() {
        for (count, up, wise) in [(1, 0, true), (2, 1, false), (3, 3, true), (3, 2, false), (5, 4, true), (5, 3, false)]
        {
            let checked = voters(count, 0).check_wise(&add(), down_from(up + 1));
            assert_eq!(checked, if wise { Ok(()) } else { Err(Unwise::Unhealthy) }, "{count} {up}");
        }
        let learner = Change::Add(member(9, false, true));
        assert_eq!(voters(3, 0).check_wise(&learner, down_from(2)), Err(Unwise::Unhealthy));
        let fresh = |id: MemberId| if id.0 == 1 { Link::Steady } else { Link::Fresh };
        assert_eq!(voters(3, 0).check_wise(&add(), fresh), Err(Unwise::Unhealthy));
    }

    #[test]
    fn a_voter_is_removed_where_the_others_can_go_on() {
        let remove = |id| Change::Remove(MemberId(id));
        // Nobody would be left.
        assert_eq!(voters(1, 0).check_wise(&remove(1), all_steady), Err(Unwise::NotEnoughStarted));
        assert_eq!(voters(2, 0).check_wise(&remove(2), all_steady), Ok(()));
        assert_eq!(voters(1, 1).check_wise(&remove(1), all_steady), Err(Unwise::NotEnoughStarted));
        assert_eq!(voters(1, 1).check_wise(&remove(2), all_steady), Ok(()));
        assert_eq!(voters(3, 0).check_wise(&remove(1), all_steady), Ok(()));
        // One of three is down: it may go, none of the others may.
        assert_eq!(voters(3, 0).check_wise(&remove(3), down_from(3)), Ok(()));
        assert_eq!(voters(3, 0).check_wise(&remove(2), down_from(3)), Err(Unwise::Unhealthy));
        assert_eq!(voters(5, 0).check_wise(&remove(2), down_from(5)), Ok(()));
        assert_eq!(voters(5, 0).check_wise(&remove(2), down_from(4)), Err(Unwise::Unhealthy));
    }

    #[test]
    fn learners_come_and_go_and_become_voters() {
        let mut members: Vec<Member> = voters(1, 1).members().cloned().collect();
        members.push(member(7, true, true));
        let membership = Membership::new(members, [], None, Default::default());
        assert_eq!(membership.check_wise(&Change::Remove(MemberId(7)), down_from(1)), Ok(()));
        assert_eq!(membership.check_wise(&Change::Promote(MemberId(7)), down_from(1)), Ok(()));
        assert_eq!(voters(1, 2).check_wise(&Change::Promote(MemberId(7)), all_steady), Err(Unwise::NotEnoughStarted));
        let update = Change::Update { id: MemberId(1), peer_urls: Vec::new() };
        assert_eq!(membership.check_wise(&update, down_from(1)), Ok(()));
    }

    #[test]
    fn a_learner_is_in_sync_from_nine_tenths_on() {
        for (learner, leader, in_sync) in [
            (9, 10, true),
            (8, 10, false),
            (0, 0, true),
            (0, 1, false),
            (1, 1, true),
            (899, 1000, false),
            (900, 1000, true),
        ] {
            assert_eq!(is_in_sync(Index(learner), Index(leader)), in_sync, "{learner} of {leader}");
        }
        assert!(is_in_sync(Index(u64::MAX), Index(u64::MAX)));
    }
}
