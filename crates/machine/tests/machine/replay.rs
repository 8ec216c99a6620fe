//! The same log gives the same state: however it is cut into batches, and after a crash in the middle.

use api::etcdserverpb::internal_raft_request::Request;
use machine::{Applied, Machine, MachineError};
use proptest::prelude::*;
use types::{EntryKind, Index, LogEntry, Term};

use crate::harness::{Member, at, encode, options, put};
use crate::model::{any_request, any_unchecked_txn};

fn log(requests: Vec<Request>) -> Vec<LogEntry> {
    let data = |(number, request): (usize, Request)| match number % 7 {
        // Entries that open a term, and entries nobody can read.
        3 => bytes::Bytes::new(),
        5 => bytes::Bytes::from_static(b"\xff"),
        _ => encode(number as u64, request),
    };
    let entry =
        |(data, index)| LogEntry { term: Term(1 + index / 10), index: Index(index), kind: EntryKind::Normal, data };
    requests.into_iter().enumerate().map(data).zip(1..).map(entry).collect()
}

/// Id, index, and revision and body or the error's text.
type PlainResult = (u64, Index, Result<(i64, Vec<u8>), String>);

/// Results and events as plain data.
fn plain(applied: Applied) -> (Vec<PlainResult>, Vec<watch::RevisionEvents>) {
    let results = applied.results.into_iter().map(|(id, index, result)| {
        let result = result.map(|reply| (reply.revision, reply.body.into_bytes().unwrap().to_vec()));
        (id, index, result.map_err(|error| error.to_string()))
    });
    (results.collect(), applied.events)
}

fn apply(member: &mut Member, entries: &[LogEntry]) -> Applied {
    let mut applied = Applied::default();
    member.machine.apply(entries, at(0), &mut applied).unwrap();
    applied
}

fn apply_in_pieces(member: &mut Member, entries: &[LogEntry], pieces: &[usize]) -> Applied {
    let (mut applied, mut left, mut pieces) = (Applied::default(), entries, pieces.iter().cycle());
    while !left.is_empty() {
        let (now, later) = left.split_at((*pieces.next().unwrap()).clamp(1, left.len()));
        member.machine.apply(now, at(7), &mut applied).unwrap();
        left = later;
    }
    applied
}

