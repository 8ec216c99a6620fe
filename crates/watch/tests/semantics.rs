//! The rules of etcd's watch API, one test a rule.

mod common;

use std::time::Duration;

use common::*;
use env::Monotonic;
use types::KeyRange;
use watch::{CreateRequest, Hub, HubOptions, LogLimits, Next, StreamId};

struct Setup {
    store: Store,
    hub: Hub,
    stream: StreamId,
}

impl Setup {
    fn new() -> Setup {
        Setup::with(LogLimits::default(), HubOptions::default())
    }

    fn with(limits: LogLimits, options: HubOptions) -> Setup {
        let store = Store::new(limits);
        let mut hub = hub(&store, options);
        let stream = hub.open_stream();
        Setup { store, hub, stream }
    }

    fn create(&mut self, request: &CreateRequest) {
        self.hub.create(self.stream, request, START);
    }

    fn commit<const N: usize>(&mut self, ops: [Op; N]) {
        self.store.commit(ops);
        self.hub.advance();
    }

    fn output(&mut self) -> Vec<String> {
        shown(&drain(&mut self.hub, self.stream, &self.store))
    }

    fn expect<const N: usize>(&mut self, expected: [&str; N]) {
        assert_eq!(self.output(), expected);
    }
}

fn key(name: &str) -> KeyRange {
    KeyRange::single(name.to_owned())
}

fn prefix(name: &str) -> KeyRange {
    KeyRange::prefix(name.as_bytes())
}

fn range(start: &'static str, end: &'static str) -> KeyRange {
    KeyRange::from_wire(start.into(), end.into())
}

#[test]
fn created_comes_first_and_events_follow_from_the_next_revision() {
    let mut t = Setup::new();
    t.commit([put("a", "1")]);
    t.create(&watch(key("a")));
    t.commit([put("a", "2")]);
    t.commit([put("b", "2")]);
    t.expect(["0@2 created", "0@3 put a=2 ^3"]);
}

#[test]
fn chosen_ids_count_up_and_skip_those_in_use() {
    let mut t = Setup::new();
    for watch_id in [0, 1, 0, 5, 0] {
        t.create(&CreateRequest { watch_id, ..watch(key("a")) });
    }
    t.expect(["0@1 created", "1@1 created", "2@1 created", "5@1 created", "3@1 created"]);
    t.hub.cancel(t.stream, 0);
    t.create(&watch(key("a")));
    t.expect(["0@1 canceled", "4@1 created"]);
    t.create(&watch(key("a")));
    t.expect(["6@1 created"]);
}

#[test]
fn duplicate_id_is_refused_and_the_holder_lives_on() {
    let mut t = Setup::new();
    t.create(&CreateRequest { watch_id: 3, ..watch(key("a")) });
    t.create(&CreateRequest { watch_id: 3, ..watch(key("b")) });
    t.commit([put("a", "1"), put("b", "1")]);
    t.expect([
        "3@1 created",
        "-1@1 created canceled reason=\"mvcc: duplicate watch ID provided on the WatchStream\"",
        "3@2 put a=1 ^2",
    ]);
}

#[test]
fn cancelled_id_may_be_given_again() {
    let mut t = Setup::new();
    t.create(&CreateRequest { watch_id: 3, ..watch(key("a")) });
    t.hub.cancel(t.stream, 3);
    t.create(&CreateRequest { watch_id: 3, ..watch(key("b")) });
    t.commit([put("a", "1"), put("b", "1")]);
    t.expect(["3@1 created", "3@1 canceled", "3@1 created", "3@2 put b=1 ^2"]);
}

#[test]
fn empty_range_is_refused() {
    let mut t = Setup::new();
    t.create(&watch(range("b", "a")));
    t.create(&watch(range("b", "b")));
    let refused = "-1@1 created canceled reason=\"mvcc: watcher range is empty\"";
    t.expect([refused, refused]);
    assert_eq!(t.hub.counts().watchers, 0);
}

