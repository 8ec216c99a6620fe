//! Random histories against a map.

use env::Survival;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// So many rows, of such a size, some of them tombstones.
    Put {
        count: u8,
        value_len: u16,
    },
    /// Removes the rows at these places among all that ever were.
    Remove(Vec<prop::sample::Index>),
    SetValue(usize, u8, Option<Vec<u8>>),
    Commit,
    Defragment,
    /// The power fails; what survives of the unsynced follows the seed.
    Crash(u64),
    /// The process ends in order.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..40u8, 0..600u16).prop_map(|(count, value_len)| Step::Put { count, value_len }),
        1 => (1..4u8, 4000..20_000u16).prop_map(|(count, value_len)| Step::Put { count, value_len }),
        2 => prop::collection::vec(any::<prop::sample::Index>(), 1..30).prop_map(Step::Remove),
        3 => (0..Table::ALL.len(), 0..6u8, prop::option::of(prop::collection::vec(any::<u8>(), 0..50)))
            .prop_map(|(table, key, value)| Step::SetValue(table, key, value)),
        4 => Just(Step::Commit),
        1 => Just(Step::Defragment),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_what_was_staged_and_a_crash_leaves_what_was_committed(steps in steps()) {
        let mut disk = SimDisk::new();
        let mut backend = open(&disk)?;
        let (mut staged, mut committed) = (Contents::default(), Contents::default());
        let (mut index, mut next_main, mut durable) = (0, 1, 0);
        for step in steps {
            index += 1;
            let mut change = Staged { applied: Some((Index(index), Term(2))), ..Staged::default() };
            match step {
                Step::Put { count, value_len } => {
                    for main in next_main..next_main + i64::from(count) {
                        let tombstone = main % 7 == 0;
                        let record = if tombstone { Record::tombstone(b"gone") } else { record(main, value_len.into()) };
                        change.rows.push((RowKey { tombstone, ..row(main) }, record));
                    }
                    next_main += i64::from(count);
                }
                Step::Remove(places) => {
                    let rows: Vec<RowKey> = staged.rows.keys().copied().collect();
                    let places = places.iter().filter(|_| !rows.is_empty());
                    change.removed_rows = places.map(|place| *place.get(&rows)).collect();
                }
                Step::SetValue(table, key, value) => change.values.push((Table::ALL[table], vec![key], value)),
                Step::Commit => {
                    backend.commit()?;
                    (committed, durable) = (staged.clone(), index - 1);
                }
                Step::Defragment => backend.defragment()?,
                Step::Crash(seed) => {
                    disk = disk.crash(Survival::Random(seed));
                    std::mem::forget(std::mem::replace(&mut backend, open(&disk)?));
                    staged = committed.clone();
                }
                Step::Reopen => {
                    drop(backend);
                    backend = open(&disk)?;
                    staged = committed.clone();
                }
            }
            staged.apply(&change);
            backend.stage(change);
            prop_assert_eq!(contents(&backend)?, staged.clone());
            for row in staged.rows.keys() {
                let found = backend.get(*row)?;
                prop_assert_eq!(found.as_ref().map(Record::as_bytes), staged.rows.get(row).map(Vec::as_slice));
            }
            prop_assert_eq!(backend.applied().0.0, durable);
            prop_assert_eq!(backend.view().row_count(), committed.rows.len() as u64);
        }
    }

    #[test]
    fn a_scan_gives_the_rows_between_its_bounds(
        count in 1..200i64, from in 0..220i64, to in 0..220i64, committed in 0..200i64, stop_after in 1..300usize,
    ) {
        let backend = open(&SimDisk::new())?;
        let committed = committed.min(count);
        backend.stage(puts(1..committed + 1, 10, 1));
        backend.commit()?;
        for main in committed + 1..count + 1 {
            backend.stage(puts(main..main + 1, 10, 2));
        }
        backend.stage(removals((1..=count).filter(|main| main % 5 == 0), 3));
        let mut seen = Vec::new();
        backend.scan(Revision::first(from), Revision::first(to), &mut |row, bytes| {
            assert_eq!(bytes, record(row.revision.main, 10).as_bytes());
            seen.push(row.revision.main);
            if seen.len() == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let expected: Vec<i64> =
            (from.max(1)..to.min(count + 1)).filter(|main| main % 5 != 0).take(stop_after).collect();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn usage_is_what_the_engine_counts_give_or_take_a_tenth() {
    let backend = open(&SimDisk::new()).unwrap();
    let mut next = 1;
    for value_len in [20, 300, 1500, 3000, 5000, 20_000] {
        backend.stage(puts(next..next + 2_000_000 / (value_len + 300), value_len as usize, 1));
        next += 2_000_000 / (value_len + 300);
        backend.commit().unwrap();
        let stats = backend.view().file().begin_write().unwrap().stats().unwrap();
        let (reckoned, counted) = (backend.size().in_use_bytes, stats.allocated_pages() * stats.page_size() as u64);
        assert!(
            reckoned.abs_diff(counted) < counted / 10 + 100_000,
            "{value_len}: {reckoned} reckoned, {counted} counted"
        );
    }
}
