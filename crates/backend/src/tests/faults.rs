//! Full and failing disks.

use std::io::ErrorKind;

use env::{DiskOperation, Fault, Survival};

use super::*;

fn fault(operation: Option<DiskOperation>, skip: u64, times: u64, error: ErrorKind) -> Fault {
    Fault { operation, path_contains: PATH.to_owned(), skip, times, error }
}

/// The state with everything of `staged`.
fn all_of(staged: &[Staged]) -> Contents {
    let mut contents = Contents::default();
    staged.iter().for_each(|staged| contents.apply(staged));
    contents
}

#[test]
fn a_full_disk_loses_nothing_and_a_later_commit_succeeds() {
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    let staged = [puts(1..200, 500, 1), puts(200..2000, 500, 2), puts(2000..2100, 500, 3)];
    backend.stage(staged[0].clone());
    backend.commit().unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 200_000));

    backend.stage(staged[1].clone());
    let view = backend.view();
    for _ in 0..3 {
        assert!(matches!(backend.commit(), Err(BackendError::NoSpace { .. })));
        assert_eq!(contents(&backend).unwrap(), all_of(&staged[..2]));
        assert_eq!(backend.get(row(7)).unwrap(), Some(record(7, 500)));
        assert_eq!(backend.applied().0, Index(1));
    }
    backend.stage(staged[2].clone());
    assert!(backend.staged_bytes() > 1900 * 500);
    let crashed = open(&disk.crash(Survival::Random(1))).unwrap();
    assert_eq!(contents(&crashed).unwrap(), all_of(&staged[..1]));

    disk.set_capacity(None);
    let committed = backend.commit().unwrap();
    assert_eq!((committed.applied.0, committed.row_count), (Index(3), 1900));
    assert_eq!(backend.staged_bytes(), 0);
    drop((backend, view));
    let backend = open(&disk.crash(Survival::None)).unwrap();
    assert_eq!(contents(&backend).unwrap(), all_of(&staged));
}

#[test]
fn no_space_at_any_write_of_a_commit_is_survived() {
    for skip in 0.. {
        let disk = SimDisk::new();
        let backend = open(&disk).unwrap();
        let staged = [puts(1..20, 300, 1), puts(20..60, 300, 2)];
        backend.stage(staged[0].clone());
        backend.commit().unwrap();
        backend.stage(staged[1].clone());
        disk.inject(fault(Some(DiskOperation::Write), skip, 1, ErrorKind::StorageFull));
        let first = backend.commit();
        assert_eq!(contents(&backend).unwrap(), all_of(&staged), "write {skip}");
        disk.heal();
        if first.is_ok() {
            assert!(skip > 5, "a commit writes more than {skip} times");
            return;
        }
        assert!(matches!(first, Err(BackendError::NoSpace { .. })), "write {skip}: {first:?}");
        backend.commit().unwrap();
        let backend = open(&disk.crash(Survival::None)).unwrap();
        assert_eq!(contents(&backend).unwrap(), all_of(&staged), "write {skip}");
        assert_eq!(backend.applied().0, Index(2));
    }
}

#[test]
fn readers_wait_for_a_file_that_is_opened_again() {
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    backend.stage(puts(1..5000, 500, 1));
    backend.commit().unwrap();
    backend.stage(puts(5000..6000, 500, 2));
    disk.set_capacity(Some(disk.used_bytes() + 100_000));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for main in (1..6000).chain(1..6000) {
                assert_eq!(backend.get(row(main)).unwrap(), Some(record(main, 500)));
            }
            assert_eq!(contents(&backend).unwrap().rows.len(), 5999);
        });
        while !reader.is_finished() {
            assert!(matches!(backend.commit(), Err(BackendError::NoSpace { .. })));
        }
    });
}