#[test]
fn negative_start_is_refused() {
    let mut t = Setup::new();
    t.create(&watch_from(key("a"), -1));
    t.expect(["-1@1 created canceled reason=\"etcdserver: mvcc: required revision has been compacted\""]);
}

#[test]
fn cancel_of_a_refused_watch_leaves_others_alone() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    t.create(&watch(range("b", "a")));
    t.hub.cancel(t.stream, -1);
    t.commit([put("a", "1")]);
    assert_eq!(t.output().last().map(String::as_str), Some("0@2 put a=1 ^2"));
}

#[test]
fn refusal_by_the_caller_keeps_the_stream() {
    let mut t = Setup::new();
    t.hub.refuse(t.stream, "no");
    t.create(&watch(key("a")));
    t.expect(["-1@1 created canceled reason=\"no\"", "0@1 created"]);
}

#[test]
fn refusal_on_an_idle_hub_bears_the_current_revision() {
    let mut t = Setup::new();
    t.store.commit([put("a", "1")]);
    t.hub.refuse(t.stream, "no");
    t.expect(["-1@2 created canceled reason=\"no\""]);
}

#[test]
fn range_ends_have_their_wire_meaning() {
    let mut t = Setup::new();
    t.create(&watch(range("b", "")));
    t.create(&watch(range("b", "d")));
    t.create(&watch(range("c", "\0")));
    t.create(&watch(range("", "")));
    t.create(&watch(range("", "\0")));
    t.output();
    for name in ["\0", "b", "c", "d"] {
        t.commit([put(name, "")]);
    }
    let mut output = t.output();
    output.sort();
    let mut expected = [
        "3@2 put \0= ^2",
        "4@2 put \0= ^2",
        "0@3 put b= ^3",
        "1@3 put b= ^3",
        "4@3 put b= ^3",
        "1@4 put c= ^4",
        "2@4 put c= ^4",
        "4@4 put c= ^4",
        "2@5 put d= ^5",
        "4@5 put d= ^5",
    ];
    expected.sort_unstable();
    assert_eq!(output, expected);
}

#[test]
fn cancel_answers_live_ids_only() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    t.hub.cancel(t.stream, 0);
    t.hub.cancel(t.stream, 0);
    t.hub.cancel(t.stream, 9);
    t.commit([put("a", "1")]);
    t.expect(["0@1 created", "0@1 canceled"]);
}

#[test]
fn one_response_a_revision_with_all_its_events_in_order() {
    let mut t = Setup::new();
    t.create(&watch(prefix("a")));
    t.commit([put("a2", "x"), put("b", "x"), put("a1", "x")]);
    t.commit([put("a1", "y"), delete("a2")]);
    t.expect(["0@1 created", "0@2 put a2=x ^2, put a1=x ^2", "0@3 put a1=y ^3, delete a2 ^3"]);
}

#[test]
fn past_start_replays_history_then_goes_on_live() {
    let mut t = Setup::new();
    for value in ["1", "2", "3"] {
        t.commit([put("a", value)]);
    }
    t.create(&watch_from(key("a"), 3));
    t.expect(["0@4 created", "0@4 put a=2 ^3, put a=3 ^4"]);
    t.commit([put("a", "4")]);
    t.expect(["0@5 put a=4 ^5"]);
    assert_eq!(t.hub.counts().behind, 0);
}

#[test]
fn writes_during_a_load_come_after_it_once() {
    let mut t = Setup::new();
    t.commit([put("a", "1")]);
    t.create(&watch_from(key("a"), 2));
    let Next::Load(load) = t.hub.next_message(t.stream) else { panic!("history is needed") };
    t.expect(["0@2 created"]);
    let loaded = t.store.load(&load, 1000);
    t.commit([put("a", "2")]);
    assert!(matches!(t.hub.next_message(t.stream), Next::Idle));
    t.hub.history_loaded(load.ticket, loaded);
    t.commit([put("a", "3")]);
    t.expect(["0@3 put a=1 ^2", "0@4 put a=2 ^3, put a=3 ^4"]);
}

