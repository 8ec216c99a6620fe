//! Short runs: that they repeat, that sound members pass, and that some planted faults are found. The long ones are the
//! program's: `./dev simulate`, and `cargo run --release -p sim -- planted` for all faults.

use sim::{Plan, Plant, Report, World};

const MINUTE: u64 = 60_000_000;

fn run(seed: u64, minutes: u64) -> Report {
    World::new(seed, Plan::of(seed), None).run(minutes * MINUTE)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 4] {
        let (first, second) = (run(seed, 2), run(seed, 2));
        assert_eq!((first.trace, first.counts), (second.trace, second.counts), "seed {seed}");
    }
    assert_ne!(run(3, 1).trace, run(4, 1).trace);
}

#[test]
fn sound_members_pass() {
    for seed in 0..12 {
        let report = run(seed, 2);
        assert!(report.found.is_none(), "seed {seed}: {:#?}", report.found);
        assert!(report.counts.acknowledged > 0 && !report.counts.faults.is_empty(), "{}", report.counts);
    }
}

#[test]
fn what_is_found_with_a_planted_fault_is_not_found_without() {
    let finds = |plant: Plant, seed, minutes| World::new(seed, plant.plan(seed), None).run(minutes * MINUTE).found;
    for plant in Plant::ALL {
        let found = finds(plant, 0, 1);
        assert!(found.is_none(), "{plant:?}: {found:#?}");
    }
    for seed in 0..4 {
        let found = finds(Plant::MembershipTooEarly, seed, 3);
        assert!(found.is_none(), "seed {seed}: {found:#?}");
    }
}

/// Whether one of the first runs finds it.
fn is_found(plant: Plant) -> bool {
    (0..8).any(|seed| World::new(seed, plant.plan(seed), Some(plant)).run(2 * MINUTE).found.is_some())
}

#[test]
fn planted_faults_of_the_disk_are_found() {
    for plant in [Plant::SkipLogSync, Plant::SkipDirSync, Plant::SkipStateSync, Plant::TruncateTail] {
        assert!(is_found(plant), "{plant:?}");
    }
}

#[test]
fn planted_faults_of_the_order_are_found() {
    for plant in [Plant::AcknowledgeBeforeSync, Plant::ReadWithoutIndex, Plant::LeaderReadsAlone, Plant::ApplyTwice] {
        assert!(is_found(plant), "{plant:?}");
    }
}

#[test]
fn a_planted_fault_of_membership_is_found() {
    assert!(is_found(Plant::MembershipTooEarly));
}

#[test]
fn planted_faults_of_watches_and_leases_are_found() {
    for plant in [Plant::DropWatchEvent, Plant::WrongPrevious, Plant::ClockLeap, Plant::RenewAnywhere] {
        assert!(is_found(plant), "{plant:?}");
    }
}
