//! Prints what the store costs: bytes of memory per key, nanoseconds per operation, time to restore.
//!
//! `cargo run --release -p mvcc --example store_costs [keys] [value bytes]`. The backend lies in the temporary directory.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a tool that prints times")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use backend::{Backend, Options, Staged};
use bytes::BytesMut;
use env::{RealDisk, Rng, SystemRng};
use mvcc::{RangeQuery, Store, StoreOptions};
use rustix::time::ClockId;
use types::{KeyRange, LeaseId};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const UNLIMITED: StoreOptions = StoreOptions { value_budget_bytes: usize::MAX, restore_threads: 1 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, dir, keys, value_len] = arguments.as_slice() {
        let path = Path::new(dir).join("db");
        let value = vec![b'v'; value_len.parse().expect("a number")];
        let keys = keys.parse().expect("a number");
        return if mode == "restore" { restore(&path, keys) } else { write(&path, keys, &value, mode == "shuffled") };
    }
    let or = |at: usize, default: &str| arguments.get(at).cloned().unwrap_or(default.to_owned());
    let (keys, value_len) = (or(0, "1000000"), or(1, "64"));
    let program = std::env::current_exe().expect("the way to this program");
    for order in ["ordered", "shuffled"] {
        println!("-- {keys} keys of 20 bytes, {order}, values of {value_len} bytes; CPU time");
        let dir = std::env::temp_dir().join(format!("mvcc-store-costs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for the backend");
        for mode in [order, "restore"] {
            // A process each, so that memory is only what the store takes.
            let mut child = Command::new(&program);
            child.args([mode, dir.to_str().expect("a plain path"), &keys, &value_len]);
            assert!(child.status().expect("this program runs").success());
        }
        std::fs::remove_dir_all(&dir).expect("the directory is ours");
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("/bench/k/{number:011}").into_bytes()
}

fn write(path: &Path, keys: u64, value: &[u8], is_shuffled: bool) {
    let backend = open(path);
    let mut store = Store::restore(backend.clone(), UNLIMITED).expect("an empty backend");
    let mut rng = SystemRng::with_seed(1);
    let mut order: Vec<u64> = (0..keys).collect();
    if is_shuffled {
        shuffle(&mut order, &mut rng);
    }
    fill(&mut store, &backend, &order, value);
    read(&store, keys, &mut rng);
    let probes: Vec<Vec<u8>> = (0..200_000).map(|_| key(rng.below(keys))).collect();
    time("put over a random key, 100 a batch", probes.len(), || {
        for probes in probes.chunks(100) {
            batch(&mut store, &backend, probes.iter(), value);
        }
    });
    backend.commit().expect("committed");
}

fn restore(path: &Path, keys: u64) {
    let restore_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = StoreOptions { restore_threads, ..UNLIMITED };
    let before = resident_bytes();
    let backend = open(path);
    let (start, start_cpu) = (nanos(ClockId::Monotonic), nanos(ClockId::ProcessCPUTime));
    let store = Store::restore(backend, options).expect("a sound backend");
    let (elapsed, cpu) = (nanos(ClockId::Monotonic) - start, nanos(ClockId::ProcessCPUTime) - start_cpu);
    println!("{:>10.0} ms to restore, {:.0} ms of CPU time", elapsed as f64 / 1e6, cpu as f64 / 1e6);
    println!("{:>10.0} bytes a key after restore (resident set)", (resident_bytes() - before) as f64 / keys as f64);
    let hash = || drop(store.view().hash_kv(0).map(|hash| hash.hash));
    time("hash of all, a row", keys as usize, hash);
    // The allocator returns what it no longer needs only after a while.
    (0..5).for_each(|_| hash());
    println!("{:>10.0} bytes a key a little later", (resident_bytes() - before) as f64 / keys as f64);
}

fn open(path: &Path) -> Backend {
    Backend::open(Arc::new(RealDisk), path, Options { cache_size_bytes: 16 << 20 }).expect("a backend")
}

fn fill(store: &mut Store, backend: &Backend, order: &[u64], value: &[u8]) {
    let before = resident_bytes();
    let (mut nanos, mut staging_nanos) = (0, 0);
    for numbers in order.chunks(100) {
        let keys: Vec<_> = numbers.iter().map(|&number| key(number)).collect();
        let start = cpu();
        staging_nanos += batch(store, backend, keys.iter(), value);
        nanos += cpu() - start;
        if backend.staged_bytes() > 16 << 20 {
            backend.commit().expect("committed");
        }
    }
    println!("{:>10.0} ns for a put of a new key, 100 a batch", nanos as f64 / order.len() as f64);
    println!("{:>10.0} ns of it for staging in the backend", staging_nanos as f64 / order.len() as f64);
    backend.commit().expect("committed");
    println!(
        "{:>10.0} bytes a key (resident set, with the backend's cache)",
        (resident_bytes() - before) as f64 / order.len() as f64
    );
}

/// Returns how long staging took.
fn batch<'k>(store: &mut Store, backend: &Backend, keys: impl Iterator<Item = &'k Vec<u8>>, value: &[u8]) -> u64 {
    let mut staged = Staged::default();
    let mut batch = store.begin();
    for key in keys {
        let mut txn = batch.txn();
        txn.put(key, value, LeaseId::NONE);
        txn.finish(&mut staged);
    }
    let start = cpu();
    backend.stage(staged);
    drop(batch);
    cpu() - start
}

fn read(store: &Store, keys: u64, rng: &mut SystemRng) {
    let view = store.view();
    let probes: Vec<_> = (0..500_000).map(|_| RangeQuery::current(KeyRange::single(key(rng.below(keys))))).collect();
    time("get of a random key", probes.len(), || {
        for probe in &probes {
            assert_eq!(view.range(probe).expect("a row").rows.len(), 1);
        }
    });
    let hot = RangeQuery::current(KeyRange::single(key(keys / 2)));
    time("get of one hot key", 1_000_000, || {
        for _ in 0..1_000_000 {
            assert_eq!(view.range(&hot).expect("a row").rows.len(), 1);
        }
    });
    let all = RangeQuery::current(KeyRange::all());
    let count = RangeQuery { count_only: true, ..all.clone() };
    time("count of all keys", 100_000, || {
        for _ in 0..100_000 {
            assert_eq!(view.range(&count).expect("a count").count, keys as i64);
        }
    });
    let first = RangeQuery { limit: 1, ..all.clone() };
    time("first key of all, with the count", 100_000, || {
        for _ in 0..100_000 {
            assert_eq!(view.range(&first).expect("a row").rows.len(), 1);
        }
    });
    let before = resident_bytes();
    time("listing all, a key", keys as usize, || {
        let mut rows = view.range(&all).expect("all rows").rows;
        println!("{:>10.1} MB for a list of all", (resident_bytes() - before) as f64 / 1e6);
        let mut out = BytesMut::with_capacity(1 << 17);
        while rows.encode_next(&mut out, 1 << 16).expect("encoded") {
            out.clear();
        }
    });
}

fn time(what: &str, count: usize, job: impl FnOnce()) {
    let start = cpu();
    job();
    println!("{:>10.0} ns for {what}", (cpu() - start) as f64 / count as f64);
}

/// CPU time of this thread in nanoseconds: it holds still when others keep the machine busy.
fn cpu() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn shuffle(order: &mut [u64], rng: &mut SystemRng) {
    for at in 1..order.len() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
}

fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: i64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}
