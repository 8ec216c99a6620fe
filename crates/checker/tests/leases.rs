//! Leases that end too early or too late are found.

use checker::{
    Answer, Body, Change, History, LeaseRules, Operation, Outcome, Put, Refusal, Request, Rule, check_leases, ordered,
};
use types::LeaseId;

const LEASE: LeaseId = LeaseId(5);
/// Times are in seconds.
const RULES: LeaseRules = LeaseRules { second: 1, grace: 2, drift_permille: 0 };

fn add(history: &mut History, at: u64, request: Request, outcome: Outcome) {
    history.operations.push(Operation { client: 0, session: None, invoked: at, returned: at + 1, request, outcome });
}

fn answered(history: &mut History, at: u64, request: Request, revision: i64, body: Body) {
    add(history, at, request, Outcome::Answered(Answer { revision, body }));
}

fn put(lease: LeaseId) -> Request {
    Request::Put(Put { key: "a".into(), value: "1".into(), lease, previous: false })
}

/// Granted for 10 seconds at 0, with one key.
fn granted() -> History {
    let mut history = History::new();
    answered(&mut history, 0, Request::Grant { lease: LEASE, ttl: 10 }, 1, Body::Granted { ttl: 10 });
    answered(&mut history, 2, put(LEASE), 2, Body::Put { previous: None });
    history
}

fn renew(history: &mut History, at: u64, ttl: i64) {
    answered(history, at, Request::KeepAlive(LEASE), 2, Body::KeptAlive { ttl });
}

/// The verdict if the key went at `gone`, or not until `end`.
fn rule(mut history: History, gone: Option<u64>, disturbed: &[u64], end: u64) -> Result<(), Rule> {
    if gone.is_some() {
        history.log.insert(3, vec![Change { key: "a".into(), put: None }]);
    }
    let findings = ordered(&history).expect("a good history");
    check_leases(&history, &findings, |_| gone, disturbed, end, RULES).map_err(|violation| violation.rule)
}

#[test]
fn a_lease_ends_when_its_time_is_over_and_soon_after() {
    assert_eq!(rule(granted(), Some(9), &[], 100), Err(Rule::LeaseEarly));
    assert_eq!(rule(granted(), Some(10), &[], 100), Ok(()));
    assert_eq!(rule(granted(), Some(13), &[], 100), Ok(()));
    assert_eq!(rule(granted(), Some(14), &[], 100), Err(Rule::LeaseLate));
    assert_eq!(rule(granted(), None, &[], 13), Ok(()), "the history ends before");
    assert_eq!(rule(granted(), None, &[], 14), Err(Rule::LeaseLate));
}

#[test]
fn a_renewal_counts_from_when_it_was_asked_for() {
    let renewed = || {
        let mut history = granted();
        renew(&mut history, 8, 10);
        history
    };
    assert_eq!(rule(renewed(), Some(17), &[], 100), Err(Rule::LeaseEarly));
    assert_eq!(rule(renewed(), Some(18), &[], 100), Ok(()));
    assert_eq!(rule(renewed(), Some(21), &[], 100), Ok(()));
    assert_eq!(rule(renewed(), Some(22), &[], 100), Err(Rule::LeaseLate));
}

#[test]
fn a_lease_that_is_gone_is_not_renewed() {
    let mut history = granted();
    renew(&mut history, 12, 10);
    assert_eq!(rule(history, Some(11), &[], 100), Err(Rule::LeaseRevived));
    let mut history = granted();
    renew(&mut history, 12, 0);
    assert_eq!(rule(history, Some(11), &[], 100), Ok(()));
}

#[test]
fn another_leader_gives_all_the_time_anew() {
    assert_eq!(rule(granted(), Some(19), &[9], 100), Ok(()));
    assert_eq!(rule(granted(), Some(22), &[9], 100), Err(Rule::LeaseLate));
    assert_eq!(rule(granted(), Some(25), &[15], 100), Err(Rule::LeaseLate), "by then it was late already");
}

#[test]
fn who_is_told_that_a_living_lease_is_gone_was_deceived() {
    let mut history = granted();
    renew(&mut history, 5, 0);
    assert_eq!(rule(history, None, &[], 6), Err(Rule::LeaseEarly));
    let mut history = granted();
    add(&mut history, 5, put(LEASE), Outcome::Refused(Refusal::LeaseNotFound));
    assert_eq!(rule(history, None, &[], 6), Err(Rule::LeaseEarly));
    let mut history = granted();
    add(&mut history, 0, put(LEASE), Outcome::Refused(Refusal::LeaseNotFound));
    assert_eq!(rule(history, None, &[], 6), Ok(()), "asked before it was granted");
    let mut history = granted();
    add(&mut history, 3, Request::Revoke(LEASE), Outcome::Unknown);
    renew(&mut history, 5, 0);
    assert_eq!(rule(history, None, &[], 6), Ok(()), "it may have been revoked");
}
