//! What open makes of files that are not as they were written: torn tails are cut, everything else is refused.
#![allow(clippy::unwrap_used, reason = "in a test every failure is a panic")]

mod support;

use std::sync::Arc;

use env::{Disk, OpenMode, SimDisk, Survival};
use support::*;
use types::{Index, LogEntry};
use wal::{Wal, WalError, WalOptions};

fn damaged_at(error: &WalError) -> (String, u64) {
    match error {
        WalError::Damaged { path, offset, .. } => (path.display().to_string(), *offset),
        other => panic!("not damage: {other}"),
    }
}

fn open_knowing(disk: &SimDisk, durable: u64) -> Result<(Wal, wal::Recovered), WalError> {
    Wal::open(Arc::new(disk.clone()), dir(), small(), Index(durable), Index(0))
}

/// A log of one segment: entries 1 and 2 at byte 4096, entry 3 at `last_frame`, no mark behind it.
fn three_entries(last_len: usize) -> (SimDisk, u64) {
    let disk = disk();
    let mut wal = create(&disk, small());
    write(&mut wal, &entries(1, 2, 1, 100), None);
    let last_frame = 4096 + 512;
    write(&mut wal, &entries(3, 1, 1, last_len), None);
    (disk.crash(Survival::All), last_frame)
}

/// What lay there before the last write.
fn before_last_write(disk: &SimDisk, last_frame: u64, stale: bool) -> Vec<u8> {
    let mut bytes = disk.contents(&segment(1)).unwrap();
    let filler = if stale { 0xa5 } else { 0 };
    let page_end = 8192;
    bytes[last_frame as usize..page_end].fill(0);
    bytes[page_end..].fill(filler);
    bytes
}

#[test]
fn a_last_write_torn_at_any_byte_is_cut_off_and_the_rest_stays() {
    for (stale, len) in [(false, 1500), (true, 1500), (true, 5000)] {
        let (disk, last_frame) = three_entries(len);
        let whole = disk.contents(&segment(1)).unwrap();
        let torn = before_last_write(&disk, last_frame, stale);
        let end = last_frame as usize + 48 + 24 + len;
        for cut in last_frame as usize..end {
            let mut bytes = torn.clone();
            bytes[..cut].copy_from_slice(&whole[..cut]);
            disk.damage(&segment(1), 0, &bytes).unwrap();
            let crashed = disk.crash(Survival::All);
            let (mut wal, recovered) = open(&crashed, small()).unwrap();
            assert_eq!(recovered.entries, entries(1, 2, 1, 100), "cut at {cut}");
            if cut > last_frame as usize {
                let tail = recovered.torn_tail.expect("something was torn");
                assert_eq!((tail.path, tail.offset), (segment(1), last_frame), "cut at {cut}");
            }
            write(&mut wal, &entries(3, 2, 2, 50), None);
            let (_, again) = open(&crashed, small()).unwrap();
            assert_eq!(again.entries[2..], entries(3, 2, 2, 50));
        }
    }
}

#[test]
fn a_torn_tail_that_is_known_to_have_been_durable_is_damage() {
    let (disk, last_frame) = three_entries(1500);
    disk.flip_bit(&segment(1), last_frame + 500, 3).unwrap();
    let error = open_knowing(&disk, 3).err().expect("entry 3 was durable");
    assert_eq!(damaged_at(&error), (segment(1).display().to_string(), last_frame));
    assert!(error.to_string().contains("member/wal/0000000000000001.wal is damaged at byte 4608"), "{error}");
    assert!(error.to_string().contains("restore this member from a backup"), "{error}");
    assert_eq!(open_knowing(&disk, 2).unwrap().1.last, Index(2));
}

