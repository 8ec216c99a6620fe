use std::io::ErrorKind;
use std::path::Path;

use super::{DiskOperation, Fault, SimDisk, Survival};
use crate::disk::{Disk, OpenMode};

const FILE: &str = "dir/file";

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A disk with the durable file `dir/file` of 4096 letters `a`.
fn disk_with_file() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(path("dir")).unwrap();
    let file = disk.open(path(FILE), OpenMode::CreateNew).unwrap();
    file.write_at(&[b'a'; 4096], 0).unwrap();
    disk.settle();
    disk
}

fn fault(operation: DiskOperation, error: ErrorKind) -> Fault {
    Fault { operation: Some(operation), path_contains: String::new(), skip: 0, times: 1, error }
}

#[test]
fn unsynced_writes_are_forgotten_kept_or_torn_by_sector() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::Write).unwrap();
    file.write_at(&[b'b'; 1000], 500).unwrap();
    assert_eq!(disk.crash(Survival::None).contents(path(FILE)).unwrap(), [b'a'; 4096]);
    let mut whole = vec![b'a'; 4096];
    whole[500..1500].fill(b'b');
    assert_eq!(disk.crash(Survival::All).contents(path(FILE)).unwrap(), whole);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let found = disk.crash(Survival::Random(seed)).contents(path(FILE)).unwrap();
        // Sectors 0, 1 and 2 are touched: bytes 500..512, 512..1024, 1024..1500.
        for sector in [500..512, 512..1024, 1024..1500] {
            assert!(found[sector.clone()].iter().all(|&byte| byte == found[sector.start]), "torn inside a sector");
        }
        assert!(found[..500].iter().chain(&found[1500..]).all(|&byte| byte == b'a'));
        seen.insert((found[500], found[512], found[1024]));
    }
    assert_eq!(seen.len(), 8, "every combination of three sectors occurs");
}

#[test]
fn a_sector_written_twice_may_show_any_of_its_versions() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::Write).unwrap();
    file.write_at(b"b", 0).unwrap();
    file.write_at(b"c", 0).unwrap();
    let versions: std::collections::BTreeSet<u8> =
        (0..50).map(|seed| disk.crash(Survival::Random(seed)).contents(path(FILE)).unwrap()[0]).collect();
    assert_eq!(versions, [b'a', b'b', b'c'].into());
}

#[test]
fn sync_makes_writes_and_length_durable() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::Write).unwrap();
    file.write_at(b"tail", 10_000).unwrap();
    assert_eq!(disk.crash(Survival::None).contents(path(FILE)).unwrap().len(), 4096);
    file.sync_data().unwrap();
    let found = disk.crash(Survival::None).contents(path(FILE)).unwrap();
    assert_eq!((found.len(), &found[10_000..]), (10_004, &b"tail"[..]));
    assert!(found[4096..10_000].iter().all(|&byte| byte == 0), "new space reads as zero");
    file.set_len(100).unwrap();
    file.set_len(200).unwrap();
    assert_eq!(disk.contents(path(FILE)).unwrap()[100..], [0; 100], "what was cut off does not come back");
    assert_eq!(disk.crash(Survival::None).contents(path(FILE)).unwrap().len(), 10_004);
    file.sync_data().unwrap();
    assert_eq!(disk.crash(Survival::None).contents(path(FILE)).unwrap().len(), 200);
}

