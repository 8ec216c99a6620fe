//! Every kind of wrong answer is found, by its name.

use bytes::Bytes;
use checker::{
    Answer, Body, Change, Comparison, History, KeyValue, Operation, Outcome, Put, RangeQuery, Refusal, Relation,
    Request, Rule, Step, Target, Txn, Verdict, ordered, search,
};
use types::{KeyRange, LeaseId};

/// A history in which one operation happens after the other.
#[derive(Default)]
struct Script(Vec<Operation>);

impl Script {
    fn add(&mut self, request: Request, outcome: Outcome) -> &mut Operation {
        let at = self.0.len() as u64 * 10;
        self.0.push(Operation { client: 0, session: None, invoked: at, returned: at + 5, request, outcome });
        self.0.last_mut().expect("one was just added")
    }

    fn answered(&mut self, request: Request, revision: i64, body: Body) -> &mut Operation {
        self.add(request, Outcome::Answered(Answer { revision, body }))
    }

    fn put(&mut self, key: &'static str, value: &'static str, revision: i64) -> &mut Operation {
        self.answered(put(key, value), revision, Body::Put { previous: None })
    }

    fn read(&mut self, key: &'static str, revision: i64, found: Option<KeyValue>) -> &mut Operation {
        let count = i64::from(found.is_some());
        let body = Body::Range { kvs: found.into_iter().collect(), count, more: false };
        self.answered(Request::Range(RangeQuery::now(KeyRange::single(key))), revision, body)
    }

    fn rule(self, log: &[(i64, Change)]) -> Result<(), Rule> {
        let mut history = History::new();
        history.operations = self.0;
        for (revision, change) in log {
            history.log.entry(*revision).or_default().push(change.clone());
        }
        ordered(&history).map(|_| ()).map_err(|violation| violation.rule)
    }
}

fn put(key: &'static str, value: &'static str) -> Request {
    Request::Put(Put { key: key.into(), value: value.into(), lease: LeaseId::NONE, previous: false })
}

fn kv(key: &'static str, value: &'static str, created: i64, modified: i64, version: i64) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), created, modified, version, lease: LeaseId::NONE }
}

fn change(key: &'static str, value: &'static str) -> Change {
    Change { key: key.into(), put: Some((Bytes::from(value), LeaseId::NONE)) }
}

fn deletion(key: &'static str) -> Change {
    Change { key: key.into(), put: None }
}

#[test]
fn a_plain_history_is_good() {
    let mut script = Script::default();
    script.read("a", 1, None);
    script.put("a", "1", 2);
    script.read("a", 2, Some(kv("a", "1", 2, 2, 1)));
    script.put("a", "2", 3);
    script.read("a", 3, Some(kv("a", "2", 2, 3, 2)));
    assert_eq!(script.rule(&[]), Ok(()));
}

#[test]
fn a_lost_write_shows_in_the_next_read_or_revision() {
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.read("a", 2, None);
    assert_eq!(script.rule(&[]), Err(Rule::WrongAnswer));
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("a", "2", 2);
    assert_eq!(script.rule(&[]), Err(Rule::RevisionRepeated));
}

#[test]
fn a_stale_read_is_found_by_time_alone() {
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("a", "2", 3);
    script.read("a", 2, Some(kv("a", "1", 2, 2, 1)));
    assert_eq!(script.rule(&[]), Err(Rule::RealTime));
    // While the second write was still under way it was good.
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("a", "2", 3).returned = 100;
    script.read("a", 2, Some(kv("a", "1", 2, 2, 1)));
    assert_eq!(script.rule(&[]), Ok(()));
}

#[test]
fn a_read_of_a_write_to_come_is_found() {
    let mut script = Script::default();
    script.read("a", 2, Some(kv("a", "1", 2, 2, 1)));
    script.put("a", "1", 2);
    assert_eq!(script.rule(&[]), Err(Rule::FromTheFuture));
}

#[test]
fn writes_that_overtake_real_time_are_found() {
    let mut script = Script::default();
    script.put("a", "1", 3);
    script.put("b", "1", 2);
    assert_eq!(script.rule(&[]), Err(Rule::RealTime));
}

#[test]
fn an_effect_that_nobody_asked_for_is_found() {
    let mut script = Script::default();
    script.put("a", "1", 2);
    assert_eq!(script.rule(&[(3, change("a", "9"))]), Err(Rule::EffectUnexplained));
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.add(put("a", "9"), Outcome::Failed);
    assert_eq!(script.rule(&[(3, change("a", "9"))]), Err(Rule::EffectUnexplained), "a failed write has no effect");
    let mut script = Script::default();
    script.add(put("a", "9"), Outcome::Unknown);
    script.put("a", "1", 3);
    assert_eq!(script.rule(&[(2, change("a", "9"))]), Ok(()), "an unknown one may have");
    let mut script = Script::default();
    script.add(put("a", "9"), Outcome::Unknown);
    let twice = [(2, change("a", "9")), (3, change("a", "9"))];
    assert_eq!(script.rule(&twice), Err(Rule::EffectUnexplained), "but only once");
    let mut script = Script::default();
    script.put("a", "1", 2);
    assert_eq!(script.rule(&[(2, change("a", "2"))]), Err(Rule::EffectUnexplained), "watchers saw another value");
}

