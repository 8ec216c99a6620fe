//! What the log does when nothing breaks: held against a plain vector.
#![allow(clippy::unwrap_used, reason = "in a test every failure is a panic")]

mod support;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use env::{Disk, DiskFile, Entry, OpenMode, RealDisk, SimDisk, Survival};
use proptest::prelude::*;
use support::*;
use types::{EntryKind, HardState, Index, LogEntry, Term};
use wal::{Wal, WalError, WalOptions};

#[derive(Clone, Debug)]
enum Action {
    /// Appends entries of these lengths, going back by so many first if they are not committed.
    Append {
        back: u64,
        lens: Vec<usize>,
        kind: u8,
    },
    Commit {
        behind: u64,
    },
    Sync,
    Release {
        behind: u64,
    },
    Restart {
        ahead: u64,
    },
    Reopen {
        load_behind: u64,
    },
    Read {
        from: u64,
        count: u64,
        max_bytes: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let lens = prop::collection::vec(prop_oneof![0..40_usize, 300..400_usize, 2000..9000_usize], 1..6);
    prop_oneof![
        6 => (0..6_u64, lens, 0..3_u8).prop_map(|(back, lens, kind)| Action::Append { back, lens, kind }),
        2 => (0..4_u64).prop_map(|behind| Action::Commit { behind }),
        4 => Just(Action::Sync),
        1 => (0..10_u64).prop_map(|behind| Action::Release { behind }),
        1 => (0..30_u64).prop_map(|ahead| Action::Restart { ahead }),
        1 => (0..40_u64).prop_map(|load_behind| Action::Reopen { load_behind }),
        3 => (0..100_u64, 1..40_u64, 0..20_000_usize)
            .prop_map(|(from, count, max_bytes)| Action::Read { from, count, max_bytes }),
    ]
}

/// The log as a vector.
struct Model {
    options: WalOptions,
    disk: SimDisk,
    wal: Wal,
    /// The entry before the first one.
    base: u64,
    entries: Vec<LogEntry>,
    hard_state: HardState,
    released: u64,
    term: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn from(&self, first: u64) -> &[LogEntry] {
        &self.entries[(first - self.base - 1) as usize..]
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Append { back, lens, kind } => self.append(back, &lens, kind),
            Action::Commit { behind } => {
                let commit = self.hard_state.commit.0.max(self.last().saturating_sub(behind));
                self.hard_state = hard_state(self.term, behind, commit);
                self.wal.append(&[], Some(self.hard_state)).unwrap();
            }
            Action::Sync => self.wal.sync().unwrap(),
            Action::Release { behind } => {
                let bound = self.hard_state.commit.0.saturating_sub(behind);
                self.wal.release_before(Index(bound)).unwrap();
                self.released = self.released.max(bound);
            }
            Action::Restart { ahead } => {
                // From the last committed entry on: the log's tail may be what the snapshot contradicts.
                self.base = self.hard_state.commit.0.max(self.last().saturating_sub(5)) + ahead;
                self.entries.clear();
                self.wal.restart_at(Index(self.base), Term(self.term)).unwrap();
                self.hard_state.commit = Index(self.base);
                if self.hard_state.term < Term(self.term) {
                    self.hard_state = hard_state(self.term, 0, self.base);
                }
            }
            Action::Reopen { load_behind } => self.reopen(load_behind),
            Action::Read { from, count, max_bytes } => self.read(from, count, max_bytes),
        }
    }

    fn append(&mut self, back: u64, lens: &[usize], kind: u8) {
        let back = back.min(self.last() - self.base.max(self.hard_state.commit.0));
        self.term += u64::from(back > 0);
        let first = self.last() + 1 - back;
        let new: Vec<LogEntry> = (first..)
            .zip(lens)
            .map(|(index, &len)| LogEntry {
                kind: EntryKind::from_number(kind).unwrap(),
                ..entry(index, self.term, vec![(index + self.term) as u8; len])
            })
            .collect();
        self.wal.append(&new, None).unwrap();
        self.entries.truncate((first - self.base - 1) as usize);
        self.entries.extend(new);
    }