#[test]
fn names_are_lost_until_their_directory_is_synced() {
    let disk = SimDisk::recording();
    disk.create_dir_all(path("a/b")).unwrap();
    let file = disk.open(path("a/b/old"), OpenMode::CreateNew).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path("a/b")).unwrap();
    assert!(disk.crash(Survival::None).list(path(".")).unwrap().is_empty(), "the directories themselves were lost");
    disk.sync_dir(path(".")).unwrap();
    disk.sync_dir(path("a")).unwrap();
    assert_eq!(disk.crash(Survival::None).contents(path("a/b/old")).unwrap(), b"x");

    disk.rename(path("a/b/old"), path("a/b/new")).unwrap();
    assert_eq!(disk.crash(Survival::None).contents(path("a/b/old")).unwrap(), b"x");
    assert_eq!(disk.crash(Survival::All).contents(path("a/b/new")).unwrap(), b"x");
    disk.sync_dir(path("a/b")).unwrap();
    assert_eq!(disk.crash(Survival::None).contents(path("a/b/old")).unwrap_err().kind(), ErrorKind::NotFound);

    disk.remove(path("a/b/new")).unwrap();
    assert_eq!(disk.list(path("a/b")).unwrap().len(), 0);
    assert_eq!(disk.crash(Survival::None).contents(path("a/b/new")).unwrap(), b"x", "an unsynced removal is undone");
    disk.sync_dir(path("a/b")).unwrap();
    assert!(disk.crash(Survival::None).contents(path("a/b/new")).is_err());
    file.write_at(b"y", 0).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte, *b"y", "an open file outlives its name");
    for cut in 0..=disk.operation_count() {
        disk.crash_at(cut, Survival::All);
    }
}

#[test]
fn files_without_name_and_handle_are_forgotten() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::Write).unwrap();
    disk.remove(path(FILE)).unwrap();
    disk.sync_dir(path("dir")).unwrap();
    file.write_at(b"y", 0).unwrap();
    assert_eq!(disk.0.lock().state.inodes.len(), 1);
    drop(file);
    disk.sync_dir(path("dir")).unwrap();
    assert!(disk.0.lock().state.inodes.is_empty());
}

#[test]
fn a_file_whose_renames_partly_survive_has_one_name() {
    let disk = disk_with_file();
    disk.rename(path(FILE), path("dir/second")).unwrap();
    disk.rename(path("dir/second"), path("dir/third")).unwrap();
    for seed in 0..50 {
        assert_eq!(disk.crash(Survival::Random(seed)).list(path("dir")).unwrap().len(), 1);
    }
}

#[test]
fn a_recording_can_be_cut_after_every_operation() {
    let disk = SimDisk::recording();
    let file = disk.open(path("file"), OpenMode::CreateNew).unwrap();
    disk.sync_dir(path("/")).unwrap();
    for round in 0..200_u64 {
        file.write_at(&round.to_le_bytes(), 0).unwrap();
        file.sync_data().unwrap();
    }
    assert_eq!(disk.operation_count(), 402);
    for cut in 2..=disk.operation_count() {
        let found = disk.crash_at(cut, Survival::None).contents(path("file")).unwrap();
        let synced = (cut as u64 - 2) / 2;
        let want = synced.checked_sub(1).map_or(vec![], |round| round.to_le_bytes().to_vec());
        assert_eq!(found, want, "cut {cut} after {}", disk.describe(cut - 1));
        let written = (cut as u64 - 1) / 2;
        let want = written.checked_sub(1).map_or(vec![], |round| round.to_le_bytes().to_vec());
        assert_eq!(disk.crash_at(cut, Survival::All).contents(path("file")).unwrap(), want);
    }
    let again = |seed| disk.crash_at(101, Survival::Random(seed)).contents(path("file")).unwrap();
    assert!((0..20).all(|seed| again(seed) == again(seed)), "the same cut and seed give the same disk");
}

#[test]
fn a_failed_sync_is_not_healed_by_a_later_one() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::Write).unwrap();
    disk.inject(fault(DiskOperation::SyncData, ErrorKind::Other));
    file.write_at(b"lost", 0).unwrap();
    assert!(file.sync_data().is_err());
    file.write_at(b"kept", 600).unwrap();
    file.sync_data().unwrap();
    let found = disk.crash(Survival::None).contents(path(FILE)).unwrap();
    assert_eq!((&found[..4], &found[600..604]), (&b"aaaa"[..], &b"kept"[..]));
    assert_eq!(&disk.contents(path(FILE)).unwrap()[..4], b"lost", "the running machine still shows it");

    disk.inject(fault(DiskOperation::SyncDir, ErrorKind::Other));
    disk.rename(path(FILE), path("dir/moved")).unwrap();
    assert!(disk.sync_dir(path("dir")).is_err());
    disk.sync_dir(path("dir")).unwrap();
    assert!(disk.crash(Survival::None).contents(path(FILE)).is_ok());
    assert!(disk.crash(Survival::All).contents(path("dir/moved")).is_ok());
}