#[test]
fn long_history_comes_a_thousand_revisions_at_a_time() {
    let mut t = Setup::new();
    for _ in 0..2500 {
        t.store.commit([put("a", "x")]);
    }
    t.create(&watch_from(key("a"), 2));
    let messages = drain(&mut t.hub, t.stream, &t.store);
    let counts: Vec<usize> = messages.iter().map(|message| message.events().count()).collect();
    assert_eq!(counts, [0, 1000, 1000, 500]);
    assert!(messages.iter().all(|message| message.revision == 2501));
}

#[test]
fn start_below_the_compacted_revision_is_told_so_and_the_stream_stays() {
    let mut t = Setup::new();
    for value in ["1", "2", "3"] {
        t.commit([put("a", value)]);
    }
    t.store.compact(3);
    t.create(&watch_from(key("a"), 2));
    t.create(&watch_from(key("a"), 3));
    t.expect(["0@4 created", "0@0 canceled compacted=3", "1@4 created", "1@4 put a=2 ^3, put a=3 ^4"]);
    t.hub.cancel(t.stream, 0);
    t.expect(["0@4 canceled"]);
}

#[test]
fn watcher_that_waits_for_history_is_cancelled_when_it_is_compacted() {
    let mut t = Setup::new();
    for value in ["1", "2", "3"] {
        t.commit([put("a", value)]);
    }
    t.create(&watch_from(key("a"), 2));
    t.create(&watch_from(key("a"), 4));
    t.store.compact(4);
    t.expect(["0@4 created", "1@4 created", "0@0 canceled compacted=4", "1@4 put a=3 ^4"]);
}

#[test]
fn delete_at_the_compacted_revision_is_replayed() {
    let mut t = Setup::new();
    for op in [put("a", "1"), put("a", "2"), put("a", "3"), delete("a"), put("a", "4")] {
        t.commit([op]);
    }
    t.store.compact(5);
    t.create(&watch_from(key("a"), 5));
    t.expect(["0@6 created", "0@6 delete a ^5, put a=4 ^6"]);
}

#[test]
fn future_start_sends_nothing_below_it() {
    let mut t = Setup::new();
    t.create(&CreateRequest { progress_notify: true, ..watch_from(key("a"), 4) });
    t.commit([put("a", "1")]);
    t.commit([put("a", "2")]);
    t.hub.request_progress(t.stream);
    t.hub.tick(Monotonic(Duration::from_secs(601)));
    t.expect(["0@1 created"]);
    t.commit([put("a", "3")]);
    t.hub.request_progress(t.stream);
    t.expect(["0@4 put a=3 ^4", "-1@4"]);
}

#[test]
fn future_start_survives_a_snapshot_that_jumps_over_it() {
    let mut t = Setup::new();
    t.create(&watch_from(key("a"), 4));
    // The snapshot brings revisions 2 to 6; the log never sees their events.
    for value in ["1", "2", "3", "4", "5"] {
        t.store.txn([put("a", value)]);
    }
    t.store.log.skip_to(6);
    t.hub.advance();
    t.expect(["0@1 created", "0@6 put a=3 ^4, put a=4 ^5, put a=5 ^6"]);
    t.create(&watch_from(key("a"), 8));
    t.store.txn([put("a", "6")]);
    t.store.log.skip_to(7);
    t.store.compact(7);
    t.hub.advance();
    t.commit([put("a", "7")]);
    // The second one was live all along, the first had to look into history.
    t.expect(["1@6 created", "1@8 put a=7 ^8", "0@8 put a=6 ^7, put a=7 ^8"]);
}

