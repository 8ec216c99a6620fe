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
fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    drop(Backend::open(Arc::new(RealDisk), &path, Options::default()).unwrap());
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    crate::file::put(&mut transaction.open_table(crate::table::FILE).unwrap(), b"format", &2u64.to_be_bytes()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Backend::open(Arc::new(RealDisk), &path, Options::default()).err().unwrap();
    assert!(matches!(error, BackendError::TooNew { found: 2, known: 1, .. }), "{error}");
}
