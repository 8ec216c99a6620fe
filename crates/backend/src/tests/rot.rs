//! Damaged files, and files of others.

use env::{OpenMode, Rng, SystemRng};

use super::*;

fn file(disk: &SimDisk, bytes: &[u8]) {
    let file = disk.open(Path::new(PATH), OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
}

const PAGE: u64 = 4096;

#[test]
fn files_of_others_are_told_by_their_first_bytes() {
    let mut bbolt = vec![0; 32768];
    bbolt[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
    for (bytes, expected) in [
        (
            bbolt,
            "db is not a quorate backend file: it is an etcd database (bbolt); convert it with `quorateutl migrate`",
        ),
        (
            vec![b'x'; 4096],
            "db is not a quorate backend file: its first bytes are not those of one; restore it from a backup, or move \
             it away",
        ),
        (
            vec![],
            "db is not a quorate backend file: it is too short for one; restore it from a backup, or move it away",
        ),
    ] {
        let disk = SimDisk::new();
        file(&disk, &bytes);
        assert_eq!(open(&disk).err().unwrap().to_string(), expected);
        assert_eq!(disk.contents(Path::new(PATH)).unwrap(), bytes, "it is left alone");
    }
}

#[test]
fn a_redb_file_of_another_program_is_refused() {
    let disk = SimDisk::new();
    let handle = disk.open(Path::new(PATH), OpenMode::CreateNew).unwrap();
    let storage = crate::storage::Storage::new(handle).unwrap();
    drop(redb::Database::builder().create_with_backend(storage).unwrap());
    // Damage can look the same: the root of the tables is then an empty page.
    assert_eq!(
        open(&disk).err().unwrap().to_string(),
        "db is not a quorate backend file: it is a redb file without quorate's tables; restore it from a backup, or move \
         it away if another program made it"
    );
}

#[test]
fn a_truncated_file_is_damaged() {
    let disk = SimDisk::new();
    drop(filled(&disk));
    let handle = disk.open(Path::new(PATH), OpenMode::Write).unwrap();
    handle.set_len(handle.len().unwrap() / 2).unwrap();
    let error = open(&disk).err().unwrap();
    assert!(matches!(error, BackendError::Damaged { .. }), "{error}");
    assert!(error.to_string().starts_with("db is damaged: "), "{error}");
}

fn filled(disk: &SimDisk) -> Backend {
    let backend = open(disk).unwrap();
    backend.stage(puts(1..400, 200, 1));
    backend.stage(puts(400..404, 9000, 2));
    backend.stage(Staged { values: vec![(Table::Auth, b"authEnabled".to_vec(), Some(vec![1]))], ..Staged::default() });
    backend.commit().unwrap();
    backend
}

/// Bits rot all over the file. Whatever is read afterwards is right or an error.
#[test]
fn rot_never_gives_wrong_rows() {
    let disk = SimDisk::new();
    let expected = {
        let backend = filled(&disk);
        let expected = contents(&backend).unwrap();
        std::mem::forget(backend);
        expected
    };
    let bytes = disk.contents(Path::new(PATH)).unwrap();
    let written: Vec<u64> = (0..bytes.len() as u64).filter(|&at| bytes[at as usize] != 0).collect();
    let mut rng = SystemRng::with_seed(7);
    let (mut unharmed, mut found) = (0, 0);
    for round in 0..400 {
        let survivor = disk.crash(env::Survival::All);
        let offset = if round % 4 == 0 { rng.below(400) } else { written[rng.below(written.len() as u64) as usize] };
        survivor.flip_bit(Path::new(PATH), offset, rng.below(8) as u8).unwrap();
        let read = open(&survivor).and_then(|backend| {
            for (row, bytes) in &expected.rows {
                let record = backend.get(*row)?;
                assert!(
                    record.is_none_or(|record| record.as_bytes() == bytes),
                    "a flipped bit at {offset} went unseen"
                );
            }
            contents(&backend)
        });
        match read {
            Ok(seen) => {
                assert!(seen == expected, "a flipped bit at {offset} went unseen");
                unharmed += 1;
            }
            Err(BackendError::Damaged { .. } | BackendError::Foreign { .. } | BackendError::TooNew { .. }) => {
                found += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(found > unharmed, "{found} found, {unharmed} in bytes that nobody reads");
}

/// A misdirected write leaves a whole, sound page where another belongs.
#[test]
fn pages_that_changed_places_never_give_wrong_rows() {
    let disk = SimDisk::new();
    let backend = filled(&disk);
    let expected = contents(&backend).unwrap();
    std::mem::forget(backend);
    let bytes = disk.contents(Path::new(PATH)).unwrap();
    let page = |number: u64| &bytes[(number * PAGE) as usize..][..PAGE as usize];
    let written: Vec<u64> =
        (1..bytes.len() as u64 / PAGE).filter(|&number| page(number).iter().any(|&b| b != 0)).collect();
    let mut found = 0;
    for pair in written.windows(2) {
        let survivor = disk.crash(env::Survival::All);
        let file = survivor.open(Path::new(PATH), OpenMode::Write).unwrap();
        file.write_at(page(pair[1]), pair[0] * PAGE).unwrap();
        file.write_at(page(pair[0]), pair[1] * PAGE).unwrap();
        let read = open(&survivor).and_then(|backend| {
            let mut last = None;
            backend.scan(Revision::default(), END, &mut |row, _| {
                assert!(last.replace(row).is_none_or(|last| last < row), "pages {pair:?}: {row:?} is out of order");
                ControlFlow::Continue(())
            })?;
            contents(&backend)
        });
        match read {
            Ok(seen) => assert!(seen == expected, "pages {pair:?} went unseen"),
            Err(BackendError::Damaged { .. } | BackendError::Foreign { .. }) => found += 1,
            Err(error) => panic!("pages {pair:?}: {error}"),
        }
    }
    assert!(found > written.len() / 2, "{found} of {} were found", written.len());
}

/// A write that was lost, or went elsewhere, leaves an earlier version of a page where a newer one belongs: sound in
/// itself, and of the same table.
#[test]
fn a_page_of_an_earlier_commit_never_passes_for_the_newest() {
    let disk = SimDisk::new();
    let backend = filled(&disk);
    for round in 0..12 {
        let first = 404 + 5 * round;
        let mut staged = puts(first..first + 5, 300, 3 + round as u64);
        staged.removed_rows = vec![row(1 + 7 * round), row(2 + 7 * round)];
        staged.values.push((Table::Lease, round.to_be_bytes().to_vec(), Some(vec![round as u8; 40])));
        staged.values.push((Table::Members, b"8e9e05c52164694d".to_vec(), Some(vec![round as u8])));
        backend.stage(staged);
        backend.commit().unwrap();
    }
    let expected = (contents(&backend).unwrap(), backend.applied());
    std::mem::forget(backend);
    let bytes = disk.contents(Path::new(PATH)).unwrap();
    let page = |number: u64| &bytes[(number * PAGE) as usize..][..PAGE as usize];
    let written: Vec<u64> =
        (1..bytes.len() as u64 / PAGE).filter(|&number| page(number).iter().any(|&b| b != 0)).collect();
    let mut rng = SystemRng::with_seed(5);
    for _ in 0..4000 {
        let [at, from] = [(); 2].map(|()| written[rng.below(written.len() as u64) as usize]);
        let survivor = disk.crash(env::Survival::All);
        survivor.open(Path::new(PATH), OpenMode::Write).unwrap().write_at(page(from), at * PAGE).unwrap();
        let read = open(&survivor).and_then(|backend| Ok((contents(&backend)?, backend.applied())));
        match read {
            Ok(seen) => assert!(seen == expected, "page {from} in place of {at} went unseen"),
            Err(BackendError::Damaged { .. } | BackendError::Foreign { .. }) => {}
            Err(error) => panic!("page {from} in place of {at}: {error}"),
        }
    }
}
