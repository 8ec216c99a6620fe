//! The two judges of linearizability agree, on good histories and on damaged ones.

mod support;

use bytes::Bytes;
use checker::{Answer, Body, History, Outcome, Request, Rule, Verdict, Violation, ordered, search};
use proptest::prelude::*;
use support::{Mix, PLAIN, Random, correct};

const STEPS_MAX: usize = 100_000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn both_accept_what_a_correct_store_does(seed: u64, spread in 1..120_u64) {
        let mix = Mix { compactions: true, serializable: true, spread, ..PLAIN };
        let history = correct(&mut Random(seed), mix);
        prop_assert_eq!(ordered(&history).map(|_| ()), Ok(()), "{}", brief(&history));
        // Wide histories may take it too long.
        prop_assert_ne!(search(&history, STEPS_MAX), Verdict::NotLinearizable, "{}", brief(&history));
    }

    #[test]
    fn both_agree_on_damaged_histories(seed: u64, spread in 1..60_u64) {
        let (first, second, story) = judge_damaged(seed, Mix { spread, leases: false, ..PLAIN });
        prop_assume!(second != Verdict::GaveUp);
        // The first does not guess what an unlogged revision did; the second does.
        let is_unsure = first.as_ref().is_err_and(|violation| violation.rule == Rule::RevisionUnknown);
        prop_assume!(!(is_unsure && second == Verdict::Linearizable));
        let agree = first.is_ok() == (second == Verdict::Linearizable);
        prop_assert!(agree, "{:?} but {:?}\n{}", first.err(), second, story);
    }

    /// Of leases the first knows less than the second: it does not see one end that had no keys.
    #[test]
    fn what_the_first_finds_with_leases_the_second_finds_too(seed: u64, spread in 1..60_u64) {
        let (first, second, story) = judge_damaged(seed, Mix { spread, ..PLAIN });
        let Err(violation) = first else { return Ok(()) };
        prop_assume!(violation.rule != Rule::RevisionUnknown && second != Verdict::GaveUp);
        prop_assert_eq!(second, Verdict::NotLinearizable, "{:?}\n{}", violation, story);
    }

    #[test]
    fn long_histories_of_a_correct_store_are_accepted(seed: u64) {
        let mix = Mix { operations: 400, keys: 8, compactions: true, serializable: true, ..PLAIN };
        let history = correct(&mut Random(seed), mix);
        prop_assert_eq!(ordered(&history).map(|_| ()), Ok(()));
    }
}

/// What both say of a history with one damage, and the story.
fn judge_damaged(seed: u64, mix: Mix) -> (Result<(), Violation>, Verdict, String) {
    let mut random = Random(seed);
    let mut history = correct(&mut random, mix);
    let what = damage(&mut random, &mut history);
    (ordered(&history).map(drop), search(&history, STEPS_MAX), format!("{what}\n{}", brief(&history)))
}

/// How often damage is found at all: an agreement of judges who accept everything would be worth nothing.
#[test]
fn most_damage_is_found() {
    let mut random = Random(1);
    let found = (0..300).filter(|_| {
        let mut history = correct(&mut random, Mix { spread: 5, ..PLAIN });
        damage(&mut random, &mut history);
        ordered(&history).is_err()
    });
    assert!(found.count() > 200);
}

/// Changes one answer, or one operation's place in time.
fn damage(random: &mut Random, history: &mut History) -> String {
    let count = history.operations.len() as u64;
    loop {
        let at = random.below(count) as usize;
        let operation = &mut history.operations[at];
        // A lease's renewal carries no revision that anything could be said about.
        if matches!(operation.request, Request::KeepAlive(_)) {
            continue;
        }
        match random.below(3) {
            0 => {
                let shift = 10 + random.below(100);
                operation.invoked += shift;
                operation.returned += shift;
                return format!("{at} later by {shift}");
            }
            1 => {
                let shift = 10 + random.below(100);
                operation.invoked -= shift;
                operation.returned -= shift;
                return format!("{at} earlier by {shift}");
            }
            _ => {}
        }
        let Outcome::Answered(Answer { revision, body }) = &mut operation.outcome else { continue };
        match (random.below(3), body) {
            (0, _) => {
                *revision += 1;
                return format!("{at} at a higher revision");
            }
            (1, _) if *revision > 1 => {
                *revision -= 1;
                return format!("{at} at a lower revision");
            }
            (2, Body::Range { kvs, .. }) if !kvs.is_empty() => {
                kvs[0].value = Bytes::from_static(b"never written");
                return format!("{at} with another value");
            }
            (2, Body::Put { previous: Some(previous) }) => {
                previous.version += 1;
                return format!("{at} with another previous version");
            }
            (2, Body::Txn { succeeded, .. }) => {
                *succeeded = !*succeeded;
                return format!("{at} with another branch");
            }
            _ => {}
        }
    }
}

/// A line an operation.
fn brief(history: &History) -> String {
    let lines = history.operations.iter().enumerate().map(|(at, operation)| {
        format!(
            "{at} {}..{} {:?} -> {:?}\n",
            operation.invoked, operation.returned, operation.request, operation.outcome
        )
    });
    lines.collect()
}
