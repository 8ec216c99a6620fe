//! The store against a naive one, through random histories: same answers at every readable revision, whatever values
//! are in memory and however far removal has come.

mod support;

use mvcc::{EventLimits, MvccError, RangeQuery, SortOrder, SortTarget};
use proptest::prelude::*;
use support::{Fixture, Naive, decoded, run};
use types::{KeyRange, LeaseId, Revision};

#[derive(Clone, Debug)]
enum Change {
    Put { key: u8, value: u8, lease: i64 },
    Delete { from: u8, to: u8 },
}

#[derive(Clone, Debug)]
enum Step {
    /// Transactions of one batch.
    Batch(Vec<Vec<Change>>),
    /// At this share of what can be compacted.
    Compact(f64),
    Prune(usize),
    PruneAll,
    Commit,
    Restart,
    Query(Box<Query>),
}

#[derive(Clone, Debug)]
struct Query {
    query: RangeQuery,
    /// Revision, filters: as shares of the present revision.
    shares: [f64; 5],
    piece: usize,
}

/// Keys of which some begin as others do.
fn key(number: u8) -> Vec<u8> {
    let start: &[u8] = if number.is_multiple_of(3) { b"/registry/pods/default/" } else { b"/registry/" };
    [start, &[b'a' + number / 2][..], if number.is_multiple_of(2) { b"" } else { b"\0" }].concat()
}

const KEYS: u8 = 24;

