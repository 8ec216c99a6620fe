//! What the backend costs: `cargo run --profile dist -p backend --example backend_costs -- DIRECTORY`.
//!
//! The directory should lie on the disk that is to be measured; about 1.5 GB is written there and removed again. The
//! figures of `docs/backend.md` come from here. CPU is that of the whole process, kernel included.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, reason = "a tool that measures")]

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use backend::{Backend, Import, Options, Staged};
use env::{Disk, DiskFile, Entry, OpenMode, RealDisk, Rng, SystemRng};
use rustix::time::{ClockId, clock_gettime};
use types::{Index, Record, RecordMeta, Revision, RowKey, Term};

/// With its key and numbers, a record of 330 bytes.
const VALUE_LEN: usize = 300;
const ROWS: u64 = 1_000_000;

fn main() {
    let directory = PathBuf::from(std::env::args().nth(1).expect("the directory to measure in"));
    let disk = Arc::new(CountingDisk::default());
    println!("record: {} bytes", record(ROWS).as_bytes().len());
    for batch in [20_000, 5000, 1000] {
        fill(&disk, &directory.join("measure.db"), batch);
    }
    for batch in [1, 10, 100, 1000, 5000, 20_000] {
        add(&disk, &directory.join("measure.db"), batch);
    }
    read(&disk, &directory.join("measure.db"));
    hand_over(&disk, &directory);
    compact(&disk, &directory.join("measure.db"));
    std::fs::remove_file(directory.join("measure.db")).unwrap();
}

/// A new file of a million rows, left as SIGKILL leaves it.
fn fill(disk: &Arc<CountingDisk>, path: &Path, batch: u64) {
    let _ = std::fs::remove_file(path);
    let backend = open(disk, path);
    let measure = Measure::start(disk);
    let mut stage_seconds = 0.0;
    for first in (1..=ROWS).step_by(batch as usize) {
        let staged = rows(first, batch);
        let start = Instant::now();
        backend.stage(staged);
        stage_seconds += start.elapsed().as_secs_f64();
        backend.commit().unwrap();
    }
    let commits = ROWS / batch;
    let used = backend.size();
    measure.print(&format!("{ROWS} rows, {batch} a commit"), commits, ROWS);
    println!("  stage {:.0} ns a row, {used:?}", stage_seconds / ROWS as f64 * 1e9);
    std::mem::forget(backend);
}

/// Small commits on top of a million rows.
fn add(disk: &Arc<CountingDisk>, path: &Path, batch: u64) {
    let backend = open(disk, path);
    let mut next = last_row(&backend) + 1;
    for warm_up in [true, false] {
        let commits = if batch < 5000 { 100 } else { 10 };
        let measure = Measure::start(disk);
        for _ in 0..commits {
            backend.stage(rows(next, batch));
            next += batch;
            backend.commit().unwrap();
        }
        if !warm_up {
            measure.print(&format!("{batch} rows a commit, on top"), commits, commits * batch);
        }
    }
    std::mem::forget(backend);
}

fn read(disk: &Arc<CountingDisk>, path: &Path) {
    let measure = Measure::start(disk);
    let backend = open(disk, path);
    measure.print("open after SIGKILL", 1, 1);
    println!("  resident {} MB", resident_bytes() >> 20);
    let measure = Measure::start(disk);
    let (mut count, mut bytes) = (0u64, 0);
    let end = Revision::first(i64::MAX);
    let visit = &mut |_: RowKey, record: &[u8]| {
        count += 1;
        bytes += record.len();
        ControlFlow::Continue(())
    };
    backend.scan(Revision::default(), end, visit).unwrap();
    measure.print(&format!("scan of {count} rows, {bytes} bytes"), 1, count);
    println!("  resident {} MB", resident_bytes() >> 20);
    let mut rng = SystemRng::with_seed(1);
    let measure = Measure::start(disk);
    let gets = 300_000;
    for _ in 0..gets {
        assert!(backend.get(row(1 + rng.below(count))).unwrap().is_some());
    }
    measure.print("random get over all", gets, gets);
    let measure = Measure::start(disk);
    for _ in 0..gets {
        assert!(backend.get(row(1 + rng.below(20_000))).unwrap().is_some());
    }
    measure.print("random get in 6 MB of rows", gets, gets);
    backend.stage(rows(count + 1, 20_000));
    let measure = Measure::start(disk);
    for _ in 0..gets {
        assert!(backend.get(row(count + 1 + rng.below(20_000))).unwrap().is_some());
    }
    measure.print("random get of a staged row", gets, gets);
}