#[test]
fn a_log_that_ends_before_its_commit_index_is_damaged() {
    let disk = disk();
    let mut wal = create(&disk, small());
    write(&mut wal, &entries(1, 2, 1, 100), Some(hard_state(1, 1, 2)));
    write(&mut wal, &entries(3, 2, 1, 100), Some(hard_state(1, 1, 4)));
    write(&mut wal, &[], Some(hard_state(1, 1, 4)));
    // The last two frames are gone altogether, as if the file had been cut there.
    disk.damage(&segment(1), 4096 + 512, &[0; 8192]).unwrap();
    open(&disk.crash(Survival::All), small()).unwrap();
    let error = Wal::open(Arc::new(disk), dir(), small(), Index(4), Index(0)).err().expect("4 was applied");
    assert_eq!(damaged_at(&error).1, 4096 + 512);
}

#[test]
fn zeroed_sectors_are_a_torn_tail_at_the_end_and_damage_before_it() {
    let disk = disk();
    let mut wal = create(&disk, small());
    for index in 1..=6 {
        write(&mut wal, &entries(index, 1, 1, 700), None);
    }
    let log = disk.crash(Survival::None);
    let frame_len = 1024;
    for sector in 0..12 {
        let log = log.crash(Survival::None);
        let offset = 4096 + sector * 512;
        log.damage(&segment(1), offset, &[0; 512]).unwrap();
        let frame = sector * 512 / frame_len;
        if frame == 5 {
            assert_eq!(open(&log, small()).unwrap().1.entries, entries(1, 5, 1, 700));
        } else {
            assert_eq!(damaged_at(&open_error(&log, small())).1, 4096 + frame * frame_len, "sector {sector}");
        }
    }
}

/// Every byte of a log of two segments with a recycled, stale rest: a flip is refused, or harmless, or (in the last
/// write) cut off. Never is anything else found than what was written.
#[test]
fn a_flipped_bit_anywhere_never_gives_wrong_data() {
    let options = WalOptions { segment_size_bytes: 8192 };
    let disk = disk();
    let mut wal = create(&disk, options);
    let mut last = 0;
    for _ in 0..4 {
        for _ in 0..5 {
            write(&mut wal, &entries(last + 1, 2, 1, 90), Some(hard_state(1, 5, last)));
            last += 2;
        }
        wal.release_before(Index(last.saturating_sub(8))).unwrap();
    }
    write(&mut wal, &entries(last + 1, 2, 1, 90), None);
    last += 2;
    drop(wal);
    let (_, sound) = open(&disk.crash(Survival::All), options).unwrap();
    assert!(sound.first.0 > 1 && sound.last.0 == last);
    let before_last: &[LogEntry] = &sound.entries[..sound.entries.len() - 2];

    let files: Vec<String> = disk.list(dir()).unwrap().into_iter().map(|file| file.name).collect();
    assert!(files.iter().filter(|name| name.ends_with(".wal")).count() >= 2, "{files:?}");
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    for file in files.iter().map(|name| dir().join(name)) {
        for offset in 0..8192 {
            let log = disk.crash(Survival::All);
            log.flip_bit(&file, offset, (offset % 8) as u8).unwrap();
            match open(&log, options) {
                Err(WalError::Damaged { path, .. }) => {
                    assert_eq!(path, file);
                    refused += 1;
                }
                Err(error) => panic!("{} byte {offset}: {error}", file.display()),
                Ok((_, found)) if found.entries == sound.entries => {
                    assert_eq!(found.hard_state, sound.hard_state);
                    harmless += 1;
                }
                Ok((_, found)) => {
                    assert_eq!(found.entries, before_last, "{} byte {offset}", file.display());
                    assert!(found.torn_tail.is_some(), "what is cut off is told");
                    cut += 1;
                }
            }
        }
    }
    assert_eq!(cut, 48 + 2 * (24 + 90), "exactly the last frame's bytes: the write no later one vouches for");
    assert!(refused > 1000 && harmless > 1000, "{refused} refused, {harmless} harmless");
}

#[test]
fn reopening_vouches_for_the_last_write() {
    let (disk, last_frame) = three_entries(1500);
    open(&disk, small()).unwrap();
    disk.flip_bit(&segment(1), last_frame + 500, 3).unwrap();
    assert_eq!(damaged_at(&open_error(&disk, small())).1, last_frame);
}