#[test]
fn an_unknown_write_happens_only_after_it_was_asked_for() {
    let mut script = Script::default();
    script.put("a", "1", 3);
    script.add(put("a", "9"), Outcome::Unknown);
    assert_eq!(script.rule(&[(2, change("a", "9"))]), Err(Rule::EffectUnexplained));
}

#[test]
fn unknown_writes_are_dealt_out_so_that_all_fit() {
    // The deletion of all could also explain revision 4, but then nothing explains 5.
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("b", "1", 3);
    script.add(Request::Delete { keys: KeyRange::all(), previous: false }, Outcome::Unknown);
    script.add(Request::Delete { keys: KeyRange::single("b"), previous: false }, Outcome::Unknown);
    assert_eq!(script.rule(&[(4, deletion("b")), (5, deletion("a"))]), Ok(()));
}

#[test]
fn a_revision_that_nothing_tells_of_is_named() {
    let mut script = Script::default();
    script.put("a", "1", 3);
    assert_eq!(script.rule(&[]), Err(Rule::RevisionUnknown));
    let mut script = Script::default();
    script.read("a", 5, None);
    assert_eq!(script.rule(&[]), Err(Rule::RevisionUnknown));
}

#[test]
fn transactions_follow_from_the_state_before_them() {
    let txn = |value| {
        let compare = vec![Comparison { key: "a".into(), target: Target::Modified(2), relation: Relation::Equal }];
        let Request::Put(put) = put("a", value) else { unreachable!() };
        Request::Txn(Txn { compare, success: vec![Step::Put(put)], failure: vec![] })
    };
    let wrote = || Body::Txn { succeeded: true, bodies: vec![Body::Put { previous: None }] };
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.answered(txn("2"), 3, wrote());
    script.answered(txn("3"), 3, Body::Txn { succeeded: false, bodies: vec![] });
    assert_eq!(script.rule(&[]), Ok(()));
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.answered(txn("2"), 3, wrote());
    script.answered(txn("3"), 4, wrote());
    assert_eq!(script.rule(&[]), Err(Rule::WrongAnswer), "both cannot have found revision 2");
}

#[test]
fn previous_keys_and_counts_are_checked() {
    let with_previous =
        || Request::Put(Put { key: "a".into(), value: "2".into(), lease: LeaseId::NONE, previous: true });
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.answered(with_previous(), 3, Body::Put { previous: Some(kv("a", "1", 2, 2, 2)) });
    assert_eq!(script.rule(&[]), Err(Rule::WrongAnswer));
    let mut script = Script::default();
    script.put("a", "1", 2);
    let delete = Request::Delete { keys: KeyRange::all(), previous: false };
    script.answered(delete, 2, Body::Deleted { count: 0, previous: vec![] });
    assert_eq!(script.rule(&[]), Err(Rule::WrongAnswer), "there was something to delete");
}

#[test]
fn the_operations_that_contradict_each_other_are_named() {
    let mut script = Script::default();
    script.put("b", "1", 2);
    script.put("a", "1", 3);
    script.put("a", "2", 4);
    script.read("a", 4, Some(kv("a", "1", 3, 3, 1)));
    let mut history = History::new();
    history.operations = script.0;
    assert_eq!(ordered(&history).unwrap_err().operations, [1, 2, 3]);
}

#[test]
fn serializable_reads_may_be_old_but_not_wrong_and_do_not_go_back() {
    let stale = |script: &mut Script, revision, found: Option<KeyValue>| {
        let query = RangeQuery { serializable: true, ..RangeQuery::now(KeyRange::single("a")) };
        let count = i64::from(found.is_some());
        let body = Body::Range { kvs: found.into_iter().collect(), count, more: false };
        script.answered(Request::Range(query), revision, body).session = Some(1);
    };
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("a", "2", 3);
    stale(&mut script, 2, Some(kv("a", "1", 2, 2, 1)));
    stale(&mut script, 3, Some(kv("a", "2", 2, 3, 2)));
    assert_eq!(script.rule(&[]), Ok(()));
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("a", "2", 3);
    stale(&mut script, 3, Some(kv("a", "1", 2, 2, 1)));
    assert_eq!(script.rule(&[]), Err(Rule::WrongAnswer));
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("a", "2", 3);
    stale(&mut script, 3, Some(kv("a", "2", 2, 3, 2)));
    stale(&mut script, 2, Some(kv("a", "1", 2, 2, 1)));
    assert_eq!(script.rule(&[]), Err(Rule::SessionWentBack));
}