/// The store jumps from revision 3 to 9, compacted at 6. What it wrote before this member's log ended is all in history.
#[test]
fn snapshot_sends_watchers_into_history_or_tells_them_that_it_is_compacted() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    t.create(&watch_from(key("a"), 7));
    t.create(&watch_from(key("a"), 12));
    t.commit([put("a", "2")]);
    t.commit([put("a", "3")]);
    t.expect(["0@1 created", "1@1 created", "2@1 created", "0@2 put a=2 ^2", "0@3 put a=3 ^3"]);
    (4..10).for_each(|revision| drop(t.store.txn([put("a", &revision.to_string())])));
    t.store.compacted = 6;
    t.store.log.reset(9, 6);
    t.hub.advance();
    t.expect(["0@0 canceled compacted=6", "1@9 put a=7 ^7, put a=8 ^8, put a=9 ^9"]);
    t.commit([put("a", "10")]);
    t.create(&watch_from(key("a"), 9));
    t.expect(["1@10 put a=10 ^10", "3@10 created", "3@10 put a=9 ^9, put a=10 ^10"]);
    t.commit([put("a", "11")]);
    t.commit([put("a", "12")]);
    t.expect(["1@11 put a=11 ^11", "3@11 put a=11 ^11", "2@12 put a=12 ^12", "1@12 put a=12 ^12", "3@12 put a=12 ^12"]);
}

#[test]
fn snapshot_of_the_same_revision_may_only_compact() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    t.commit([put("a", "2")]);
    t.store.log.reset(2, 2);
    assert_eq!((t.store.log.revision(), t.store.log.compacted()), (2, 2));
    t.store.log.reset(1, -1);
    assert_eq!((t.store.log.revision(), t.store.log.compacted()), (2, 2));
    t.commit([put("a", "3")]);
    t.expect(["0@1 created", "0@2 put a=2 ^2", "0@3 put a=3 ^3"]);
}

#[test]
fn filters_drop_events_and_empty_responses() {
    let mut t = Setup::new();
    t.create(&CreateRequest { no_put: true, ..watch(key("a")) });
    t.create(&CreateRequest { no_delete: true, ..watch(key("a")) });
    t.create(&CreateRequest { no_put: true, no_delete: true, ..watch(key("a")) });
    t.output();
    t.commit([put("a", "1")]);
    t.commit([delete("a")]);
    t.expect(["1@2 put a=1 ^2", "0@3 delete a ^3"]);
    t.create(&CreateRequest { no_put: true, ..watch_from(key("a"), 2) });
    t.expect(["3@3 created", "3@3 delete a ^3"]);
}

#[test]
fn progress_is_answered_only_when_all_watchers_are_live() {
    let mut t = Setup::new();
    t.hub.request_progress(t.stream);
    t.expect([]);
    t.commit([put("a", "1")]);
    t.create(&watch(key("b")));
    t.hub.request_progress(t.stream);
    t.expect(["0@2 created", "-1@2"]);
    t.create(&watch_from(key("a"), 2));
    t.hub.request_progress(t.stream);
    t.expect(["1@2 created", "1@2 put a=1 ^2"]);
    t.hub.request_progress(t.stream);
    t.expect(["-1@2"]);
}

#[test]
fn progress_covers_what_was_published_and_follows_its_events() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    t.store.commit([put("a", "1")]); // the hub has not advanced yet
    t.hub.request_progress(t.stream);
    t.expect(["0@1 created", "0@2 put a=1 ^2", "-1@2"]);
}

#[test]
fn watcher_cancelled_by_compaction_blocks_progress_until_the_client_cancels_it() {
    let mut t = Setup::new();
    t.commit([put("a", "1")]);
    t.commit([put("a", "2")]);
    t.store.compact(3);
    t.create(&watch_from(key("a"), 2));
    t.create(&watch(key("a")));
    t.output();
    t.hub.request_progress(t.stream);
    t.expect([]);
    t.hub.cancel(t.stream, 0);
    t.hub.request_progress(t.stream);
    t.expect(["0@3 canceled", "-1@3"]);
}

#[test]
fn cancelled_future_watcher_no_longer_blocks_progress() {
    let mut t = Setup::new();
    t.create(&watch_from(key("a"), 100));
    t.create(&watch(key("a")));
    t.hub.request_progress(t.stream);
    t.expect(["0@1 created", "1@1 created"]);
    t.hub.cancel(t.stream, 0);
    t.hub.request_progress(t.stream);
    t.expect(["0@1 canceled", "-1@1"]);
}