/// What opening a file writes may need room too: where it has holes, or on a file system that never writes in place.
#[test]
fn reads_go_on_while_there_is_no_room_to_open_the_file_again() {
    for skip in 0..8 {
        let disk = SimDisk::new();
        let options = Options { cache_size_bytes: 0 };
        let backend = Backend::open(Arc::new(disk.clone()), Path::new(PATH), options).unwrap();
        let (send, told) = std::sync::mpsc::channel();
        backend.on_failure(move |error| send.send(error.to_string()).unwrap());
        let staged = [puts(1..200, 500, 1), puts(200..260, 500, 2), removals(1..100, 3)];
        backend.stage(staged[0].clone());
        backend.commit().unwrap();
        for (number, change) in staged.iter().enumerate().skip(1) {
            backend.stage(change.clone());
            disk.inject(fault(Some(DiskOperation::Write), skip, u64::MAX, ErrorKind::StorageFull));
            let (durable, before) = (disk.crash(Survival::All), backend.view());
            for _ in 0..3 {
                assert!(matches!(backend.commit(), Err(BackendError::NoSpace { .. })));
                assert_eq!(backend.get(row(150)).unwrap(), Some(record(150, 500)));
                assert_eq!(contents(&backend).unwrap(), all_of(&staged[..=number]));
                assert!(matches!(backend.defragment(), Err(BackendError::NoSpace { .. })));
            }
            let error = before.scan(Revision::default(), END, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
            assert!(matches!(error, BackendError::NoSpace { .. }), "{error}");
            assert_eq!(contents(&open(&durable).unwrap()).unwrap(), all_of(&staged[..number]));
            disk.heal();
            assert_eq!(backend.commit().unwrap().applied.0, Index(number as u64 + 1));
            assert_eq!(contents(&backend).unwrap(), all_of(&staged[..=number]));
        }
        assert_eq!(told.try_iter().count(), 0);
        drop(backend);
        assert_eq!(contents(&open(&disk.crash(Survival::None)).unwrap()).unwrap(), all_of(&staged));
    }
}

#[test]
fn a_file_is_read_though_there_is_no_room_to_open_it() {
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    backend.stage(puts(1..200, 500, 1));
    backend.commit().unwrap();
    let disk = disk.crash(Survival::None);
    disk.inject(fault(Some(DiskOperation::Write), 0, u64::MAX, ErrorKind::StorageFull));
    let backend = open(&disk).unwrap();
    backend.stage(puts(200..300, 500, 2));
    let all = all_of(&[puts(1..200, 500, 1), puts(200..300, 500, 2)]);
    assert!(matches!(backend.commit(), Err(BackendError::NoSpace { .. })));
    assert_eq!(contents(&backend).unwrap(), all);
    disk.heal();
    backend.commit().unwrap();
    assert_eq!(contents(&open(&disk.crash(Survival::None)).unwrap()).unwrap(), all);
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    for operation in [DiskOperation::SyncData, DiskOperation::Write, DiskOperation::SetLen] {
        let disk = SimDisk::new();
        let backend = open(&disk).unwrap();
        let staged = [puts(1..20, 300, 1), puts(20..600, 3000, 2)];
        backend.stage(staged[0].clone());
        backend.commit().unwrap();
        backend.stage(staged[1].clone());
        disk.inject(fault(Some(operation), 0, 1, ErrorKind::Other));
        let error = backend.commit().unwrap_err();
        assert!(matches!(&error, BackendError::Io { .. }), "{operation:?}: {error}");
        assert!(error.to_string().starts_with("db: "), "{error}");
        assert!(error.to_string().contains("injected"), "{error}");

        let syncs = Fault { times: u64::MAX, ..fault(None, 0, 0, ErrorKind::BrokenPipe) };
        disk.inject(syncs);
        let error = backend.commit().unwrap_err();
        assert!(error.to_string().contains("stopped by an earlier failure"), "the disk was asked again: {error}");
        assert!(backend.defragment().is_err());
        drop(backend);
        let backend = open(&disk.crash(Survival::Random(3))).unwrap();
        let index = backend.applied().0.0 as usize;
        assert_eq!(contents(&backend).unwrap(), all_of(&staged[..index]));
    }
}

#[test]
fn a_failed_read_is_an_error_not_an_absent_row() {
    let disk = SimDisk::new();
    let no_cache = Options { cache_size_bytes: 0 };
    let backend = Backend::open(Arc::new(disk.clone()), Path::new(PATH), no_cache).unwrap();
    backend.stage(puts(1..1000, 300, 1));
    backend.commit().unwrap();
    disk.inject(fault(Some(DiskOperation::Read), 0, u64::MAX, ErrorKind::Other));
    assert!(matches!(backend.get(row(500)), Err(BackendError::Io { .. })));
    assert!(matches!(contents(&backend), Err(BackendError::Io { .. })));
}

#[test]
fn a_new_file_that_finds_no_space_leaves_nothing_behind() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(3 * 4096));
    assert!(matches!(open(&disk), Err(BackendError::NoSpace { .. })));
    assert!(!Backend::exists(&disk, Path::new(PATH)).unwrap());
    disk.set_capacity(None);
    assert_eq!(contents(&open(&disk).unwrap()).unwrap(), Contents::default());
}

#[test]
fn failures_are_told_but_for_a_full_disk() {
    let disk = SimDisk::new();
    let backend = open(&disk).unwrap();
    let (send, told) = std::sync::mpsc::channel();
    backend.on_failure(move |error| send.send(error.to_string()).unwrap());
    backend.stage(puts(1..10, 500, 1));
    disk.inject(fault(Some(DiskOperation::Write), 0, 1, ErrorKind::StorageFull));
    assert!(matches!(backend.commit(), Err(BackendError::NoSpace { .. })));
    backend.commit().unwrap();
    assert_eq!(told.try_iter().count(), 0);

    let error = backend.damaged("row 3/0 is missing").to_string();
    assert!(error.starts_with("db is damaged: row 3/0 is missing; "), "{error}");
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [error]);

    disk.inject(fault(Some(DiskOperation::Write), 3, 1, ErrorKind::Other));
    assert!(backend.defragment().is_err());
    assert_eq!(told.try_iter().count(), 0, "the old file serves on");
    backend.commit().unwrap();
    backend.defragment().unwrap();

    backend.stage(puts(10..20, 500, 2));
    disk.inject(fault(Some(DiskOperation::SyncData), 0, 1, ErrorKind::Other));
    let error = backend.commit().unwrap_err().to_string();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [error]);
}