    fn reopen(&mut self, load_behind: u64) {
        self.wal.sync().unwrap();
        let disk = self.disk.crash(Survival::None);
        let load_from = (self.last() + 1).saturating_sub(load_behind);
        let (wal, recovered) =
            Wal::open(Arc::new(disk.clone()), dir(), self.options, Index(self.last()), Index(load_from)).unwrap();
        let first = recovered.first.0;
        assert!(first <= self.released.max(self.base + 1));
        assert_eq!(recovered.entries, self.from(first.max(load_from).max(self.base + 1)));
        assert_eq!((recovered.hard_state, recovered.last.0), (self.hard_state, self.last()));
        assert_eq!(recovered.torn_tail, None);
        if let Some(last) = self.entries.last() {
            assert_eq!(recovered.last_term, last.term);
        }
        let term_at = |index: Index| {
            let after = recovered.terms.partition_point(|(first, _)| *first <= index);
            after.checked_sub(1).map(|at| recovered.terms[at].1)
        };
        for entry in self.from(first.max(self.base + 1)) {
            assert_eq!(term_at(entry.index), Some(entry.term), "of entry {}: {:?}", entry.index, recovered.terms);
        }
        if let Some(before) = self.entries.iter().find(|entry| entry.index.next() == recovered.first) {
            assert!(term_at(before.index).is_none_or(|term| term == before.term));
        }
        assert!(recovered.terms.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1), "{:?}", recovered.terms);
        (self.disk, self.wal) = (disk, wal);
    }

    fn read(&mut self, from: u64, count: u64, max_bytes: usize) {
        self.wal.sync().unwrap();
        let from = self.wal.first().0 + from % (self.last() + 2 - self.wal.first().0);
        let found = self.wal.read(Index(from), Index(from + count), max_bytes).unwrap();
        let wanted = self.from(from);
        let mut len = 0;
        let fitting = wanted.iter().take(count as usize).take_while(|entry| {
            len += entry.data.len();
            len <= max_bytes
        });
        let fitting = fitting.count().max(usize::from(!wanted.is_empty()));
        assert_eq!(found, wanted[..fitting]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_vector(
        options in prop_oneof![Just(small()), Just(mixed())],
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let disk = disk();
        let wal = create(&disk, options);
        let hard_state = HardState::default();
        let mut model = Model { options, disk, wal, base: 0, entries: vec![], hard_state, released: 0, term: 1 };
        for action in actions {
            model.act(action);
        }
        model.reopen(1000);
    }
}

#[test]
fn appends_out_of_order_are_refused_and_change_nothing() {
    let disk = disk();
    let mut wal = create(&disk, small());
    write(&mut wal, &entries(1, 5, 1, 100), Some(hard_state(1, 1, 3)));
    let refused = |wal: &mut Wal, entries: &[LogEntry], state| {
        assert!(matches!(wal.append(entries, state), Err(WalError::OutOfOrder { .. })));
        assert_eq!(wal.last(), Index(5));
    };
    refused(&mut wal, &entries(7, 1, 1, 0), None);
    refused(&mut wal, &[entry(6, 1, ""), entry(8, 1, "")], None);
    refused(&mut wal, &[entry(u64::MAX, 1, "")], None);
    refused(&mut wal, &entries(3, 1, 2, 0), None);
    refused(&mut wal, &entries(0, 1, 2, 0), None);
    refused(&mut wal, &[], Some(hard_state(1, 1, 6)));
    assert!(matches!(wal.restart_at(Index(2), Term(1)), Err(WalError::OutOfOrder { .. })));
    let large = wal.append(&[entry(6, 1, vec![0; 13_000])], None).unwrap_err();
    assert!(matches!(large, WalError::TooLarge { index: Index(6), size: 13_000, size_max: 12_216 }), "{large}");
    write(&mut wal, &[entry(6, 1, vec![7; 12_216])], None);
    assert_eq!(open(&disk, small()).unwrap().1.entries[5], entry(6, 1, vec![7; 12_216]));
}

#[test]
fn reading_what_was_released_names_the_first_entry_held() {
    let disk = disk();
    let mut wal = create(&disk, small());
    for index in 1..=40 {
        write(&mut wal, &entries(index, 1, 1, 1000), Some(hard_state(1, 1, index)));
    }
    let released = wal.release_before(Index(30)).unwrap();
    let first = wal.first();
    assert!(released > 0 && first > Index(1) && first <= Index(30));
    assert!(
        matches!(wal.read(Index(1), Index(40), 100), Err(WalError::NotHeld { index: Index(1), first: held }) if held == first)
    );
    assert_eq!(wal.read(first, Index(41), usize::MAX).unwrap().len() as u64, 41 - first.0);
    assert_eq!(wal.read(Index(41), Index(50), usize::MAX).unwrap(), []);
    assert_eq!(wal.release_before(Index(30)).unwrap(), 0);
}

#[test]
fn reading_stops_before_it_exceeds_the_limit_but_gives_one_entry() {
    let disk = disk();
    let mut wal = create(&disk, small());
    let all = [entry(1, 1, vec![1; 5851]), entry(2, 1, ""), entry(3, 1, vec![3; 10])];
    write(&mut wal, &all, None);
    let read = |from, max_bytes| wal.read(Index(from), Index(4), max_bytes).unwrap().len();
    assert_eq!((read(1, 0), read(1, 5850), read(1, 5851), read(1, 5861), read(2, 0)), (1, 1, 2, 3, 1));
}

/// A disk that counts the bytes that are read.
struct CountingDisk {
    disk: SimDisk,
    read_bytes: Arc<AtomicU64>,
}

struct CountingFile {
    file: Arc<dyn DiskFile>,
    read_bytes: Arc<AtomicU64>,
}

impl Disk for CountingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile { file: self.disk.open(path, mode)?, read_bytes: self.read_bytes.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// As a leader does for a follower that has fallen behind.
#[test]
fn reading_a_whole_log_back_reads_little_more_than_it_holds() {
    for in_batch in [1, 10, 500] {
        let read_bytes = Arc::new(AtomicU64::new(0));
        let counting = CountingDisk { disk: disk(), read_bytes: read_bytes.clone() };
        let options = WalOptions { segment_size_bytes: 2 << 20 };
        let mut wal = Wal::create(Arc::new(counting), dir(), META, options).unwrap();
        let all = entries(1, 6000, 1, 400);
        all.chunks(in_batch).for_each(|batch| write(&mut wal, batch, None));
        let (mut found, mut next) = (Vec::new(), Index(1));
        read_bytes.store(0, Ordering::Relaxed);
        while next <= wal.last() {
            let some = wal.read(next, Index(u64::MAX), 1 << 20).unwrap();
            next = some.last().unwrap().index.next();
            found.extend(some);
        }
        assert!(found == all);
        // A frame takes whole sectors of 512 bytes, and one read goes on past the last entry that is asked for.
        let held = if in_batch == 1 { 6000 * 512 } else { 6000 * 440 };
        let read = read_bytes.load(Ordering::Relaxed);
        assert!(read < held * 3 / 2, "{read} bytes were read of {held}");
    }
}

#[test]
fn a_batch_larger_than_many_segments_is_spread_over_them() {
    let disk = disk();
    let mut wal = create(&disk, small());
    let all = entries(1, 300, 1, 700);
    write(&mut wal, &all, Some(hard_state(1, 1, 300)));
    assert_eq!(wal.read(Index(1), Index(301), usize::MAX).unwrap(), all);
    let (_, recovered) = open(&disk.crash(Survival::None), small()).unwrap();
    assert_eq!((recovered.entries, recovered.hard_state), (all, hard_state(1, 1, 300)));
}

#[test]
fn segments_of_another_size_are_read_and_replaced_in_time() {
    let disk = disk();
    let mut wal = create(&disk, small());
    write(&mut wal, &entries(1, 30, 1, 1000), Some(hard_state(1, 1, 30)));
    let larger = WalOptions { segment_size_bytes: 40_000 };
    let (mut wal, recovered) = open(&disk, larger).unwrap();
    assert_eq!(recovered.entries, entries(1, 30, 1, 1000));
    write(&mut wal, &entries(31, 60, 1, 1000), Some(hard_state(1, 1, 90)));
    wal.release_before(Index(90)).unwrap();
    let (_, recovered) = open(&disk, larger).unwrap();
    assert_eq!(recovered.last, Index(90));
    assert!(env::Disk::list(&disk, dir()).unwrap().iter().all(|file| file.len == 40_960));
}

/// A member that got a snapshot waits for an eighth of a segment, and then goes on as ever.
#[test]
fn a_log_that_starts_anew_begins_with_a_short_segment() {
    let disk = disk();
    let mut wal = create(&disk, mixed());
    assert_eq!(wal.space().segment_bytes, 64 << 10);
    write(&mut wal, &entries(1, 3, 1, 20), Some(hard_state(1, 1, 3)));
    wal.restart_at(Index(50), Term(1)).unwrap();
    assert_eq!(wal.space().segment_bytes, 16 << 10);
    wal.keep_spares(0).unwrap();
    // Larger than that segment, which stays empty.
    let large = entry(51, 1, vec![7; 40_000]);
    write(&mut wal, std::slice::from_ref(&large), Some(hard_state(1, 1, 51)));
    assert_eq!((wal.segment_count(), wal.space().segment_bytes), (2, 64 << 10));
    let all: Vec<LogEntry> = [large].into_iter().chain(entries(52, 100, 1, 2_000)).collect();
    write(&mut wal, &all[1..], None);
    assert_eq!(wal.read(Index(51), Index(152), usize::MAX).unwrap(), all);
    let (mut wal, recovered) = open(&disk.crash(Survival::None), mixed()).unwrap();
    assert_eq!(recovered.entries, all);
    // It goes with what it holds, and is no spare.
    wal.release_before(Index(152)).unwrap();
    assert!(wal.space().spare_ready);
    let (wal, recovered) = open(&disk, mixed()).unwrap();
    assert_eq!((recovered.last.0, wal.space().spare_ready), (151, false));
    // One that has a spare needs no short one.
    let mut wal = create(&self::disk(), mixed());
    wal.prepare_spare().unwrap();
    wal.restart_at(Index(50), Term(1)).unwrap();
    assert_eq!(wal.space().segment_bytes, 64 << 10);
}

#[test]
fn the_log_works_on_a_real_disk() {
    let place = std::env::temp_dir().join(format!("quorate-wal-test-{}", std::process::id()));
    let dir = place.join("wal");
    let disk = Arc::new(RealDisk);
    env::Disk::create_dir_all(&*disk, &place).unwrap();
    let options = WalOptions { segment_size_bytes: 1 << 20 };
    assert!(!Wal::exists(&*disk, &dir).unwrap());
    let mut wal = Wal::create(disk.clone(), &dir, META, options).unwrap();
    assert!(Wal::exists(&*disk, &dir).unwrap());
    let data = Bytes::from(vec![9; 3000]);
    let all: Vec<LogEntry> = (1..=2000).map(|index| entry(index, 1, data.clone())).collect();
    for some in all.chunks(100) {
        write(&mut wal, some, Some(hard_state(1, 1, some[0].index.0)));
        wal.prepare_spare().unwrap();
        wal.release_before(Index(some[0].index.0.saturating_sub(500))).unwrap();
    }
    drop(wal);
    let (wal, recovered) = Wal::open(disk, &dir, options, Index(2000), Index(1900)).unwrap();
    assert_eq!(recovered.entries, all[1899..]);
    assert_eq!(wal.read(Index(1700), Index(1800), usize::MAX).unwrap(), all[1699..1799]);
    #[allow(clippy::disallowed_methods, reason = "tidying up after the test")]
    std::fs::remove_dir_all(&place).unwrap();
}
