//! A log that changed while the member was stopped: the member starts with everything it has acknowledged, or refuses and
//! says which file is damaged where. It never loses anything in silence, and never panics.
//!
//! One byte is damaged at a time, and one sector; every one of the log's. `DAMAGE_STRIDE` leaves some out.

mod engine;

use std::ops::Range;
use std::path::{Path, PathBuf};

use engine::Engine;
use env::{Disk, OpenMode, SECTOR, SimDisk, Survival};
use server::StartError;
use wal::WalError;

/// A header and eight small frames: the log takes two of them.
const SEGMENT_SIZE_BYTES: u64 = 8 << 10;
const PUTS: u64 = 11;
/// What a segment's header uses of its page.
const HEADER: Range<u64> = 0..128;
const FRAMES: Range<u64> = 4096..SEGMENT_SIZE_BYTES;

fn key(number: u64) -> String {
    format!("key{}", number % 4)
}

fn put(engine: &mut Engine, number: u64) {
    assert!(engine.put(&key(number), &format!("value {number}")));
}

/// A member that has acknowledged some writes, half of them in its state, all in its log.
fn member(disk: &SimDisk) -> Engine {
    let mut engine = Engine::start(disk, SEGMENT_SIZE_BYTES).expect("a new member starts");
    for number in 0..PUTS {
        put(&mut engine, number);
        if number == PUTS / 2 {
            engine.core.backend.commit().expect("the disk works");
        }
    }
    engine
}

/// The disk of a member that has stopped, or fell idle before it was killed.
fn specimen() -> SimDisk {
    let disk = SimDisk::new();
    let mut engine = member(&disk);
    engine.core.wal.mark_durable().expect("the disk works");
    engine.core.wal.sync().expect("the disk works");
    drop(engine);
    disk.crash(Survival::None)
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.list(Path::new("/data/wal")).expect("there is a log");
    let segments = files.into_iter().map(|file| Path::new("/data/wal").join(file.name));
    segments.filter(|path| path.extension().is_some_and(|kind| kind == "wal")).collect()
}

fn holds(engine: &Engine, puts: u64) -> bool {
    let last = |number: &u64| engine.get(&key(*number)) == Some(format!("value {number}"));
    engine.revision() == 1 + puts as i64 && (puts - 4..puts).all(|number| last(&number))
}

/// Returns whether the member starts.
fn starts_or_names(disk: &SimDisk, file: &Path, what: &str) -> bool {
    let damaged = disk.contents(file).ok();
    match Engine::start(disk, SEGMENT_SIZE_BYTES) {
        Ok(engine) => {
            assert!(holds(&engine, PUTS), "{what}: something is lost");
            true
        }
        Err(StartError::Log(error @ WalError::Damaged { .. })) => {
            let text = error.to_string();
            assert!(text.contains("/data/wal/") && text.contains("damaged at byte"), "{what}: {text}");
            assert!(text.contains(&file.display().to_string()), "{what}: {text}");
            assert_eq!(disk.contents(file).ok(), damaged, "{what}: it is left as it is");
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

fn stride() -> usize {
    std::env::var("DAMAGE_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn a_log_with_any_byte_damaged_is_refused_or_gives_all_that_was_acknowledged() {
    let specimen = specimen();
    let files = segments(&specimen);
    assert!(files.len() == 2, "{files:?}");
    let (mut started, mut refused) = (0, 0);
    for file in &files {
        for offset in HEADER.chain(FRAMES).step_by(stride()) {
            let disk = specimen.crash(Survival::None);
            disk.flip_bit(file, offset, (offset % 8) as u8).expect("the file is there");
            let starts = starts_or_names(&disk, file, &format!("{} byte {offset}", file.display()));
            *if starts { &mut started } else { &mut refused } += 1;
        }
    }
    assert!(started > 0 && refused > 0, "{started} started, {refused} refused");
}

#[test]
fn a_log_with_any_sector_gone_is_refused_or_gives_all_that_was_acknowledged() {
    let specimen = specimen();
    for file in &segments(&specimen) {
        for sector in (0..SEGMENT_SIZE_BYTES).step_by(SECTOR as usize) {
            for filler in [0, 0xff] {
                let disk = specimen.crash(Survival::None);
                disk.damage(file, sector, &[filler; SECTOR as usize]).expect("the file is there");
                starts_or_names(&disk, file, &format!("{} sector at {sector} {filler:#x}", file.display()));
            }
            let disk = specimen.crash(Survival::None);
            disk.open(file, OpenMode::Write).and_then(|file| file.set_len(sector)).expect("the file is there");
            assert!(!starts_or_names(&disk, file, &format!("{} cut at {sector}", file.display())));
        }
    }
}

#[test]
fn a_last_write_torn_at_any_byte_leaves_all_that_was_acknowledged() {
    let disk = SimDisk::new();
    let mut engine = member(&disk);
    let file = segments(&disk).pop().expect("there is a log");
    let acknowledged = disk.contents(&file).expect("it is there");
    put(&mut engine, PUTS);
    drop(engine);
    let written = disk.contents(&file).expect("it is there");
    let differs = (0..written.len()).filter(|&at| written[at] != acknowledged[at]).collect::<Vec<_>>();
    let (first, last) = (differs[0], differs[differs.len() - 1]);
    let disk = disk.crash(Survival::None);
    for cut in (first..=last).step_by(stride()) {
        for sectors_behind_are_old in [false, true] {
            let disk = disk.crash(Survival::None);
            let mut torn = written.clone();
            torn[cut..].fill(0);
            if sectors_behind_are_old {
                torn[cut..].copy_from_slice(&acknowledged[cut..]);
            }
            disk.damage(&file, 0, &torn).expect("the file is there");
            let engine =
                Engine::start(&disk, SEGMENT_SIZE_BYTES).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            assert!(holds(&engine, PUTS), "cut at {cut}: something is lost");
        }
    }
}