#[test]
fn a_mark_vouches_for_the_last_write() {
    let (disk, last_frame) = three_entries(1500);
    let (mut wal, _) = open(&disk, small()).unwrap();
    write(&mut wal, &entries(4, 1, 1, 100), None);
    wal.mark_durable().unwrap();
    wal.sync().unwrap();
    // Behind entry 3 (four sectors) lies the mark of the reopening, then entry 4.
    let entry_4 = last_frame + 2048 + 512;
    disk.flip_bit(&segment(1), entry_4 + 100, 3).unwrap();
    assert_eq!(damaged_at(&open_error(&disk, small())).1, entry_4);
}

#[test]
fn records_of_a_recycled_file_are_not_taken_for_new_ones() {
    let disk = disk();
    let mut wal = create(&disk, small());
    let mut last = 0;
    // The same shapes again and again, so that old frames lie exactly where new ones would.
    for round in 0..12 {
        while wal.space().bytes_left_in_segment >= 1024 {
            write(&mut wal, &entries(last + 1, 1, 1, 900), Some(hard_state(1, 1, last)));
            last += 1;
            let crashed = disk.crash(Survival::None);
            let (_, recovered) = open(&crashed, small()).unwrap();
            assert_eq!((recovered.last.0, recovered.torn_tail), (last, None), "round {round}");
            let want = entries(recovered.first.0, last + 1 - recovered.first.0, 1, 900);
            assert_eq!(recovered.entries, want);
        }
        write(&mut wal, &entries(last + 1, 1, 1, 900), Some(hard_state(1, 1, last)));
        last += 1;
        wal.release_before(Index(last)).unwrap();
    }
    assert_eq!(disk.list(dir()).unwrap().len(), 2, "one segment in use, one to recycle");
}

#[test]
fn missing_foreign_short_and_renamed_files_are_refused_by_name() {
    let disk = disk();
    let mut wal = create(&disk, small());
    for index in 1..=40 {
        write(&mut wal, &entries(index, 1, 1, 1000), None);
    }
    assert!(disk.contents(&segment(4)).is_ok());

    let missing = disk.crash(Survival::None);
    missing.remove(&segment(2)).unwrap();
    assert_eq!(damaged_at(&open_error(&missing, small())), (segment(2).display().to_string(), 0));

    let short = disk.crash(Survival::None);
    short.open(&segment(2), OpenMode::Write).unwrap().set_len(9000).unwrap();
    assert_eq!(damaged_at(&open_error(&short, small())), (segment(2).display().to_string(), 9000));
    short.open(&segment(2), OpenMode::Write).unwrap().set_len(10).unwrap();
    assert_eq!(damaged_at(&open_error(&short, small())), (segment(2).display().to_string(), 10));

    let renamed = disk.crash(Survival::None);
    renamed.rename(&segment(1), &segment(2)).unwrap();
    assert_eq!(damaged_at(&open_error(&renamed, small())).0, segment(2).display().to_string());

    let foreign = disk.crash(Survival::None);
    let file = foreign.open(&segment(3), OpenMode::Write).unwrap();
    file.write_at(b"SQLite format 3\0", 0).unwrap();
    assert!(open_error(&foreign, small()).to_string().contains("does not start as a log segment"));

    let absent = support::disk();
    assert!(!Wal::exists(&absent, dir()).unwrap());
    assert!(matches!(open_error(&absent, small()), WalError::Io { .. }));
    let again = Wal::create(Arc::new(disk), dir(), META, small()).err().expect("there is one");
    assert!(matches!(again, WalError::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists));
}

/// Changes a byte of the first segment's header, and its checksum with it.
fn change_header(disk: &SimDisk, at: usize, byte: u8) {
    let mut header = disk.contents(&segment(1)).unwrap()[..124].to_vec();
    header[at] = byte;
    let crc = crc32c::crc32c(&header).to_le_bytes();
    disk.damage(&segment(1), 0, &[&header[..], &crc].concat()).unwrap();
}