#[test]
fn a_durable_write_can_be_torn_until_it_has_returned() {
    let disk = SimDisk::recording();
    let file = disk.open(path("file"), OpenMode::CreateNew).unwrap();
    disk.sync_dir(path("/")).unwrap();
    let before = disk.operation_count();
    file.write_durably(&[b'a'; 4096], 0).unwrap();
    let after = disk.operation_count();
    assert_eq!(disk.crash_at(after, Survival::None).contents(path("file")).unwrap(), [b'a'; 4096]);
    assert!(disk.crash_at(before, Survival::All).contents(path("file")).unwrap().is_empty());
    let within = |survival| disk.crash_at(before + 1, survival).contents(path("file")).unwrap();
    assert!(within(Survival::None).is_empty());
    let torn = |found: &[u8]| found.contains(&b'a') && found.contains(&0);
    assert!((0..20).any(|seed| torn(&within(Survival::Random(seed)))));
    file.write_durably(&[], 0).unwrap();
    assert_eq!(disk.operation_count(), after);
    let reading = disk.open(path("file"), OpenMode::Read).unwrap();
    assert_eq!(reading.write_durably(b"x", 0).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_durable_write_saves_nothing_that_was_written_before() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::WriteDurably).unwrap();
    file.write_at(&[b'b'; 1024], 0).unwrap();
    file.write_durably(&[b'c'; 512], 512).unwrap();
    let found = disk.crash(Survival::None).contents(path(FILE)).unwrap();
    assert_eq!((found[..512].to_vec(), found[512..1024].to_vec()), (vec![b'a'; 512], vec![b'c'; 512]));
    for seed in 0..20 {
        let found = disk.crash(Survival::Random(seed)).contents(path(FILE)).unwrap();
        assert_eq!(found[512..1024], [b'c'; 512], "what came before does not come over it again");
    }
    file.sync_data().unwrap();
    assert_eq!(disk.crash(Survival::None).contents(path(FILE)).unwrap()[..512], [b'b'; 512]);
}

#[test]
fn a_durable_write_whose_sync_failed_is_in_doubt_for_ever() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::WriteDurably).unwrap();
    // Even if it failed because the disk was full: that write must not be tried again.
    disk.inject(fault(DiskOperation::SyncData, ErrorKind::StorageFull));
    assert_eq!(file.write_durably(b"lost", 0).unwrap_err().kind(), ErrorKind::Other);
    file.write_durably(b"kept", 600).unwrap();
    file.sync_data().unwrap();
    let found = disk.crash(Survival::None).contents(path(FILE)).unwrap();
    assert_eq!((&found[..4], &found[600..604]), (&b"aaaa"[..], &b"kept"[..]));
}

#[test]
fn a_durable_write_that_finds_no_room_can_be_tried_again() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::WriteDurably).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 4096));
    assert_eq!(file.write_durably(&[b'b'; 12_288], 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.crash(Survival::None).contents(path(FILE)).unwrap(), [b'a'; 4096], "no part is durable");
    disk.set_capacity(None);
    file.write_durably(&[b'b'; 12_288], 0).unwrap();
    assert_eq!(disk.crash(Survival::None).contents(path(FILE)).unwrap(), [b'b'; 12_288]);
}

