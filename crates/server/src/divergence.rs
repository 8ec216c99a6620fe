//! Finds out whether members hold different states, as they go.
//!
//! Every member has a digest of its state at every 1000th index of the log. Followers report theirs to the leader with
//! their answers; the leader holds them against each other and against its own. A digest that most voters have is right;
//! members that have another one are named in an alarm, which stops all writing until an operator has seen to it.

use std::collections::{BTreeMap, BTreeSet};

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::{AlarmRequest, AlarmType};
use bytes::Bytes;
use types::{Index, MemberId};

/// Digests of so many indexes are held against each other; older ones are of no more interest.
const INDEXES_MAX: usize = 64;
const REPORT_BYTES: usize = 16;

/// What the leader knows of the members' digests.
#[derive(Default)]
pub(crate) struct Divergence {
    digests: BTreeMap<Index, BTreeMap<MemberId, u64>>,
    /// Who was found to differ at these indexes.
    accused: BTreeMap<Index, BTreeSet<MemberId>>,
}

/// The digest of a state at an index, as it travels: both numbers, eight bytes each, the higher ones first.
pub(crate) fn report(index: Index, digest: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(REPORT_BYTES);
    bytes.extend_from_slice(&index.0.to_be_bytes());
    bytes.extend_from_slice(&digest.to_be_bytes());
    bytes.into()
}

/// Reads what [`report`] wrote.
pub(crate) fn parse_report(report: &[u8]) -> Option<(Index, u64)> {
    let (index, digest) = report.split_at_checked(8)?;
    Some((Index(u64::from_be_bytes(index.try_into().ok()?)), u64::from_be_bytes(digest.try_into().ok()?)))
}

impl Divergence {
    /// Notes a member's digest, this one's own too. Returns the members that are found to differ from most of `voters`
    /// by it, each once for an index; `MemberId(0)` if there is no telling who is wrong.
    pub(crate) fn note(&mut self, member: MemberId, index: Index, digest: u64, voters: &[MemberId]) -> Vec<MemberId> {
        let known = self.digests.entry(index).or_default();
        known.insert(member, digest);
        let accused = accuse(known, voters);
        if accused.is_empty() {
            self.forget_old();
            return accused;
        }
        let before = self.accused.entry(index).or_default();
        let found = accused.into_iter().filter(|member| before.insert(*member)).collect();
        self.forget_old();
        found
    }

    fn forget_old(&mut self) {
        while self.digests.len() > INDEXES_MAX {
            self.digests.pop_first();
        }
        if let Some(oldest) = self.digests.keys().next() {
            self.accused = self.accused.split_off(oldest);
        }
    }
}

fn accuse(known: &BTreeMap<MemberId, u64>, voters: &[MemberId]) -> Vec<MemberId> {
    let have_all_told = || voters.iter().all(|voter| known.contains_key(voter));
    match right_digest(known, voters) {
        Some(right) => known.iter().filter(|(_, digest)| **digest != right).map(|(member, _)| *member).collect(),
        None if have_all_told() && !voters.is_empty() => vec![MemberId(0)],
        // Others have not said theirs yet.
        None => Vec::new(),
    }
}

/// The digest that most of the voters have.
pub(crate) fn right_digest(known: &BTreeMap<MemberId, u64>, voters: &[MemberId]) -> Option<u64> {
    let of_voters = || known.iter().filter(|(member, _)| voters.contains(member)).map(|(_, digest)| *digest);
    let count = |digest: u64| of_voters().filter(|other| *other == digest).count();
    of_voters().find(|digest| count(*digest) > voters.len() / 2)
}

/// What raises the alarm for a member whose state is wrong.
pub(crate) fn raise_corrupt(member: MemberId) -> AlarmRequest {
    AlarmRequest { action: AlarmAction::Activate.into(), member_id: member.0, alarm: AlarmType::Corrupt.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u64; 0] = [];
    const VOTERS: [MemberId; 3] = [MemberId(1), MemberId(2), MemberId(3)];

    fn note(divergence: &mut Divergence, member: u64, index: u64, digest: u64) -> Vec<u64> {
        let found = divergence.note(MemberId(member), Index(index), digest, &VOTERS);
        found.into_iter().map(|member| member.0).collect()
    }

    #[test]
    fn reports_are_read_back_and_garbage_is_not() {
        assert_eq!(parse_report(&report(Index(3000), 7)), Some((Index(3000), 7)));
        assert_eq!((parse_report(b""), parse_report(&[0; 15]), parse_report(&[0; 17])), (None, None, None));
    }

    #[test]
    fn the_one_that_differs_from_most_is_named_once_for_an_index() {
        let mut divergence = Divergence::default();
        assert_eq!(note(&mut divergence, 1, 1000, 5), NOBODY);
        assert_eq!(note(&mut divergence, 2, 1000, 6), NOBODY, "one against one");
        assert_eq!(note(&mut divergence, 3, 1000, 5), [2]);
        assert_eq!(note(&mut divergence, 3, 1000, 5), NOBODY, "it was named");
        assert_eq!(note(&mut divergence, 1, 2000, 8), NOBODY);
        assert_eq!(note(&mut divergence, 3, 2000, 8), NOBODY);
        assert_eq!(note(&mut divergence, 2, 2000, 9), [2], "an alarm that was cleared comes again");
    }

    #[test]
    fn it_may_be_the_leader_itself_or_a_learner() {
        let mut divergence = Divergence::default();
        note(&mut divergence, 1, 1000, 1);
        note(&mut divergence, 2, 1000, 5);
        assert_eq!(note(&mut divergence, 3, 1000, 5), [1]);
        assert_eq!(note(&mut divergence, 9, 1000, 4), [9]);
        assert_eq!(note(&mut divergence, 8, 1000, 5), NOBODY);
    }

    #[test]
    fn without_a_majority_nobody_is_named() {
        let mut divergence = Divergence::default();
        note(&mut divergence, 1, 1000, 1);
        note(&mut divergence, 2, 1000, 2);
        assert_eq!(note(&mut divergence, 3, 1000, 3), [0]);
    }

    #[test]
    fn members_that_agree_are_left_alone_and_old_indexes_forgotten() {
        let mut divergence = Divergence::default();
        for index in (1000..=200_000).step_by(1000) {
            for member in 1..=3 {
                assert_eq!(note(&mut divergence, member, index, index), NOBODY);
            }
        }
        assert_eq!(divergence.digests.len(), INDEXES_MAX);
        for index in (201_000..=400_000).step_by(1000) {
            note(&mut divergence, 1, index, 1);
            note(&mut divergence, 2, index, 1);
            assert_eq!(note(&mut divergence, 3, index, 2), [3]);
        }
        assert_eq!((divergence.digests.len(), divergence.accused.len()), (INDEXES_MAX, INDEXES_MAX));
    }
}