/// The whole state out of the file and into another one, which then becomes the state.
fn hand_over(disk: &Arc<CountingDisk>, directory: &Path) {
    let backend = open(disk, &directory.join("measure.db"));
    let count = last_row(&backend);
    let measure = Measure::start(disk);
    let (mut export, mut bytes) = (backend.export(), 0);
    while let Some(chunk) = export.next_chunk().unwrap() {
        bytes += chunk.len();
    }
    measure.print(&format!("export of {count} rows, {bytes} bytes"), 1, count);
    let other = directory.join("other.db");
    let receiver = open(disk, &other);
    let measure = Measure::start(disk);
    let mut import = Import::create(Arc::clone(disk) as Arc<dyn Disk>, &other, Options::default()).unwrap();
    let mut export = backend.export();
    while let Some(chunk) = export.next_chunk().unwrap() {
        import.write(&chunk).unwrap();
    }
    import.finish().unwrap();
    measure.print("export and import", 1, count);
    println!("  resident {} MB", resident_bytes() >> 20);
    let measure = Measure::start(disk);
    let received = receiver.open_received().unwrap();
    receiver.begin_adoption(received).unwrap().publish();
    measure.print("adoption", 1, 1);
    println!("  {:?} of {:?}", receiver.size(), backend.size());
    drop(receiver);
    std::fs::remove_file(other).unwrap();
}

/// Every second row goes, as compaction does it.
fn compact(disk: &Arc<CountingDisk>, path: &Path) {
    let backend = open(disk, path);
    let count = last_row(&backend);
    let measure = Measure::start(disk);
    let (mut commits, batch) = (0, 10_000);
    for first in (1..count).step_by(2 * batch) {
        let removed_rows = (first..(first + 2 * batch as u64).min(count)).step_by(2).map(row).collect();
        backend.stage(Staged { removed_rows, ..Staged::default() });
        backend.commit().unwrap();
        commits += 1;
    }
    measure.print("removal of every second row, 10000 a commit", commits, count / 2);
    println!("  {:?}", backend.size());
    let measure = Measure::start(disk);
    backend.defragment().unwrap();
    measure.print("defragmentation", 1, count / 2);
    println!("  {:?}", backend.size());
}

fn open(disk: &Arc<CountingDisk>, path: &Path) -> Backend {
    Backend::open(Arc::clone(disk) as Arc<dyn Disk>, path, Options::default()).unwrap()
}

fn last_row(backend: &Backend) -> u64 {
    backend.applied().0.0
}

fn row(main: u64) -> RowKey {
    RowKey { revision: Revision::first(main as i64), tombstone: false }
}

fn record(main: u64) -> Record {
    let main = main as i64;
    let meta = RecordMeta { create_revision: main, mod_revision: main, version: 1, ..RecordMeta::default() };
    Record::put(format!("/registry/{main:08}").as_bytes(), &[7; VALUE_LEN], meta)
}

fn rows(first: u64, count: u64) -> Staged {
    Staged {
        rows: (first..first + count).map(|main| (row(main), record(main))).collect(),
        applied: Some((Index(first + count - 1), Term(1))),
        ..Staged::default()
    }
}

struct Measure<'a> {
    disk: &'a CountingDisk,
    start: Instant,
    cpu_seconds: f64,
    written_bytes: u64,
    writes: u64,
    syncs: u64,
    reads: u64,
}

impl Measure<'_> {
    fn start(disk: &CountingDisk) -> Measure<'_> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Measure {
            disk,
            start: Instant::now(),
            cpu_seconds: cpu_seconds(),
            written_bytes: load(&disk.0.written_bytes),
            writes: load(&disk.0.writes),
            syncs: load(&disk.0.syncs),
            reads: load(&disk.0.reads),
        }
    }

    fn print(&self, what: &str, times: u64, rows: u64) {
        let now = Measure::start(self.disk);
        let each = |count: u64| count as f64 / times as f64;
        let wall = (now.start - self.start).as_secs_f64() / times as f64;
        let cpu = now.cpu_seconds - self.cpu_seconds;
        let written = now.written_bytes - self.written_bytes;
        println!(
            "{what}: {:.4} ms, cpu {:.4} ms ({:.2} us a row), {:.1} KB written in {:.1} writes ({:.2}x), {:.1} syncs, {:.1} reads",
            wall * 1e3,
            cpu / times as f64 * 1e3,
            cpu / rows as f64 * 1e6,
            each(written) / 1024.0,
            each(now.writes - self.writes),
            written as f64 / rows as f64 / record(ROWS).as_bytes().len() as f64,
            each(now.syncs - self.syncs),
            each(now.reads - self.reads),
        );
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[derive(Default)]
struct Counts {
    written_bytes: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
    reads: AtomicU64,
}

/// The machine's disk, counting.
#[derive(Default)]
struct CountingDisk(Arc<Counts>);

struct CountingFile(Arc<dyn DiskFile>, Arc<Counts>);

impl Disk for CountingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(RealDisk.open(path, mode)?, Arc::clone(&self.0))))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.reads.fetch_add(1, Ordering::Relaxed);
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.1.writes.fetch_add(1, Ordering::Relaxed);
        self.1.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.0.write_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.0.reserve(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::Relaxed);
        self.0.sync_data()
    }
}
