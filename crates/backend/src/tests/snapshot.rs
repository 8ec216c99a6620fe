//! The state from one member to another: what arrives is what was sent, or nothing.

use std::thread;

use env::{Fault, Survival};
use proptest::prelude::*;

use super::*;
use crate::{Export, Import, ImportError};

fn import(disk: &SimDisk) -> Import {
    Import::create(Arc::new(disk.clone()), Path::new(PATH), Options::default()).unwrap()
}

fn stream(backend: &Backend) -> Vec<u8> {
    let mut export = backend.export();
    let mut stream = Vec::new();
    while let Some(chunk) = export.next_chunk().unwrap() {
        stream.extend(chunk);
    }
    stream
}

fn receive(disk: &SimDisk, stream: &[u8]) -> Result<(Index, Term), ImportError> {
    let mut import = import(disk);
    import.write(stream)?;
    import.finish()
}

fn received(disk: &SimDisk) -> Option<(Index, Term)> {
    Backend::received(disk, Path::new(PATH)).unwrap()
}

fn adopt(backend: &Backend) {
    let received = backend.open_received().unwrap();
    backend.begin_adoption(received).unwrap().publish();
}

fn value(table: Table, key: &[u8], value: &[u8]) -> (Table, Vec<u8>, Option<Vec<u8>>) {
    (table, key.to_vec(), Some(value.to_vec()))
}

/// A state of index 7, with values in several tables, removed rows, and rows of `value_len` bytes.
fn sender(value_len: usize) -> Backend {
    let backend = open(&SimDisk::new()).unwrap();
    let mut staged = puts(1..60, value_len, 7);
    staged.values.push(value(Table::Lease, b"\0\0\0\0\0\0\0\x01", b"lease"));
    staged.values.push(value(Table::Lease, b"\0\0\0\0\0\0\0\x02", b""));
    staged.values.push(value(Table::Members, b"1f", b"{}"));
    staged.values.push(value(Table::AuthRoles, b"root", b"role"));
    let tombstone = RowKey { revision: Revision { main: 60, sub: 3 }, tombstone: true };
    staged.rows.push((tombstone, Record::tombstone(b"key7")));
    backend.stage(staged);
    backend.commit().unwrap();
    backend.stage(Staged { removed_rows: (5..30).map(row).collect(), ..Staged::default() });
    backend.commit().unwrap();
    backend
}

fn is_named(disk: &SimDisk, name: &str) -> bool {
    disk.list(Path::new(".")).unwrap().iter().any(|entry| entry.name == name)
}

#[test]
fn exports_and_imports_can_go_from_thread_to_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Export>();
    assert_send::<Import>();
    assert_send::<crate::Received>();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_arrives_is_what_was_sent_however_it_is_cut(
        value_len in prop_oneof![0..300_usize, 20_000..40_000_usize],
        cuts in prop::collection::vec(1..200_000_usize, 1..20),
    ) {
        let sender = sender(value_len);
        let stream = stream(&sender);
        let disk = SimDisk::new();
        let mut import = import(&disk);
        let (mut rest, mut cuts) = (&stream[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (some, more) = rest.split_at(rest.len().min(cuts.next().unwrap()));
            import.write(some).unwrap();
            rest = more;
        }
        prop_assert_eq!(received(&disk), None);
        prop_assert_eq!(import.finish().unwrap(), (Index(7), Term(1)));
        prop_assert_eq!(received(&disk), Some((Index(7), Term(1))));
        Backend::adopt_at_boot(&disk, Path::new(PATH)).unwrap();
        prop_assert_eq!(received(&disk), None);
        let receiver = open(&disk).unwrap();
        prop_assert!(contents(&receiver).unwrap() == contents(&sender).unwrap());
        prop_assert_eq!((receiver.applied(), receiver.digest()), ((Index(7), Term(1)), 7_000_021));
        prop_assert_eq!(receiver.size().in_use_bytes, sender.size().in_use_bytes);
    }
}

/// Of 24 MB of rows, by several transactions.
#[test]
fn a_state_arrives_that_is_larger_than_a_transaction() {
    let sender = sender(700_000);
    let disk = SimDisk::new();
    assert!(sender.size().in_use_bytes > 3 * crate::file::FILLED_BYTES_MAX);
    receive(&disk, &stream(&sender)).unwrap();
    Backend::adopt_at_boot(&disk, Path::new(PATH)).unwrap();
    let receiver = open(&disk).unwrap();
    assert!(contents(&receiver).unwrap() == contents(&sender).unwrap());
    assert_eq!(receiver.size().in_use_bytes, sender.size().in_use_bytes);
}

