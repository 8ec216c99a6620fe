//! A correct watch is accepted, and each of the nine guarantees is seen to be broken.

mod support;

use bytes::Bytes;
use checker::{
    Event, Findings, History, Put, Received, Request, Response, Rule, WatchSession, check_watch, learn, ordered,
};
use proptest::prelude::*;
use support::{Mix, PLAIN, Random, correct, event, watched};
use types::{KeyRange, LeaseId};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_correct_watch_is_accepted(seed: u64, start in 1..10_i64, previous: bool, no_puts: bool, no_deletes: bool) {
        let mut random = Random(seed);
        let history = correct(&mut random, Mix { operations: 60, unknown_percent: 0, ..PLAIN });
        let findings = ordered(&history).unwrap();
        let session = WatchSession { previous, no_puts, no_deletes, ..WatchSession::new(KeyRange::prefix(b"k"), start) };
        let session = watched(&mut random, &findings.replay, session);
        prop_assert_eq!(check_watch(&history, &findings, &session), Ok(()), "{:#?}", session);
    }

    #[test]
    fn a_watch_that_loses_any_response_is_found(seed: u64) {
        let mut random = Random(seed);
        let history = correct(&mut random, Mix { operations: 60, ..PLAIN });
        let findings = ordered(&history).unwrap();
        let mut session = watched(&mut random, &findings.replay, WatchSession::new(KeyRange::all(), 1));
        let with_events: Vec<usize> = (0..session.responses.len())
            .filter(|&at| matches!(session.responses[at].received, Received::Events { .. }))
            .collect();
        session.responses.remove(with_events[random.below(with_events.len() as u64) as usize]);
        prop_assert!(check_watch(&history, &findings, &session).is_err(), "{:#?}", session);
    }
}

/// Revisions 2 to 5 put `a`; 6 deletes it; 7 puts `a` and `b` together.
fn store() -> (History, Findings) {
    use checker::{Answer, Body, Operation, Outcome, Step, Txn};
    let put = |key: &'static str, value: String| Put {
        key: key.into(),
        value: value.into(),
        lease: LeaseId::NONE,
        previous: false,
    };
    let mut history = History::new();
    let mut add = |request, body| {
        let at = history.operations.len() as u64 * 10 + 10;
        let outcome = Outcome::Answered(Answer { revision: at as i64 / 10 + 1, body });
        history.operations.push(Operation {
            client: 0,
            session: None,
            invoked: at,
            returned: at + 5,
            request,
            outcome,
        });
    };
    for number in 2..6 {
        add(Request::Put(put("a", number.to_string())), Body::Put { previous: None });
    }
    add(Request::Delete { keys: KeyRange::single("a"), previous: false }, Body::Deleted { count: 1, previous: vec![] });
    let success = vec![Step::Put(put("a", "x".into())), Step::Put(put("b", "x".into()))];
    let bodies = vec![Body::Put { previous: None }, Body::Put { previous: None }];
    add(Request::Txn(Txn { compare: vec![], success, failure: vec![] }), Body::Txn { succeeded: true, bodies });
    let findings = ordered(&history).expect("a good history");
    (history, findings)
}

fn created(revision: i64) -> Response {
    Response { at: 1000, revision, received: Received::Created }
}

fn progress(revision: i64) -> Response {
    Response { at: 1000, revision, received: Received::Progress }
}

fn events(findings: &Findings, of: &[(i64, usize)]) -> Response {
    let events: Vec<Event> = of
        .iter()
        .map(|&(revision, nth)| event(&findings.replay, revision, &findings.replay.changes(revision)[nth], false))
        .collect();
    let revision = events.iter().map(|event| event.kv.modified).max().expect("some events");
    Response { at: 1000, revision, received: Received::Events { events, is_fragment: false } }
}

/// What is said of a watch of everything from revision 2 that got these.
fn rule(make: impl Fn(&Findings) -> Vec<Response>) -> Result<(), Rule> {
    rule_of(WatchSession::new(KeyRange::all(), 2), make)
}