#[test]
fn silent_watcher_gets_a_notice_each_interval_whatever_others_write() {
    let options = HubOptions { progress_notify_interval: Duration::from_secs(10), ..HubOptions::default() };
    let mut t = Setup::with(LogLimits::default(), options);
    t.create(&CreateRequest { progress_notify: true, ..watch(key("a")) });
    t.create(&watch(key("c")));
    t.output();
    let at = |seconds| Monotonic(Duration::from_secs(seconds));
    assert_eq!(t.hub.next_tick(), Some(at(10)));
    t.commit([put("b", "1")]);
    t.hub.tick(at(9));
    t.expect([]);
    t.hub.tick(at(10));
    t.expect(["0@2"]);
    t.commit([put("a", "1")]);
    t.hub.tick(at(20));
    t.expect(["0@3 put a=1 ^3"]);
    t.hub.tick(at(30));
    t.expect(["0@3"]);
    t.hub.cancel(t.stream, 0);
    assert_eq!(t.hub.next_tick(), None);
}

#[test]
fn reader_that_stops_costs_a_bounded_queue_and_loses_nothing() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    for value in 0..1000 {
        t.commit([put("a", &value.to_string())]);
    }
    assert_eq!(t.hub.counts().behind, 1);
    let messages = drain(&mut t.hub, t.stream, &t.store);
    assert!(messages.len() < 140, "{}", messages.len());
    let revisions: Vec<i64> =
        messages.iter().flat_map(|message| message.events()).map(|event| event.row.revision.main).collect();
    assert_eq!(revisions, (2..1002).collect::<Vec<i64>>());
    assert_eq!(t.hub.counts().behind, 0);
    t.commit([put("a", "last")]);
    t.expect(["0@1002 put a=last ^1002"]);
}

#[test]
fn parked_watcher_blocks_progress() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    for _ in 0..200 {
        t.commit([put("a", "x")]);
    }
    t.hub.request_progress(t.stream);
    let messages = drain(&mut t.hub, t.stream, &t.store);
    assert!(messages.iter().all(|message| message.watch_id == 0));
}

#[test]
fn large_values_park_a_watcher_before_many_responses_wait() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    let value = "x".repeat(1 << 20);
    for _ in 0..20 {
        t.commit([put("a", &value)]);
    }
    assert_eq!(t.hub.counts().behind, 1);
    let messages = drain(&mut t.hub, t.stream, &t.store);
    assert_eq!(messages.iter().map(|message| message.events().count()).sum::<usize>(), 20);
}

/// From the log and from history, one watcher or several: without any room at all they would never get anywhere.
#[test]
fn watchers_go_on_however_little_may_wait_for_them() {
    for held_bytes_max in [0, 1] {
        let options = HubOptions { responses_max: 0, held_bytes_max, catch_up_bytes_max: 0, ..HubOptions::default() };
        let mut t = Setup::with(LogLimits { revisions_max: 4, bytes_max: 1 << 20 }, options);
        t.create(&watch(key("a")));
        t.create(&watch(prefix("a")));
        for _ in 0..10 {
            t.commit([put("a", "x")]);
        }
        assert_eq!(t.hub.counts().behind, 2);
        t.create(&watch_from(key("a"), 5));
        let messages = drain(&mut t.hub, t.stream, &t.store);
        for (watcher, first) in [(0, 2), (1, 2), (2, 5)] {
            let events = messages.iter().filter(|message| message.watch_id == watcher).flat_map(|m| m.events());
            let revisions = events.map(|event| event.row.revision.main);
            assert_eq!(revisions.collect::<Vec<_>>(), (first..12).collect::<Vec<_>>(), "watcher {watcher}");
        }
        assert_eq!(t.hub.counts().behind, 0);
    }
}