#[test]
fn faults_strike_where_they_are_told() {
    let disk = disk_with_file();
    let file = disk.open(path(FILE), OpenMode::Write).unwrap();
    disk.inject(Fault {
        operation: None,
        path_contains: "file".to_owned(),
        skip: 1,
        times: 2,
        error: ErrorKind::TimedOut,
    });
    file.write_at(b"1", 0).unwrap();
    assert_eq!(file.write_at(b"22", 0).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(&disk.contents(path(FILE)).unwrap()[..2], b"2a", "part of a failed write may be there");
    disk.sync_dir(path("dir")).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 0).unwrap();
    assert_eq!(file.set_len(0).unwrap_err().kind(), ErrorKind::TimedOut);
    file.set_len(0).unwrap();
    disk.inject(fault(DiskOperation::Read, ErrorKind::Other));
    assert_eq!(file.read_at(&mut byte, 0).unwrap_err().kind(), ErrorKind::Other);
    assert_eq!(file.read_at(&mut byte, 0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_full_disk_refuses_new_space_but_not_reserved_space() {
    let disk = disk_with_file();
    disk.set_capacity(Some(4 * 4096));
    assert_eq!(disk.used_bytes(), 4096);
    let file = disk.open(path("dir/other"), OpenMode::CreateNew).unwrap();
    assert_eq!(file.reserve(4 * 4096).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 0, "a failed reservation changes nothing");
    file.reserve(2 * 4096).unwrap();
    assert_eq!(file.write_at(&[1; 5 * 4096], 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 3 * 4096, "what fits is written");
    file.write_at(&[2; 3 * 4096], 0).unwrap();
    disk.remove(path(FILE)).unwrap();
    file.write_at(&[3; 4096], 3 * 4096).unwrap();
    file.set_len(1 << 30).unwrap();
    assert_eq!(file.write_at(&[3; 1], 1 << 20).unwrap_err().kind(), ErrorKind::StorageFull, "holes need space too");
}

#[test]
fn open_modes_and_missing_names_answer_as_a_file_system_does() {
    let disk = disk_with_file();
    assert!(
        matches!(disk.open(path(FILE), OpenMode::CreateNew), Err(error) if error.kind() == ErrorKind::AlreadyExists)
    );
    assert!(matches!(disk.open(path("dir/none"), OpenMode::Write), Err(error) if error.kind() == ErrorKind::NotFound));
    assert!(matches!(disk.open(path("no/f"), OpenMode::CreateNew), Err(error) if error.kind() == ErrorKind::NotFound));
    assert_eq!(disk.list(path("no")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.create_dir_all(path("dir/file/x")).unwrap_err().kind(), ErrorKind::NotADirectory);
    let file = disk.open(path("./dir/file"), OpenMode::Read).unwrap();
    assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::PermissionDenied);
    let names: Vec<_> = disk.list(path("/dir")).unwrap();
    assert_eq!((names.len(), names[0].len, names[0].is_dir), (1, 4096, false));
    assert!(disk.list(path("/")).unwrap()[0].is_dir);
}

#[test]
fn bits_flip_on_demand_and_stay_flipped() {
    let disk = disk_with_file();
    disk.flip_bit(path(FILE), 7, 1).unwrap();
    assert_eq!(disk.contents(path(FILE)).unwrap()[7], b'c');
    assert_eq!(disk.crash(Survival::None).contents(path(FILE)).unwrap()[7], b'c');
}

#[test]
fn a_large_file_of_zeros_costs_little() {
    let disk = SimDisk::recording();
    let file = disk.open(path("big"), OpenMode::CreateNew).unwrap();
    let zeros = vec![0; 1 << 20];
    for megabyte in 0..64 {
        file.write_at(&zeros, megabyte << 20).unwrap();
    }
    file.sync_data().unwrap();
    disk.sync_dir(path("")).unwrap();
    for cut in 0..=disk.operation_count() {
        disk.crash_at(cut, Survival::All);
    }
    assert_eq!(disk.crash(Survival::None).open(path("big"), OpenMode::Read).unwrap().len().unwrap(), 64 << 20);
    assert_eq!(disk.used_bytes(), 64 << 20);
}