fn rule_of(session: WatchSession, make: impl Fn(&Findings) -> Vec<Response>) -> Result<(), Rule> {
    let (history, findings) = store();
    let session = WatchSession { responses: make(&findings), complete_to: Some(7), ..session };
    check_watch(&history, &findings, &session).map_err(|violation| violation.rule)
}

#[test]
fn all_in_order_is_good_however_it_is_cut() {
    let all: &[(i64, usize)] = &[(2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (7, 1)];
    assert_eq!(rule(|store| vec![created(1), events(store, all)]), Ok(()));
    assert_eq!(rule(|store| vec![created(1), events(store, &all[..3]), progress(4), events(store, &all[3..])]), Ok(()));
    let fragments = |store: &Findings| {
        let mut first = events(store, &all[..6]);
        let Received::Events { is_fragment, .. } = &mut first.received else { unreachable!() };
        *is_fragment = true;
        vec![created(1), first, events(store, &all[6..])]
    };
    assert_eq!(rule(fragments), Ok(()), "a revision may be cut into fragments");
}

#[test]
fn each_broken_guarantee_has_its_name() {
    let rest: &[(i64, usize)] = &[(4, 0), (5, 0), (6, 0), (7, 0), (7, 1)];
    let unordered =
        |store: &Findings| vec![created(1), events(store, &[(3, 0)]), events(store, &[(2, 0)]), events(store, rest)];
    assert_eq!(rule(unordered), Err(Rule::WatchUnordered));
    let swapped = |store: &Findings| {
        vec![created(1), events(store, &[(2, 0), (3, 0)]), events(store, &rest[..3]), events(store, &[(7, 1), (7, 0)])]
    };
    assert_eq!(rule(swapped), Err(Rule::WatchUnordered), "also within a revision");
    let repeated = |store: &Findings| vec![created(1), events(store, &[(2, 0)]), events(store, &[(2, 0), (3, 0)])];
    assert_eq!(rule(repeated), Err(Rule::WatchRepeated));
    let lost = |store: &Findings| vec![created(1), events(store, &[(2, 0)]), events(store, rest)];
    assert_eq!(rule(lost), Err(Rule::WatchLost));
    let lost_at_the_start = |store: &Findings| vec![created(1), events(store, &[(3, 0)]), events(store, rest)];
    assert_eq!(rule(lost_at_the_start), Err(Rule::WatchLost));
    let lost_at_the_end = |store: &Findings| vec![created(1), events(store, &[(2, 0), (3, 0)])];
    assert_eq!(rule(lost_at_the_end), Err(Rule::WatchLost));
    let half_lost = |store: &Findings| vec![created(1), events(store, &[(2, 0), (3, 0)]), events(store, &rest[..4])];
    assert_eq!(rule(half_lost), Err(Rule::WatchLost));
    let torn = |store: &Findings| {
        vec![created(1), events(store, &[(2, 0), (3, 0)]), events(store, &rest[..4]), events(store, &rest[4..])]
    };
    assert_eq!(rule(torn), Err(Rule::WatchTorn));
    let bookmark = |store: &Findings| vec![created(1), events(store, &[(2, 0)]), progress(3), events(store, &[(3, 0)])];
    assert_eq!(rule(bookmark), Err(Rule::WatchBookmark));
    let ahead = |store: &Findings| vec![created(1), events(store, &[(2, 0), (3, 0)]), events(store, rest), progress(8)];
    assert_eq!(rule(ahead), Err(Rule::WatchProgress));
    let back = |store: &Findings| vec![created(1), events(store, &[(2, 0), (3, 0)]), progress(2), events(store, rest)];
    assert_eq!(rule(back), Err(Rule::WatchProgress));
    let from_later = WatchSession::new(KeyRange::all(), 4);
    assert_eq!(
        rule_of(from_later, |store| vec![created(7), events(store, &[(3, 0)]), events(store, rest)]),
        Err(Rule::WatchNotResumed)
    );
}

#[test]
fn what_was_not_asked_for_or_never_happened_is_found() {
    let only_b = || WatchSession::new(KeyRange::single("b"), 2);
    assert_eq!(rule_of(only_b(), |store| vec![created(1), events(store, &[(7, 1)])]), Ok(()));
    assert_eq!(rule_of(only_b(), |store| vec![created(1), events(store, &[(7, 0), (7, 1)])]), Err(Rule::WatchFilter));
    let no_deletes = WatchSession { no_deletes: true, ..WatchSession::new(KeyRange::all(), 6) };
    assert_eq!(rule_of(no_deletes, |store| vec![created(5), events(store, &[(6, 0)])]), Err(Rule::WatchFilter));
    let changed = |change: fn(&mut Event)| {
        move |store: &Findings| {
            let mut response = events(store, &[(2, 0)]);
            let Received::Events { events, .. } = &mut response.received else { unreachable!() };
            change(&mut events[0]);
            vec![created(1), response]
        }
    };
    assert_eq!(rule(changed(|event| event.kv.value = Bytes::from_static(b"9"))), Err(Rule::WatchInvented));
    assert_eq!(rule(changed(|event| event.kv.version = 9)), Err(Rule::WatchInvented));
    assert_eq!(rule(changed(|event| event.previous = Some(event.kv.clone()))), Err(Rule::WatchPrevious));
}

#[test]
fn previous_keys_are_those_before_the_event() {
    let (history, findings) = store();
    let mut session = WatchSession { previous: true, ..WatchSession::new(KeyRange::all(), 3) };
    session = watched(&mut Random(1), &findings.replay, session);
    assert_eq!(check_watch(&history, &findings, &session), Ok(()));
    for response in &mut session.responses {
        if let Received::Events { events, .. } = &mut response.received
            && let Some(event) = events.iter_mut().find(|event| event.kv.modified == 4)
        {
            event.previous = findings.replay.get(b"a", 2).cloned();
        }
    }
    assert_eq!(check_watch(&history, &findings, &session).unwrap_err().rule, Rule::WatchPrevious);
}

#[test]
fn responses_have_their_place() {
    assert_eq!(rule(|store| vec![events(store, &[(2, 0)])]), Err(Rule::WatchProtocol));
    assert_eq!(rule(|_| vec![created(1), created(1)]), Err(Rule::WatchProtocol));
    let compacted = Response { at: 1000, revision: 0, received: Received::Compacted(5) };
    assert_eq!(rule(|_| vec![created(1), compacted.clone()]), Err(Rule::Compaction), "nobody compacted");
    let early = |store: &Findings| {
        let mut response = events(store, &[(2, 0)]);
        response.at = 3;
        vec![created(1), response]
    };
    assert_eq!(rule(early), Err(Rule::WatchProgress), "before the write was asked for");
}

#[test]
fn a_watch_of_everything_tells_what_unknown_writes_did() {
    let (mut history, findings) = store();
    let session = watched(&mut Random(3), &findings.replay, WatchSession::new(KeyRange::all(), 1));
    history.operations[3].outcome = checker::Outcome::Unknown;
    assert_eq!(ordered(&history).unwrap_err().rule, Rule::RevisionUnknown);
    learn(&mut history, &session).unwrap();
    assert_eq!(ordered(&history).unwrap().revisions[3], Some(5));
    let mut other = session;
    for response in &mut other.responses {
        if let Received::Events { events, .. } = &mut response.received {
            events[0].kv.value = Bytes::from_static(b"other");
        }
    }
    assert_eq!(learn(&mut history, &other).unwrap_err().rule, Rule::WatchInvented);
}

#[test]
fn a_watch_is_resumed_after_what_it_saw() {
    let (_, findings) = store();
    let mut session = WatchSession::new(KeyRange::all(), 0);
    assert_eq!(session.resume_from(), None);
    session.responses.push(created(1));
    assert_eq!(session.resume_from(), Some(2));
    session.responses.push(events(&findings, &[(2, 0), (3, 0)]));
    assert_eq!(session.resume_from(), Some(4));
    session.responses.push(progress(6));
    assert_eq!(session.resume_from(), Some(7));
}
