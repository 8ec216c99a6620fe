//! Reading entries back while the log goes on.
#![allow(clippy::unwrap_used, reason = "in a test every failure is a panic")]

mod support;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use env::{Disk, OpenMode, RealDisk};
use support::*;
use types::{Index, Term};
use wal::{Wal, WalError, WalOptions};

/// A log of 40 entries, all committed.
fn filled(wal: &mut Wal) {
    for index in 1..=40 {
        write(wal, &entries(index, 1, 1, 1000), Some(hard_state(1, 1, index)));
    }
}

fn is_released(read: &Result<Vec<types::LogEntry>, WalError>, from: u64) -> bool {
    matches!(read, Err(WalError::Released { index }) if *index == Index(from))
}

#[test]
fn a_reader_gives_what_the_log_held_when_it_was_made() {
    let mut wal = create(&disk(), small());
    write(&mut wal, &entries(1, 40, 1, 1000), Some(hard_state(1, 1, 9)));
    let reader = wal.reader(Index(5), Index(41), usize::MAX).unwrap();
    write(&mut wal, &entries(10, 60, 2, 1000), None);
    assert_eq!(reader.read().unwrap(), entries(5, 36, 1, 1000));
    let now = [entries(5, 5, 1, 1000), entries(10, 31, 2, 1000)].concat();
    assert_eq!(wal.read(Index(5), Index(41), usize::MAX).unwrap(), now);
}

#[test]
fn what_was_let_go_of_since_is_thrown_away_whether_it_is_still_there_or_not() {
    for entries_after in [0, 60] {
        let mut wal = create(&disk(), small());
        filled(&mut wal);
        let (gone, held) = (wal.reader(Index(1), Index(41), usize::MAX), wal.reader(Index(38), Index(41), usize::MAX));
        assert!(wal.release_before(Index(30)).unwrap() > 0);
        for index in 41..41 + entries_after {
            // Into the segments that were let go of.
            write(&mut wal, &entries(index, 1, 1, 1000), None);
        }
        assert!(is_released(&gone.unwrap().read(), 1));
        assert_eq!(held.unwrap().read().unwrap(), entries(38, 3, 1, 1000));
    }
}

/// The log begins anew before the entry, so that its index alone would not tell.
#[test]
fn a_restart_of_the_log_lets_go_of_what_lies_behind_it_too() {
    let mut wal = create(&disk(), small());
    write(&mut wal, &entries(1, 40, 1, 1000), Some(hard_state(1, 1, 9)));
    let reader = wal.reader(Index(30), Index(41), usize::MAX).unwrap();
    wal.restart_at(Index(20), Term(2)).unwrap();
    write(&mut wal, &entries(21, 60, 2, 1000), None);
    assert!(is_released(&reader.read(), 30));
}

#[test]
fn damage_of_what_is_held_is_no_release() {
    let disk = disk();
    let mut wal = create(&disk, small());
    filled(&mut wal);
    let reader = wal.reader(Index(1), Index(41), usize::MAX).unwrap();
    disk.open(&segment(1), OpenMode::Write).unwrap().write_at(&[0xee; 4096], 8192).unwrap();
    assert!(matches!(reader.read(), Err(WalError::Damaged { .. })));
}

#[test]
fn a_reader_on_another_thread_meets_releases_at_any_moment() {
    const ENTRIES: u64 = 4000;
    let mut wal = create(&disk(), small());
    filled(&mut wal);
    let (send, receive) = mpsc::sync_channel::<(u64, wal::Reader)>(4);
    let reading = thread::spawn(move || {
        let mut whole = 0;
        for (from, reader) in receive {
            match reader.read() {
                Ok(read) => {
                    assert!(!read.is_empty() && read == entries(from, read.len() as u64, 1, 1000));
                    whole += 1;
                }
                Err(WalError::Released { index }) => assert_eq!(index, Index(from)),
                Err(error) => panic!("{error}"),
            }
        }
        whole
    });
    for index in 41..ENTRIES {
        write(&mut wal, &entries(index, 1, 1, 1000), Some(hard_state(1, 1, index)));
        let from = wal.first();
        send.send((from.0, wal.reader(from, Index(index), usize::MAX).unwrap())).unwrap();
        if index % 20 == 0 {
            wal.release_before(Index(index - 10)).unwrap();
        }
    }
    drop(send);
    assert!(reading.join().unwrap() > 0);
}

/// The log is written past the page cache and read through it: pages that are cached while they are written must not be
/// what later readers find.
#[test]
fn readers_find_every_entry_while_a_real_disk_is_written() {
    const ENTRIES: u64 = 500;
    for parent in [std::env::temp_dir().as_path(), Path::new("/dev/shm")] {
        let place = parent.join(format!("quorate-wal-reader-test-{}", std::process::id()));
        RealDisk.create_dir_all(&place).unwrap();
        let options = WalOptions { segment_size_bytes: 128 << 10 };
        let mut wal = Wal::create(Arc::new(RealDisk), &place.join("wal"), META, options).unwrap();
        let (send, receive) = mpsc::sync_channel::<(u64, wal::Reader)>(4);
        let reading = thread::spawn(move || {
            for (from, reader) in receive {
                let read = reader.read().unwrap();
                assert!(!read.is_empty() && read == entries(from, read.len() as u64, 1, 300));
            }
        });
        for index in 1..=ENTRIES {
            write(&mut wal, &entries(index, 1, 1, 300), None);
            for from in [index, index.saturating_sub(20).max(1)] {
                send.send((from, wal.reader(Index(from), Index(index + 1), usize::MAX).unwrap())).unwrap();
            }
        }
        drop(send);
        reading.join().unwrap();
        assert!(wal.segment_count() > 2);
        #[allow(clippy::disallowed_methods, reason = "tidying up after the test")]
        std::fs::remove_dir_all(&place).unwrap();
    }
}