#[test]
fn a_log_of_a_newer_format_is_named_as_such() {
    let disk = disk();
    create(&disk, small());
    change_header(&disk, 8, 2);
    let error = open_error(&disk, small());
    assert!(matches!(error, WalError::NewerFormat { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn a_segment_that_starts_below_its_own_commit_index_is_damaged() {
    let disk = disk();
    create(&disk, small());
    change_header(&disk, 80, 5);
    let error = open_error(&disk, small());
    assert!(error.to_string().contains("ends with entry 0, but entry 5 was committed"), "{error}");
}

/// Puts `payload` into the first frame of a log, with every checksum right.
fn log_with_payload(payload: &[u8], claimed_len: u32) -> SimDisk {
    let disk = disk();
    create(&disk, small());
    let header_crc = disk.contents(&segment(1)).unwrap()[124..128].to_vec();
    let mut frame = vec![0; 48];
    frame[..4].copy_from_slice(b"QWFR");
    frame[8..16].copy_from_slice(&1_u64.to_le_bytes());
    frame[16..24].copy_from_slice(&4096_u64.to_le_bytes());
    frame[24..32].copy_from_slice(&4096_u64.to_le_bytes());
    frame[32..36].copy_from_slice(&claimed_len.to_le_bytes());
    frame[36..40].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    frame[40..44].copy_from_slice(&header_crc);
    let crc = crc32c::crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame.extend_from_slice(payload);
    disk.damage(&segment(1), 4096, &frame).unwrap();
    disk
}

fn entry_record(index: u64, len: u32, kind: u8) -> Vec<u8> {
    let mut record = vec![1, kind, 0, 0];
    record.extend_from_slice(&len.to_le_bytes());
    record.extend_from_slice(&1_u64.to_le_bytes());
    record.extend_from_slice(&index.to_le_bytes());
    record
}

/// CVE-2020-15112 and CVE-2020-15106: etcd panicked on such files.
#[test]
fn absurd_lengths_and_indices_are_clean_errors() {
    let sound = log_with_payload(&entry_record(1, 0, 0), 24);
    assert_eq!(open(&sound, small()).unwrap().1.entries, [entry(1, 1, "")]);

    for index in [0, 2, 1 << 40, u64::MAX - 1, u64::MAX] {
        let error = open_error(&log_with_payload(&entry_record(index, 0, 0), 24), small());
        assert!(error.to_string().contains(&format!("entry {index} follows entry 0")), "{error}");
    }
    let two: Vec<u8> = [entry_record(1, 0, 0), entry_record(3, 0, 0)].concat();
    assert!(matches!(open_error(&log_with_payload(&two, 48), small()), WalError::Damaged { .. }));
    for (record, what) in [
        (entry_record(1, u32::MAX, 0), "longer than its frame"),
        (entry_record(1, 1, 0), "longer than its frame"),
        (entry_record(1, 0, 3), "unknown kind"),
        (vec![1; 23], "cut short"),
        (vec![2; 31], "cut short"),
        (vec![9; 30], "unknown type"),
    ] {
        let error = open_error(&log_with_payload(&record, record.len() as u32), small());
        assert!(error.to_string().contains(what), "{error}");
    }
    // A frame that claims more than the file holds was never written whole: it is the end of the log.
    let claimed = log_with_payload(&entry_record(1, 0, 0), u32::MAX);
    assert_eq!(open(&claimed, small()).unwrap().1.last, Index(0));
    assert!(open_knowing(&claimed, 1).is_err());
}

#[test]
fn damage_found_while_reading_back_is_an_error() {
    let disk = disk();
    let mut wal = create(&disk, small());
    write(&mut wal, &entries(1, 3, 1, 300), None);
    disk.flip_bit(&segment(1), 4096 + 400, 0).unwrap();
    let error = wal.read(Index(1), Index(4), 1 << 20).unwrap_err();
    assert_eq!(damaged_at(&error), (segment(1).display().to_string(), 4096));
}