#[test]
fn what_is_compacted_is_not_read_and_what_is_not_is() {
    let at = |revision| Request::Range(RangeQuery { revision, ..RangeQuery::now(KeyRange::single("a")) });
    let old = || Body::Range { kvs: vec![kv("a", "1", 2, 2, 1)], count: 1, more: false };
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("a", "2", 3);
    script.answered(at(2), 3, old());
    script.answered(Request::Compact(3), 3, Body::Compacted);
    script.add(at(2), Outcome::Refused(Refusal::Compacted));
    assert_eq!(script.rule(&[]), Ok(()));
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.put("a", "2", 3);
    script.answered(Request::Compact(3), 3, Body::Compacted);
    script.answered(at(2), 3, old());
    assert_eq!(script.rule(&[]), Err(Rule::Compaction));
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.add(at(2), Outcome::Refused(Refusal::Compacted));
    assert_eq!(script.rule(&[]), Err(Rule::WronglyRefused));
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.add(at(2), Outcome::Refused(Refusal::FutureRevision));
    assert_eq!(script.rule(&[]), Err(Rule::WronglyRefused));
}

#[test]
fn keys_hang_only_from_leases_that_live() {
    let lease = LeaseId(7);
    let under = || Request::Put(Put { key: "a".into(), value: "1".into(), lease, previous: false });
    let grant = |script: &mut Script| {
        script.answered(Request::Grant { lease, ttl: 5 }, 1, Body::Granted { ttl: 5 });
    };
    let mut script = Script::default();
    script.answered(under(), 2, Body::Put { previous: None });
    assert_eq!(script.rule(&[]), Err(Rule::UnknownLease));
    let mut script = Script::default();
    grant(&mut script);
    script.answered(under(), 2, Body::Put { previous: None });
    script.answered(Request::Revoke(lease), 3, Body::Revoked);
    script.read("a", 3, None);
    assert_eq!(script.rule(&[]), Ok(()));
    let mut script = Script::default();
    grant(&mut script);
    script.answered(Request::Revoke(lease), 1, Body::Revoked);
    script.answered(under(), 2, Body::Put { previous: None });
    assert_eq!(script.rule(&[]), Err(Rule::UnknownLease));
    let mut script = Script::default();
    grant(&mut script);
    script.answered(under(), 2, Body::Put { previous: None });
    assert_eq!(script.rule(&[(3, deletion("a"))]), Ok(()), "it ran out");
    let mut script = Script::default();
    grant(&mut script);
    script.answered(under(), 2, Body::Put { previous: None });
    script.answered(
        Request::Put(Put { key: "b".into(), value: "1".into(), lease, previous: false }),
        3,
        Body::Put { previous: None },
    );
    assert_eq!(script.rule(&[(4, deletion("a"))]), Err(Rule::EffectUnexplained), "it would have taken both");
}

#[test]
fn a_guess_at_who_ended_a_lease_is_held_against_nobody() {
    let lease = LeaseId(7);
    let under =
        |value: &'static str| Request::Put(Put { key: "a".into(), value: value.into(), lease, previous: false });
    let mut script = Script::default();
    script.answered(Request::Grant { lease, ttl: 5 }, 1, Body::Granted { ttl: 5 });
    script.answered(under("1"), 2, Body::Put { previous: None });
    script.add(Request::Revoke(lease), Outcome::Unknown);
    script.add(Request::Delete { keys: KeyRange::all(), previous: false }, Outcome::Unknown);
    script.answered(under("2"), 4, Body::Put { previous: None });
    assert_eq!(script.rule(&[(3, deletion("a"))]), Ok(()), "it was deleted, and the lease lived on");
}

#[test]
fn what_was_seen_before_it_was_asked_for_is_somebody_elses_work() {
    let mut script = Script::default();
    script.put("a", "1", 2);
    script.add(Request::Delete { keys: KeyRange::all(), previous: false }, Outcome::Unknown);
    let mut history = History::new();
    history.operations = script.0;
    history.log.insert(3, vec![deletion("a")]);
    history.seen.insert(3, 12);
    assert!(ordered(&history).is_ok());
    history.seen.insert(3, 9);
    assert_eq!(ordered(&history).unwrap_err().rule, Rule::EffectUnexplained);
    history.log.clear();
    history.seen = [(2, 5)].into();
    assert!(ordered(&history).is_ok());
    history.operations[0].invoked = 6;
    history.operations[0].returned = 9;
    assert_eq!(ordered(&history).unwrap_err().rule, Rule::FromTheFuture);
}

/// The known example in which every pair looks good and the whole does not.
#[test]
fn the_search_finds_what_no_order_explains() {
    let mut history = History::new();
    let mut script = Script::default();
    script.put("a", "1", 2).returned = 100;
    script.read("a", 2, Some(kv("a", "1", 2, 2, 1)));
    script.read("a", 1, None);
    history.operations = script.0;
    assert_eq!(search(&history, 1000), Verdict::NotLinearizable);
    assert_eq!(ordered(&history).unwrap_err().rule, Rule::RealTime);
    history.operations.swap(1, 2);
    for (at, operation) in history.operations.iter_mut().enumerate() {
        operation.invoked = at as u64 * 10;
    }
    history.operations[1].returned = 15;
    history.operations[2].returned = 25;
    assert_eq!(search(&history, 1000), Verdict::Linearizable);
    assert_eq!(search(&history, 1), Verdict::GaveUp);
}
