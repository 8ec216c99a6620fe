//! On the machine's own file system.

use std::os::unix::fs::PermissionsExt;

use env::RealDisk;

use super::*;

#[test]
fn a_file_is_made_for_its_owner_alone_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let open = || Backend::open(Arc::new(RealDisk), &path, Options::default()).unwrap();
    assert!(!Backend::exists(&RealDisk, &path).unwrap());
    let backend = open();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut expected = Contents::default();
    for staged in [puts(1..500, 100, 1), removals(100..400, 2)] {
        expected.apply(&staged);
        backend.stage(staged);
        backend.commit().unwrap();
    }
    // As SIGKILL leaves it.
    std::mem::forget(backend);
    let backend = open();
    assert_eq!(contents(&backend).unwrap(), expected);
    backend.defragment().unwrap();
    drop(backend);
    let backend = open();
    assert_eq!(contents(&backend).unwrap(), expected);
    assert_eq!(backend.applied(), (Index(2), Term(1)));
    let names = RealDisk.list(directory.path()).unwrap();
    assert_eq!(names.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["db"]);
}

#[test]
fn a_state_is_handed_over_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name| Backend::open(Arc::new(RealDisk), &directory.path().join(name), Options::default()).unwrap();
    let (sender, receiver) = (open("one"), open("other"));
    sender.stage(puts(1..2000, 700, 1));
    sender.commit().unwrap();
    let (mut export, other) = (sender.export(), directory.path().join("other"));
    let mut import = crate::Import::create(Arc::new(RealDisk), &other, Options::default()).unwrap();
    while let Some(chunk) = export.next_chunk().unwrap() {
        import.write(&chunk).unwrap();
    }
    assert_eq!(import.finish().unwrap(), (Index(1), Term(1)));
    assert_eq!(Backend::received(&RealDisk, &other).unwrap(), Some((Index(1), Term(1))));
    assert!(receiver.settle_received(Index(2)).unwrap());
    receiver.stage(removals(1..3, 2));
    receiver.commit().unwrap();
    // As SIGKILL leaves it.
    std::mem::forget(receiver);
    sender.stage(removals(1..3, 2));
    assert_eq!(contents(&open("other")).unwrap(), contents(&sender).unwrap());
    assert_eq!(std::fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(RealDisk.list(directory.path()).unwrap().len(), 2);
}

#[test]
fn formats_of_other_versions_are_refused_by_name() {
    let newer = error_of_format(3);
    assert!(matches!(newer, BackendError::TooNew { found: 3, known: 2, .. }), "{newer}");
    let older = error_of_format(1);
    assert!(matches!(older, BackendError::TooOld { found: 1, known: 2, .. }), "{older}");
}

fn error_of_format(format: u64) -> BackendError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    drop(Backend::open(Arc::new(RealDisk), &path, Options::default()).unwrap());
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut table = transaction.open_table(crate::table::FILE).unwrap();
    crate::file::put(&mut table, b"format", &format.to_be_bytes()).unwrap();
    drop(table);
    transaction.commit().unwrap();
    drop(database);
    Backend::open(Arc::new(RealDisk), &path, Options::default()).err().unwrap()
}