#[test]
fn worker_that_missed_the_log_reads_history() {
    let mut t = Setup::with(LogLimits { revisions_max: 10, bytes_max: 1 << 20 }, HubOptions::default());
    t.create(&watch(key("a")));
    t.create(&watch_from(key("a"), 90));
    t.create(&watch_from(key("a"), 200));
    t.output();
    let mut ready = Vec::new();
    t.hub.take_ready(&mut ready);
    ready.clear();
    for _ in 0..100 {
        t.store.commit([put("a", "x")]);
    }
    t.hub.advance();
    t.hub.take_ready(&mut ready);
    assert_eq!(ready, [t.stream]);
    let messages = drain(&mut t.hub, t.stream, &t.store);
    let seen = |id| messages.iter().filter(|m| m.watch_id == id).flat_map(|m| m.events()).count();
    assert_eq!((seen(0), seen(1), seen(2)), (100, 12, 0));
}

#[test]
fn large_response_is_split_only_if_allowed_and_all_but_the_last_part_say_so() {
    let options = HubOptions { fragment_bytes_max: 250, ..HubOptions::default() };
    let mut t = Setup::with(LogLimits::default(), options);
    t.create(&CreateRequest { fragment: true, ..watch(prefix("k")) });
    t.create(&watch(prefix("k")));
    t.output();
    let value = "v".repeat(80);
    t.commit([put("k1", &value), put("k2", &value), put("k3", &value), put("k4", &value), put("k5", &value)]);
    t.commit([put("k6", &"v".repeat(500))]);
    let messages = drain(&mut t.hub, t.stream, &t.store);
    let parts: Vec<(i64, i64, usize, bool)> =
        messages.iter().map(|m| (m.watch_id, m.revision, m.events().count(), m.fragment)).collect();
    assert_eq!(
        parts,
        [(0, 2, 2, true), (0, 2, 2, true), (0, 2, 1, false), (1, 2, 5, false), (0, 3, 1, false), (1, 3, 1, false)]
    );
}

#[test]
fn several_watchers_share_a_load() {
    let mut t = Setup::new();
    for name in ["a", "b", "c"] {
        t.store.commit([put(name, "1")]);
    }
    t.create(&watch_from(key("a"), 2));
    t.create(&watch_from(prefix("c"), 3));
    t.create(&watch_from(key("b"), 4));
    let Next::Load(load) = t.hub.next_message(t.stream) else { panic!("history is needed") };
    assert_eq!((load.from, load.to), (2, 4));
    assert_eq!(load.range, range("a", "d"));
    let loaded = t.store.load(&load, 1000);
    t.hub.history_loaded(load.ticket, loaded);
    t.expect(["0@4 created", "1@4 created", "2@4 created", "0@4 put a=1 ^2", "1@4 put c=1 ^4"]);
}

#[test]
fn compaction_during_a_load_cancels_only_those_below_it() {
    let mut t = Setup::new();
    for value in ["1", "2", "3"] {
        t.store.commit([put("a", value)]);
    }
    t.create(&watch_from(key("a"), 2));
    t.create(&watch_from(key("a"), 4));
    let Next::Load(load) = t.hub.next_message(t.stream) else { panic!("history is needed") };
    t.store.compact(4);
    t.hub.history_loaded(load.ticket, t.store.load(&load, 1000));
    t.expect(["0@4 created", "1@4 created", "0@0 canceled compacted=4", "1@4 put a=3 ^4"]);
}

#[test]
fn stream_closed_during_a_load_is_forgotten() {
    let mut t = Setup::new();
    t.store.commit([put("a", "1")]);
    t.create(&watch_from(key("a"), 2));
    let Next::Load(load) = t.hub.next_message(t.stream) else { panic!("history is needed") };
    t.hub.close_stream(t.stream);
    t.hub.history_loaded(load.ticket, t.store.load(&load, 1000));
    assert!(matches!(t.hub.next_message(t.stream), Next::Idle));
    assert_eq!(t.hub.counts(), watch::Counts::default());
}

