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
