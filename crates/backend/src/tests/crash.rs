//! Power cuts at every operation of a run.

use env::Survival;

use super::*;

/// What was acknowledged when the disk had done so many operations.
struct Acknowledged {
    operations: usize,
    index: u64,
}

/// Cuts `disk` at every operation: what is found is one of `states` (by index), not older than acknowledged.
fn check_every_cut(disk: &SimDisk, states: &[Contents], acknowledged: &[Acknowledged]) {
    let mut seed = 0;
    for cut in 0..=disk.operation_count() {
        let least = acknowledged.iter().filter(|ack| ack.operations <= cut).map(|ack| ack.index).max().unwrap_or(0);
        seed += 1;
        for survival in [Survival::None, Survival::All, Survival::Random(seed)] {
            let survivor = disk.crash_at(cut, survival);
            let context = format!("cut {cut} after {}, {survival:?}", disk.describe(cut.saturating_sub(1)));
            let backend = open(&survivor).unwrap_or_else(|error| panic!("{context}: {error}"));
            let (Index(index), _) = backend.applied();
            assert!(index >= least, "{context}: index {index} after {least} was acknowledged");
            let found = contents(&backend).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(found == states[index as usize], "{context}: rows are not those of index {index}");
            let leftovers = survivor.list(Path::new(".")).unwrap();
            assert!(leftovers.iter().all(|entry| entry.name == PATH), "{context}: {leftovers:?}");
        }
    }
}

#[test]
fn every_cut_leaves_the_last_acknowledged_commit_or_a_later_one() {
    let disk = SimDisk::recording();
    let backend = open(&disk).unwrap();
    let mut state = Contents::default();
    let mut states = vec![state.clone()];
    let mut acknowledged = Vec::new();
    let mut main = 1;
    for index in 1..=12u64 {
        let mut staged = puts(main..main + 8, 300, index);
        main += 8;
        if index % 3 == 0 {
            staged.removed_rows = (main - 30..main - 20).filter(|main| *main > 0).map(row).collect();
        }
        staged.values.push((Table::Lease, index.to_be_bytes().to_vec(), Some(vec![1; 20])));
        staged.values.push((Table::Lease, (index / 2).to_be_bytes().to_vec(), None));
        state.apply(&staged);
        states.push(state.clone());
        backend.stage(staged);
        if index % 2 == 0 {
            backend.commit().unwrap();
            acknowledged.push(Acknowledged { operations: disk.operation_count(), index });
        }
    }
    drop(backend);
    check_every_cut(&disk, &states, &acknowledged);
}

#[test]
fn every_cut_of_a_defragmentation_leaves_one_complete_file() {
    let disk = SimDisk::recording();
    let backend = open(&disk).unwrap();
    let mut state = Contents::default();
    let mut states = vec![state.clone()];
    for staged in [puts(1..100, 200, 1), removals(1..80, 2), puts(100..110, 200, 3)] {
        state.apply(&staged);
        states.push(state.clone());
        backend.stage(staged);
        backend.commit().unwrap();
    }
    let before = disk.operation_count();
    backend.defragment().unwrap();
    let acknowledged = [Acknowledged { operations: before, index: 3 }];
    check_every_cut(&disk, &states, &acknowledged);
}

#[test]
fn rows_that_were_never_committed_do_not_survive() {
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    backend.stage(puts(1..10, 10, 1));
    backend.commit().unwrap();
    backend.stage(puts(10..20, 10, 2));
    std::mem::forget(backend);
    let backend = open(&disk.crash(Survival::All)).unwrap();
    assert_eq!(backend.applied(), (Index(1), Term(1)));
    assert_eq!(contents(&backend).unwrap().rows.len(), 9);
}
