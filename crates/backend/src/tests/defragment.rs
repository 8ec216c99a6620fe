//! Defragmentation beside readers and commits.

use std::io::ErrorKind;

use env::{DiskOperation, Fault, Survival};

use super::*;

fn with_holes(disk: &SimDisk) -> (Backend, Contents) {
    let backend = open(disk).unwrap();
    let mut contents = Contents::default();
    let values =
        Staged { values: vec![(Table::AuthUsers, b"root".to_vec(), Some(b"x".to_vec()))], ..Staged::default() };
    for staged in [puts(1..3000, 300, 1), values, removals((1..3000).filter(|main| main % 10 != 0), 2)] {
        contents.apply(&staged);
        backend.stage(staged);
        backend.commit().unwrap();
    }
    (backend, contents)
}

/// Or whoever else syncs on that disk waits for megabytes. What is committed afterwards is synced once again.
#[test]
fn the_new_file_is_synced_in_small_pieces() {
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    backend.stage(puts(1..3000, 300, 1));
    backend.commit().unwrap();
    disk.record();
    backend.defragment().unwrap();
    let max = unsynced_bytes_max(&disk);
    assert!((200_000..320_000).contains(&max), "{max} of {}", disk.used_bytes());
    disk.record();
    backend.stage(puts(3000..6000, 300, 2));
    backend.commit().unwrap();
    assert!(unsynced_bytes_max(&disk) > 600_000, "{}", unsynced_bytes_max(&disk));
}

#[test]
fn defragmentation_gives_space_back_and_changes_nothing_else() {
    let disk = SimDisk::new();
    let (backend, mut expected) = with_holes(&disk);
    let before = (disk.used_bytes(), backend.size());
    let old = backend.view();
    let staged = puts(3000..3010, 100, 3);
    expected.apply(&staged);
    backend.stage(staged);
    backend.defragment().unwrap();
    assert_eq!(contents(&backend).unwrap(), expected);
    assert_eq!(old.row_count(), 299);
    old.scan(Revision::default(), END, &mut |_, _| ControlFlow::Continue(())).unwrap();
    drop(old);
    assert!(disk.used_bytes() < before.0 / 3, "{} of {}", disk.used_bytes(), before.0);
    assert!(backend.size().file_bytes < before.1.file_bytes / 3);
    assert_eq!(backend.size().in_use_bytes, before.1.in_use_bytes);
    backend.commit().unwrap();
    std::mem::forget(backend);
    let backend = open(&disk.crash(Survival::None)).unwrap();
    assert_eq!(contents(&backend).unwrap(), expected);
    assert_eq!(backend.applied().0, Index(3));
}

#[test]
fn commits_and_compactions_meanwhile_reach_the_new_file() {
    let disk = SimDisk::new();
    let (backend, mut expected) = with_holes(&disk);
    std::thread::scope(|scope| {
        let defragmentation = scope.spawn(|| {
            for _ in 0..5 {
                backend.defragment().unwrap();
            }
        });
        for round in 0..200 {
            let staged = puts(3000 + round * 10..3010 + round * 10, 300, 10 + round as u64);
            let removed = removals([10 * (round + 1), 3000 + round * 10], 10 + round as u64);
            for staged in [staged, removed] {
                expected.apply(&staged);
                backend.stage(staged);
            }
            backend.commit().unwrap();
        }
        defragmentation.join().unwrap();
    });
    assert_eq!(contents(&backend).unwrap(), expected);
    std::mem::forget(backend);
    assert_eq!(contents(&open(&disk.crash(Survival::None)).unwrap()).unwrap(), expected);
}

#[test]
fn a_failure_anywhere_leaves_a_complete_file_in_service() {
    let operations = [
        DiskOperation::Create,
        DiskOperation::Write,
        DiskOperation::SetLen,
        DiskOperation::SyncData,
        DiskOperation::Rename,
    ];
    for operation in operations {
        for error in [ErrorKind::StorageFull, ErrorKind::Other] {
            let disk = SimDisk::new();
            let (backend, mut expected) = with_holes(&disk);
            let path_contains = "db.new".to_owned();
            disk.inject(Fault { operation: Some(operation), path_contains, skip: 0, times: 1, error });
            backend.defragment().unwrap_err();
            assert_eq!(contents(&backend).unwrap(), expected);
            assert!(disk.list(Path::new(".")).unwrap().len() == 1, "{operation:?} left its file");
            let staged = puts(3000..3010, 100, 3);
            expected.apply(&staged);
            backend.stage(staged);
            backend.commit().unwrap();
            backend.defragment().unwrap();
            assert_eq!(contents(&backend).unwrap(), expected);
        }
    }
}

#[test]
fn a_name_that_may_not_be_durable_stops_the_backend() {
    let disk = SimDisk::new();
    let (backend, expected) = with_holes(&disk);
    let operation = Some(DiskOperation::SyncDir);
    disk.inject(Fault { operation, path_contains: String::new(), skip: 0, times: 1, error: ErrorKind::Other });
    assert!(matches!(backend.defragment(), Err(BackendError::Io { .. })));
    assert_eq!(contents(&backend).unwrap(), expected);
    backend.stage(puts(3000..3010, 100, 3));
    backend.commit().unwrap_err();
    for survival in [Survival::None, Survival::All] {
        assert_eq!(contents(&open(&disk.crash(survival)).unwrap()).unwrap(), expected);
    }
}