#[test]
fn unreadable_history_cancels_the_watcher_with_the_reason() {
    let mut t = Setup::new();
    t.store.commit([put("a", "1")]);
    t.create(&watch_from(key("a"), 2));
    let Next::Load(load) = t.hub.next_message(t.stream) else { panic!("history is needed") };
    t.hub.history_loaded(load.ticket, Err(watch::HistoryError::Failed("disk".into())));
    t.expect(["0@2 created", "0@2 canceled reason=\"disk\""]);
}

#[test]
fn streams_are_named_ready_once_until_idle() {
    let mut t = Setup::new();
    t.create(&watch(key("a")));
    t.commit([put("a", "1")]);
    let mut ready = Vec::new();
    t.hub.take_ready(&mut ready);
    assert_eq!(ready, [t.stream]);
    t.output();
    ready.clear();
    t.commit([put("b", "1")]);
    t.hub.take_ready(&mut ready);
    assert_eq!(ready, []);
    t.commit([put("a", "2")]);
    t.hub.take_ready(&mut ready);
    assert_eq!(ready, [t.stream]);
}

#[test]
fn events_are_counted_while_they_wait_and_once_they_leave() {
    let mut t = Setup::new();
    t.store.commit([put("a", "old")]);
    t.create(&watch(prefix("a")));
    t.create(&watch_from(key("a"), 2));
    let counted = |t: &Setup| (t.hub.counts().events_waiting, t.hub.counts().events_sent);
    t.output();
    assert_eq!(counted(&t), (0, 1), "from history");
    t.commit([put("a", "1"), put("ab", "1")]);
    assert_eq!(counted(&t), (3, 1), "two of the one watcher, one of the other");
    t.output();
    assert_eq!(counted(&t), (0, 4));
    t.commit([put("a", "2")]);
    t.hub.close_stream(t.stream);
    assert_eq!(counted(&t), (0, 4), "what nobody takes waits no more");
}

#[test]
fn parts_of_a_response_are_counted_part_by_part() {
    let mut t = Setup::with(LogLimits::default(), HubOptions { fragment_bytes_max: 1, ..HubOptions::default() });
    t.create(&CreateRequest { fragment: true, ..watch(prefix("a")) });
    t.output();
    t.commit([put("a", "1"), put("ab", "1"), put("ac", "1")]);
    let mut sent = 0;
    while let Next::Message(message) = t.hub.next_message(t.stream) {
        sent += message.events().count() as u64;
        let counts = t.hub.counts();
        assert_eq!((counts.events_waiting, counts.events_sent), (3 - sent, sent));
    }
    assert_eq!(sent, 3);
}

#[test]
fn hundred_thousand_watchers_come_and_go() {
    let mut t = Setup::new();
    let other = t.hub.open_stream();
    for number in 0..100_000 {
        let name = format!("key-{number:06}");
        let range = if number % 2 == 0 { key(&name) } else { prefix("shared") };
        t.create(&CreateRequest { progress_notify: true, ..watch(range) });
    }
    t.hub.create(other, &watch(key("key-000002")), START);
    for id in 0..50_000 {
        t.hub.cancel(t.stream, id);
    }
    t.hub.close_stream(t.stream);
    assert_eq!(t.hub.counts(), watch::Counts { streams: 1, watchers: 1, ..watch::Counts::default() });
    t.commit([put("key-000002", "1"), put("shared", "1")]);
    assert_eq!(shown(&drain(&mut t.hub, other, &t.store)), ["0@1 created", "0@2 put key-000002=1 ^2"]);
    assert!(t.store.log.is_watched());
    t.hub.close_stream(other);
    assert!(!t.store.log.is_watched());
}

#[test]
fn client_that_only_asks_and_never_reads_is_congested() {
    let mut t = Setup::new();
    for _ in 0..256 {
        assert!(!t.hub.is_congested(t.stream));
        t.create(&watch(key("a")));
    }
    assert!(t.hub.is_congested(t.stream));
    t.output();
    assert!(!t.hub.is_congested(t.stream));
}