fn attachments(member: &Member) -> Vec<Option<Vec<Vec<u8>>>> {
    let lessor = member.machine.shared().lessor().lock();
    (1..4).map(|id| Some(lessor.keys(types::LeaseId(id))?.map(<[u8]>::to_vec).collect())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn batches_make_no_difference(
        requests in prop::collection::vec(any_request(), 1..80),
        pieces in prop::collection::vec(1..20usize, 1..6),
    ) {
        let entries = log(requests);
        let (mut whole, mut pieced) = (Member::new(), Member::new());
        let (one, other) = (apply(&mut whole, &entries), apply_in_pieces(&mut pieced, &entries, &pieces));
        prop_assert_eq!(plain(one), plain(other));
        prop_assert_eq!(whole.backend.commit().unwrap().applied, pieced.backend.commit().unwrap().applied);
        prop_assert_eq!(whole.hash(), pieced.hash());
        prop_assert_eq!(whole.tables(), pieced.tables());
    }

    #[test]
    fn a_crash_is_made_up_for_by_applying_the_log_again(
        requests in prop::collection::vec(any_request(), 1..60),
        commit_at in 0..60usize,
        crash_at in 0..60usize,
        replay_from in 0..60usize,
    ) {
        let entries = log(requests);
        let crash_at = crash_at.min(entries.len());
        let commit_at = commit_at.min(crash_at);
        let mut undisturbed = Member::new();
        let expected = plain(apply(&mut undisturbed, &entries));

        let mut member = Member::new();
        apply(&mut member, &entries[..commit_at]);
        member.backend.commit().unwrap();
        apply(&mut member, &entries[commit_at..crash_at]);
        let disk = member.disk.clone();
        drop(member);
        let mut member = Member::on(disk, options());
        prop_assert_eq!(member.machine.applied(), Index(commit_at as u64));
        // The log may be handed over from before what is applied.
        let again = plain(apply(&mut member, &entries[replay_from.min(commit_at)..]));
        let rest = |index: Index| index > Index(commit_at as u64);
        let expected_results: Vec<_> = expected.0.into_iter().filter(|(_, index, _)| rest(*index)).collect();
        prop_assert_eq!(again.0, expected_results);
        prop_assert_eq!(member.backend.commit().unwrap().applied, undisturbed.backend.commit().unwrap().applied);
        prop_assert_eq!(member.hash(), undisturbed.hash());
        prop_assert_eq!(member.tables(), undisturbed.tables());
        prop_assert_eq!(attachments(&member), attachments(&undisturbed));
        prop_assert_eq!(&again.1[..], &expected.1[expected.1.len() - again.1.len()..]);
    }
}

/// Entries that this member's own checks would never have let pass: others proposed them, or they are damaged.
fn any_foreign_entry() -> impl Strategy<Value = (EntryKind, Vec<u8>)> {
    let request = prop_oneof![2 => any_request(), 2 => any_unchecked_txn()];
    let changed = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let kind = prop_oneof![
        8 => Just(EntryKind::Normal),
        1 => Just(EntryKind::ConfChange),
        1 => Just(EntryKind::ConfChangeV2),
    ];
    (kind, request, changed, any::<prop::sample::Index>()).prop_map(|(kind, request, changed, cut)| {
        let mut data = encode(1, request).to_vec();
        let damages = changed.len() > 1;
        for (at, byte) in changed {
            let at = at.index(data.len());
            data[at] = byte;
        }
        if damages && cut.index(3) == 0 {
            data.truncate(cut.index(data.len()));
        }
        (kind, data)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_the_log_holds_has_one_result_on_every_member(
        entries in prop::collection::vec(any_foreign_entry(), 1..40),
        pieces in prop::collection::vec(1..20usize, 1..6),
    ) {
        let entry = |((kind, data), index): ((EntryKind, Vec<u8>), u64)| {
            LogEntry { term: Term(1), index: Index(index), kind, data: data.into() }
        };
        let entries: Vec<LogEntry> = entries.into_iter().zip(1..).map(entry).collect();
        let (mut one_by_one, mut pieced) = (Member::new(), Member::new());
        let mut all = Applied::default();
        for entry in &entries {
            let before = (one_by_one.hash(), one_by_one.tables());
            let applied = apply(&mut one_by_one, std::slice::from_ref(entry));
            let is_refused = applied.results.first().is_some_and(|(.., result)| result.is_err());
            if is_refused {
                prop_assert_eq!((one_by_one.hash(), one_by_one.tables()), before, "a refused entry changed something");
                prop_assert!(applied.events.is_empty());
            }
            all.results.extend(applied.results);
            all.events.extend(applied.events);
            all.voter_changes.extend(applied.voter_changes);
        }
        let applied = apply_in_pieces(&mut pieced, &entries, &pieces);
        prop_assert_eq!(&all.voter_changes, &applied.voter_changes);
        prop_assert_eq!(plain(all), plain(applied));
        prop_assert_eq!(one_by_one.backend.commit().unwrap().applied, pieced.backend.commit().unwrap().applied);
        prop_assert_eq!(one_by_one.backend.digest(), pieced.backend.digest());
        prop_assert_eq!(one_by_one.hash(), pieced.hash());
        prop_assert_eq!(one_by_one.tables(), pieced.tables());
        prop_assert_eq!(attachments(&one_by_one), attachments(&pieced));
        let hash = one_by_one.hash();
        prop_assert_eq!(one_by_one.restart().hash(), hash);
    }
}

#[test]
fn a_gap_in_the_log_stops_the_member() {
    let mut member = Member::new();
    let mut entries = log(vec![put("a", ""), put("b", ""), put("c", "")]);
    entries.remove(1);
    let stopped = member.machine.apply(&entries, at(0), &mut Applied::default());
    assert!(matches!(stopped, Err(MachineError::Gap { expected: Index(2), found: Index(3) })));
}

#[test]
fn readers_see_what_is_applied() {
    let mut member = Member::new();
    let shared = member.machine.shared().clone();
    apply(&mut member, &log(vec![put("a", ""), put("b", "")]));
    assert_eq!((shared.applied(), shared.view().revision()), (Index(2), 3));
    fn is_shared<T: Clone + Send + Sync>(_: &T) {}
    is_shared(&shared);
    fn is_sent<T: Send>(_: &T) {}
    is_sent(&Applied::default());
    fn machine_is_sent(machine: &Machine) {
        is_sent(machine);
    }
    machine_is_sent(&member.machine);
}