fn value(number: u8) -> Vec<u8> {
    vec![number; usize::from(number % 40)]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        (0..KEYS).prop_map(|number| KeyRange::single(key(number))),
        (0..KEYS, 0..KEYS).prop_map(|(from, to)| KeyRange::from_wire(key(from).into(), key(to).into())),
        (0..KEYS).prop_map(|from| KeyRange::from_wire(key(from).into(), vec![0].into())),
        Just(KeyRange::prefix(b"/registry/pods/")),
        Just(KeyRange::all()),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let order = prop_oneof![Just(SortOrder::None), Just(SortOrder::Ascend), Just(SortOrder::Descend)];
    let target = prop_oneof![
        2 => Just(SortTarget::Key),
        1 => Just(SortTarget::Version),
        1 => Just(SortTarget::CreateRevision),
        1 => Just(SortTarget::ModRevision),
        1 => Just(SortTarget::Value),
    ];
    let share = || prop_oneof![3 => Just(0.0), 1 => 0.0..1.1f64];
    let shares = (share(), share(), share(), share(), share()).prop_map(<[f64; 5]>::from);
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.2), prop_oneof![Just(1usize), 1usize..500]);
    (range(), order, target, -1i64..12, flags, shares).prop_map(
        |(range, order, target, limit, (keys_only, count_only, piece), shares)| {
            let query = RangeQuery { order, target, limit, keys_only, count_only, ..RangeQuery::current(range) };
            Query { query, shares, piece }
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..KEYS, any::<u8>(), -1i64..3).prop_map(|(key, value, lease)| Change::Put { key, value, lease }),
        1 => (0..KEYS).prop_map(|key| Change::Delete { from: key, to: key }),
        1 => (0..KEYS, 0u8..6).prop_map(|(from, more)| Change::Delete { from, to: from.saturating_add(more) }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let txn = proptest::collection::vec(change(), 0..4);
    prop_oneof![
        12 => proptest::collection::vec(txn, 1..4).prop_map(Step::Batch),
        2 => (0.0..1.0f64).prop_map(Step::Compact),
        3 => (1usize..6).prop_map(Step::Prune),
        1 => Just(Step::PruneAll),
        1 => Just(Step::Commit),
        1 => Just(Step::Restart),
        20 => query().prop_map(|query| Step::Query(Box::new(query))),
    ]
}

/// The two stores side by side.
struct Pair {
    fixture: Fixture,
    naive: Naive,
    /// Whether some compaction's removal has not begun, or not ended.
    is_pruning: bool,
    /// How many compactions there were since removal was last known to have ended.
    waiting: usize,
}

impl Pair {
    fn batch(&mut self, txns: Vec<Vec<Change>>) {
        let naive = &mut self.naive;
        self.fixture.batch(|batch, staged| {
            for changes in txns {
                let changes = without_duplicates(changes);
                let main = naive.revision + 1;
                let mut expected = Vec::new();
                let done = run(batch, staged, |txn| {
                    for change in &changes {
                        let sub = |expected: &Vec<_>| Revision { main, sub: expected.len() as i64 };
                        match *change {
                            Change::Put { key: number, value: content, lease } => {
                                let (key, value) = (key(number), value(content));
                                let before = naive.get(&key, main).cloned();
                                let previous = txn.put(&key, &value, LeaseId(lease));
                                let loaded = previous.map(|previous| txn.load(&previous).expect("the backend works"));
                                assert_eq!(loaded, before);
                                let revision = sub(&expected);
                                let record = naive.put(revision, &key, &value, LeaseId(lease));
                                expected.push((revision, record, naive.get(&key, main - 1).cloned()));
                            }
                            Change::Delete { from, to } => {
                                let range = match from == to {
                                    true => KeyRange::single(key(from)),
                                    false => KeyRange::from_wire(key(from).into(), key(to).into()),
                                };
                                let doomed = naive.live(&range, main);
                                let previous = txn.delete_range(&range);
                                let loaded: Vec<_> =
                                    previous.iter().map(|gone| txn.load(gone).expect("the backend works")).collect();
                                assert_eq!(loaded, doomed);
                                for gone in doomed {
                                    let revision = sub(&expected);
                                    let key = gone.key().to_vec();
                                    naive.rows.insert(revision, (key.clone(), None));
                                    let before = naive.get(&key, main - 1).cloned();
                                    expected.push((revision, types::Record::tombstone(&key), before));
                                }
                            }
                        }
                        let all = KeyRange::all();
                        let now = txn.range(&RangeQuery::current(all.clone())).expect("it can be read");
                        assert_eq!(now.revision, txn.revision());
                        assert_eq!(decoded(now, 100), naive.live(&all, main));
                        if main > naive.compacted {
                            let before = RangeQuery { revision: main - 1, ..RangeQuery::current(all.clone()) };
                            let before = txn.range(&before).expect("it can be read");
                            assert_eq!(decoded(before, 100), naive.live(&all, main - 1));
                        }
                    }
                });
                naive.revision += i64::from(!expected.is_empty());
                assert_eq!(done.revision, naive.revision);
                assert_eq!(done.changes.len(), expected.len());
                for (change, (revision, record, before)) in done.changes.iter().zip(expected) {
                    assert_eq!(change.row.revision, revision);
                    assert_eq!(
                        change.row.tombstone,
                        record.as_bytes() == types::Record::tombstone(record.key()).as_bytes()
                    );
                    assert_eq!(change.record, record);
                    assert_eq!(
                        change.previous.as_ref().map(|previous| previous.meta()),
                        before.map(|before| before.meta())
                    );
                }
            }
        });
        assert_eq!(self.fixture.view().revision(), self.naive.revision);
    }

    fn compact(&mut self, share: f64) {
        let span = self.naive.revision - self.naive.compacted;
        let at = self.naive.compacted + 1 + (span as f64 * share) as i64;
        if at > self.naive.revision {
            return;
        }
        if self.waiting == 9 {
            // With more of them waiting, the last ones are joined and their hashes are not made.
            while self.prune_step(100) {}
        }
        self.waiting += 1;
        // The naive store removes at once, so the hash it makes is that of a store that had finished before.
        self.fixture.compact(at);
        self.naive.compact(at, true);
        self.is_pruning = true;
        assert_eq!(self.fixture.view().compacted(), at);
        let again = self.fixture.batch(|batch, staged| batch.compact(staged, at));
        assert!(matches!(again, Err(MvccError::Compacted)));
    }

    fn restart(self) -> Pair {
        let Pair { fixture, mut naive, is_pruning, waiting } = self;
        let fixture = fixture.restart();
        // Hashes are not kept over a restart.
        naive.hashes.clear();
        let mut attached = Vec::new();
        fixture.store.attachments(&mut |key, lease| attached.push((key.to_vec(), lease)));
        let live = naive.live(&KeyRange::all(), naive.revision);
        let expected = live.iter().filter(|row| row.meta().lease != LeaseId::NONE);
        assert_eq!(attached, expected.map(|row| (row.key().to_vec(), row.meta().lease)).collect::<Vec<_>>());
        Pair { fixture, naive, is_pruning, waiting }
    }

    fn prune_step(&mut self, max_rows: usize) -> bool {
        self.is_pruning = self.fixture.prune_step(max_rows);
        self.waiting = if self.is_pruning { self.waiting } else { 0 };
        self.is_pruning
    }

    fn query(&self, query: &Query) {
        let revision = self.naive.revision;
        let scaled = |share: f64| (revision as f64 * share) as i64;
        let [at, min_mod, max_mod, min_create, max_create] = query.shares.map(scaled);
        let asked = RangeQuery {
            revision: at,
            min_mod_revision: min_mod,
            max_mod_revision: max_mod,
            min_create_revision: min_create,
            max_create_revision: max_create,
            ..query.query.clone()
        };
        let answer = self.fixture.view().range(&asked);
        if at > revision {
            return assert!(matches!(answer, Err(MvccError::FutureRevision)));
        }
        if at > 0 && at < self.naive.compacted {
            return assert!(matches!(answer, Err(MvccError::Compacted)));
        }
        let answer = answer.expect("the revision can be read");
        let (rows, count, more) = self.naive.range(&asked, if at == 0 { revision } else { at });
        assert_eq!((answer.revision, answer.count, answer.more), (revision, count, more), "{asked:?}");
        assert_eq!(decoded(answer, query.piece), rows, "{asked:?}");
        let records = self.fixture.view().range(&asked).expect("the revision can be read").rows.records();
        assert_eq!(records.collect::<Result<Vec<_>, _>>().expect("the backend works"), rows);
    }

    /// Compares everything that can be asked for.
    fn compare(&self) {
        let (naive, view) = (&self.naive, self.fixture.view());
        assert_eq!((view.revision(), view.compacted()), (naive.revision, naive.compacted));
        let all = KeyRange::all();
        for at in naive.compacted.max(0)..=naive.revision {
            let query = RangeQuery { revision: at, ..RangeQuery::current(all.clone()) };
            let answer = view.range(&query).expect("the revision can be read");
            let effective = if at == 0 { naive.revision } else { at };
            assert_eq!(decoded(answer, 1000), naive.live(&all, effective), "at {at}");
            for number in 0..KEYS {
                let found = view.get_at(&key(number), at).expect("the backend works");
                assert_eq!(found.as_ref(), naive.get(&key(number), at));
            }
            if at > 0 && !self.is_pruning {
                let hash = view.hash_kv(at).expect("the backend works");
                assert_eq!((hash.hash, hash.compact_revision), naive.hash(at), "hash at {at}");
                assert_eq!(hash.hash_revision, at);
            } else if at > naive.compacted.max(0) {
                // What removal has not reached yet must not show; only the hash at the compaction itself is not there yet.
                let hash = view.hash_kv(at).expect("the backend works");
                assert_eq!((hash.hash, hash.compact_revision), naive.hash(at), "hash at {at} while removing");
            }
        }
        assert_eq!(view.get_at(&key(0), naive.compacted - 1).expect("the backend works"), None);
        self.compare_events();
    }

    fn compare_events(&self) {
        let (naive, view) = (&self.naive, self.fixture.view());
        for range in [KeyRange::all(), KeyRange::prefix(b"/registry/pods/"), KeyRange::single(key(1))] {
            for limits in [EventLimits { rows: 1, bytes: 1 }, EventLimits { rows: 5, bytes: 100 }] {
                let from = naive.compacted.max(0);
                let (mut next, mut events) = (from, Vec::new());
                while next <= naive.revision {
                    let chunk = view.events(&range, next, naive.revision + 3, limits).expect("it can be read");
                    assert!(chunk.next > next);
                    if let (Some(first), Some(last)) = (events.last(), chunk.events.first()) {
                        let (first, last): (&(types::RowKey, _), &(types::RowKey, _)) = (first, last);
                        assert!(first.0.revision.main < last.0.revision.main, "revisions come whole");
                    }
                    next = chunk.next;
                    events.extend(chunk.events);
                }
                // A compacted revision may still show rows of it that removal has not reached.
                assert_eq!(events, naive.events(&range, from, naive.revision));
            }
        }
        let early =
            view.events(&KeyRange::all(), naive.compacted - 1, naive.revision, EventLimits { rows: 9, bytes: 9 });
        assert!(matches!(early, Err(MvccError::Compacted)));
    }
}

/// The changes, without those that a transaction may not have: a put and another change of the same key.
fn without_duplicates(changes: Vec<Change>) -> Vec<Change> {
    let mut kept: Vec<Change> = Vec::new();
    for change in changes {
        let touches = |key: &[u8], other: &Change| match other {
            Change::Put { key: of, .. } => self::key(*of) == key,
            Change::Delete { from, to } if from == to => self::key(*from) == key,
            Change::Delete { from, to } => self::key(*from).as_slice() <= key && key < self::key(*to).as_slice(),
        };
        let clashes = match &change {
            Change::Put { key: number, .. } => kept.iter().any(|other| touches(&key(*number), other)),
            delete => kept.iter().any(|other| match other {
                Change::Put { key: number, .. } => touches(&key(*number), delete),
                Change::Delete { .. } => false,
            }),
        };
        if !clashes {
            kept.push(change);
        }
    }
    kept
}

fn check(budget: usize, steps: Vec<Step>) {
    let mut pair = Pair { fixture: Fixture::new(budget), naive: Naive::new(), is_pruning: false, waiting: 0 };
    for step in steps {
        match step {
            Step::Batch(txns) => pair.batch(txns),
            Step::Compact(share) => pair.compact(share),
            Step::Prune(max_rows) => drop(pair.prune_step(max_rows)),
            Step::PruneAll => while pair.prune_step(100) {},
            Step::Commit => drop(pair.fixture.backend.commit().expect("the simulated disk works")),
            Step::Restart => {
                // Interrupted removals are hashed by nobody; keep the two alike by not interrupting here.
                pair = pair.restart();
            }
            Step::Query(query) => pair.query(&query),
        }
    }
    pair.compare();
    while pair.prune_step(3) {}
    pair.compare();
    let pair = pair.restart();
    pair.compare();
}

/// As many cases as are quickly run, or as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if asked_for { config } else { ProptestConfig { cases: 128, ..config } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn agrees_with_a_naive_store_with_all_values_in_memory(steps in proptest::collection::vec(step(), 0..60)) {
        check(usize::MAX, steps);
    }

    #[test]
    fn agrees_with_a_naive_store_with_some_values_in_memory(steps in proptest::collection::vec(step(), 0..60)) {
        check(100, steps);
    }

    #[test]
    fn agrees_with_a_naive_store_with_no_values_in_memory(steps in proptest::collection::vec(step(), 0..60)) {
        check(0, steps);
    }
}