/// Or whoever else syncs on that disk waits for megabytes.
#[test]
fn what_comes_in_is_synced_in_small_pieces() {
    let stream = stream(&sender(30_000));
    let disk = SimDisk::recording();
    receive(&disk, &stream).unwrap();
    let max = unsynced_bytes_max(&disk);
    assert!((200_000..320_000).contains(&max), "{max} of {}", stream.len());
}

#[test]
fn an_empty_state_arrives_too() {
    let disk = SimDisk::new();
    assert_eq!(receive(&disk, &stream(&open(&SimDisk::new()).unwrap())).unwrap(), (Index(0), Term(0)));
}

/// Byte for byte what `docs/snapshot.md` shows.
#[test]
fn the_page_shows_the_stream_of_a_small_state() {
    let backend = open(&SimDisk::new()).unwrap();
    let record = Record::put(
        b"a",
        b"b",
        RecordMeta { create_revision: 2, mod_revision: 2, version: 1, ..RecordMeta::default() },
    );
    backend.stage(Staged {
        rows: vec![(row(2), record)],
        applied: Some((Index(5), Term(2))),
        digest: Some(0x0102_0304_0506_0708),
        ..Staged::default()
    });
    backend.commit().unwrap();
    let stream = stream(&backend);
    let page = include_str!("../../../../docs/snapshot.md");
    let sample = page.split("```").find(|block| block.starts_with("\n51 53")).expect("the page has the sample");
    let shown: Vec<u8> = sample
        .lines()
        .flat_map(|line| line.split("  ").next().unwrap_or_default().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let hex: Vec<String> = stream.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(shown == stream, "the stream is now\n{}", hex.join(" "));
}

#[test]
fn every_changed_bit_and_every_missing_end_is_refused_and_nothing_is_left() {
    let mut staged = puts(1..4, 10, 7);
    staged.values.push(value(Table::Members, b"1f", b"{}"));
    let sender = open(&SimDisk::new()).unwrap();
    sender.stage(staged);
    sender.commit().unwrap();
    let stream = stream(&sender);
    for at in 0..stream.len() {
        let disk = SimDisk::new();
        let mut changed = stream.clone();
        changed[at] ^= 1 << (at % 8);
        receive(&disk, &changed).unwrap_err();
        let cut = receive(&disk, &stream[..at]).unwrap_err();
        assert!(matches!(cut, ImportError::Incomplete { bytes } if bytes == at as u64), "{cut}");
        assert_eq!(disk.list(Path::new(".")).unwrap(), [], "byte {at}");
    }
    let longer = receive(&SimDisk::new(), &[&stream[..], b"x"].concat()).unwrap_err();
    assert!(matches!(longer, ImportError::Malformed { offset, .. } if offset == stream.len() as u64), "{longer}");
}

#[test]
fn a_later_format_and_absurd_lengths_are_told_by_name() {
    let disk = SimDisk::new();
    let mut stream = stream(&sender(10));
    stream[11] = 2;
    assert!(matches!(receive(&disk, &stream), Err(ImportError::TooNew { found: 2, known: 1 })));
    stream[11] = 1;
    for len in [0_u32, 97 << 20, u32::MAX] {
        stream[41..45].copy_from_slice(&len.to_be_bytes());
        let error = receive(&disk, &stream).unwrap_err();
        assert_eq!(error.to_string(), format!("the received state is damaged at byte 41: block of {len} bytes"));
    }
}

/// As a sender with a fault would make them: every checksum is right.
#[test]
fn blocks_that_contradict_each_other_are_refused() {
    let whole = blocks(&stream(&sender(10)));
    assert!(receive(&SimDisk::new(), &joined(&whole)).is_ok());
    let refused = |blocks: &[Vec<u8>], why: &str| {
        let error = receive(&SimDisk::new(), &joined(blocks)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    let without = |at: usize| [&whole[..at], &whole[at + 1..]].concat();
    // Header, rows, meta, leases, members, roles, end.
    assert_eq!(whole.len(), 7);
    for at in 1..6 {
        refused(&without(at), "what came is not all that was sent");
    }
    refused(&without(6), "is not complete");
    refused(&[&whole[..2], &whole[1..]].concat(), "row 1/0 stands where it cannot");
    refused(&[&whole[..4], &whole[3..]].concat(), "in table lease stands where it cannot");
    let mut swapped = whole.clone();
    swapped.swap(1, 2);
    refused(&swapped, "a block stands behind one that comes after it");
    let mut other_index = whole.clone();
    other_index[0][19] = 9;
    refused(&other_index, "its rows are of entry 7");
    let mut short = whole.clone();
    short[1].pop();
    refused(&short, "a row is cut short");
    let mut rotten = whole.clone();
    *rotten[1].last_mut().unwrap() ^= 1;
    refused(&rotten, "row 60/3 is damaged");
}

/// The header and each block's kind and payload, without what can be made again.
fn blocks(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut blocks = vec![stream[..36].to_vec()];
    let mut rest = &stream[40..];
    while !rest.is_empty() {
        let len = u32::from_be_bytes(*rest[1..].first_chunk().unwrap()) as usize;
        blocks.push([&rest[..1], &rest[5..5 + len]].concat());
        rest = &rest[9 + len..];
    }
    blocks
}

fn joined(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        if at == 0 {
            stream.extend_from_slice(block);
        } else {
            stream.push(block[0]);
            stream.extend_from_slice(&(block.len() as u32 - 1).to_be_bytes());
            stream.extend_from_slice(&block[1..]);
        }
        stream.extend_from_slice(&crc32c::crc32c(&stream).to_be_bytes());
    }
    stream
}

#[test]
fn an_import_that_is_dropped_leaves_nothing_and_two_do_not_meet() {
    let disk = SimDisk::new();
    let one = import(&disk);
    assert!(is_named(&disk, "db.received.new"));
    let other = Import::create(Arc::new(disk.clone()), Path::new(PATH), Options::default());
    assert!(matches!(other, Err(ImportError::Backend(BackendError::Io { .. }))));
    assert!(is_named(&disk, "db.received.new"));
    drop(one);
    assert!(!is_named(&disk, "db.received.new"));
    drop(import(&disk));
}

#[test]
fn a_full_disk_refuses_an_import_and_gives_its_space_back() {
    let stream = stream(&sender(30_000));
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    let used = disk.used_bytes();
    disk.set_capacity(Some(used + (1 << 20)));
    let error = receive(&disk, &stream).unwrap_err();
    assert!(matches!(error, ImportError::Backend(BackendError::NoSpace { .. })), "{error}");
    assert_eq!(disk.used_bytes(), used);
    disk.set_capacity(None);
    receive(&disk, &stream).unwrap();
    adopt(&backend);
    assert_eq!(backend.applied().0, Index(7));
}

#[test]
fn an_adopted_state_is_seen_under_the_same_handle_and_goes_on() {
    let sender = sender(100);
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    backend.stage(puts(1..3, 20, 1));
    backend.commit().unwrap();
    let before = backend.view();
    backend.stage(puts(3..5, 20, 2));
    receive(&disk, &stream(&sender)).unwrap();
    assert_eq!(backend.applied().0, Index(1), "received is not adopted");
    adopt(&backend);
    assert_eq!(backend.staged_bytes(), 0);
    assert_eq!(backend.applied(), (Index(7), Term(1)));
    assert!(contents(&backend).unwrap() == contents(&sender).unwrap());
    assert_eq!(before.scan(Revision::default(), END, &mut |_, _| ControlFlow::Continue(())).unwrap().rows, 2);

    backend.stage(puts(100..110, 20, 8));
    backend.commit().unwrap();
    backend.defragment().unwrap();
    assert_eq!(backend.digest(), 8_000_024);
    drop((backend, before));
    let backend = open(&disk.crash(Survival::None)).unwrap();
    assert_eq!((backend.applied().0, backend.digest()), (Index(8), 8_000_024));
    assert_eq!(disk.list(Path::new(".")).unwrap().len(), 1);
}

#[test]
fn commits_go_on_under_an_export_and_are_not_part_of_it() {
    let sender = sender(30_000);
    let expected = stream(&sender);
    let mut export = sender.export();
    let mut stream = Vec::new();
    let mut main = 100;
    while let Some(chunk) = export.next_chunk().unwrap() {
        assert!(chunk.len() <= (256 << 10) + 31_000);
        stream.extend(chunk);
        let mut staged = puts(main..main + 5, 30_000, main as u64);
        staged.removed_rows = (30..60).map(row).collect();
        sender.stage(staged);
        sender.commit().unwrap();
        main += 5;
    }
    assert!(stream == expected);
}

/// The new file of a defragmentation holds the old state: it must not take the name of the one that was adopted meanwhile.
#[test]
fn a_defragmentation_under_way_gives_way_to_an_adopted_state() {
    let stream = stream(&sender(100));
    let mut outrun = 0;
    for round in 0..40_u64 {
        let disk = SimDisk::new();
        let backend = open(&disk).unwrap();
        backend.stage(puts(1..3000, 300, 1));
        backend.commit().unwrap();
        receive(&disk, &stream).unwrap();
        thread::scope(|scope| {
            let defragmenting = scope.spawn(|| backend.defragment().unwrap());
            while !is_named(&disk, "db.new") && !defragmenting.is_finished() {
                thread::yield_now();
            }
            (0..round * 50).for_each(|_| thread::yield_now());
            adopt(&backend);
            outrun += usize::from(is_named(&disk, "db.new"));
        });
        assert_eq!(backend.applied().0, Index(7));
        drop(backend);
        let names: Vec<_> = disk.list(Path::new(".")).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["db"]);
        assert_eq!(open(&disk).unwrap().applied().0, Index(7));
    }
    assert!(outrun > 0, "no adoption came before the end of a defragmentation");
}

#[test]
fn a_directory_that_cannot_be_synced_stops_the_backend() {
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    receive(&disk, &stream(&sender(10))).unwrap();
    let received = backend.open_received().unwrap();
    disk.inject(Fault {
        operation: Some(env::DiskOperation::SyncDir),
        path_contains: String::new(),
        skip: 0,
        times: 1,
        error: std::io::ErrorKind::Other,
    });
    assert!(matches!(backend.begin_adoption(received), Err(BackendError::Io { .. })));
    backend.stage(puts(1..2, 10, 1));
    assert!(backend.commit().unwrap_err().to_string().contains("stopped by an earlier failure"));
}

/// The state is of entry 1, what was received of entry 7.
#[test]
fn a_start_settles_what_was_received_by_where_the_log_begins() {
    let stream = stream(&sender(10));
    for (first_in_log, is_adopted, is_kept) in
        [(1, false, false), (2, false, false), (3, false, true), (7, false, true), (8, true, false), (9, false, true)]
    {
        let disk = SimDisk::new();
        let backend = open(&disk).unwrap();
        backend.stage(puts(1..3, 20, 1));
        backend.commit().unwrap();
        assert!(!backend.settle_received(Index(first_in_log)).unwrap(), "nothing was received yet");
        receive(&disk, &stream).unwrap();
        assert_eq!(backend.settle_received(Index(first_in_log)).unwrap(), is_adopted, "{first_in_log}");
        assert_eq!(backend.applied().0, Index(if is_adopted { 7 } else { 1 }), "{first_in_log}");
        assert_eq!(received(&disk).is_some(), is_kept, "{first_in_log}");
    }
}

#[test]
fn what_was_received_can_be_thrown_away() {
    let disk = SimDisk::new();
    receive(&disk, &stream(&sender(10))).unwrap();
    Backend::discard_received(&disk, Path::new(PATH)).unwrap();
    Backend::discard_received(&disk, Path::new(PATH)).unwrap();
    assert_eq!(received(&disk.crash(Survival::None)), None);
}

/// Cuts the power after every operation of receiving and adopting: the state is the old one or the new one, both whole; once
/// received it is not lost, and once adopted it stays.
#[test]
fn every_cut_of_receiving_and_adopting_leaves_one_state_or_the_other() {
    for at_boot in [false, true] {
        let sender = sender(300);
        let stream = stream(&sender);
        let disk = SimDisk::recording();
        let backend = open(&disk).unwrap();
        backend.stage(puts(1..3, 20, 1));
        backend.commit().unwrap();
        let old = contents(&backend).unwrap();
        let start = disk.operation_count();
        receive(&disk, &stream).unwrap();
        let whole = disk.operation_count();
        if at_boot {
            drop(backend);
            Backend::adopt_at_boot(&disk, Path::new(PATH)).unwrap();
        } else {
            adopt(&backend);
            drop(backend);
        }
        let adopted = disk.operation_count();
        let new = contents(&sender).unwrap();
        for cut in start..=adopted {
            for survival in [Survival::None, Survival::All, Survival::Random(cut as u64)] {
                let context = format!("cut {cut} after {}, {survival:?}", disk.describe(cut - 1));
                let survivor = disk.crash_at(cut, survival);
                let was_received = received(&survivor);
                let backend = open(&survivor).unwrap_or_else(|error| panic!("{context}: {error}"));
                let found = contents(&backend).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(!is_named(&survivor, "db.received.new"), "{context}");
                let is_new = backend.applied().0 == Index(7);
                assert!(found == if is_new { &new } else { &old }.clone(), "{context}");
                assert!(cut < whole || is_new || was_received.is_some(), "{context}: what was received is lost");
                assert!(cut < adopted || is_new, "{context}: what was adopted is lost");
                assert!(!(is_new && was_received.is_some()), "{context}");
                if was_received.is_some() {
                    drop(backend);
                    Backend::adopt_at_boot(&survivor, Path::new(PATH)).unwrap();
                    let adopted = open(&survivor).unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert!(contents(&adopted).unwrap() == new, "{context}");
                }
            }
        }
    }
}
