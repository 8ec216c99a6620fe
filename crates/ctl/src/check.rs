//! `check perf`, `check datascale`: what a cluster can do, tried out with keys that are deleted again.

mod memory;
mod report;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::etcdserverpb as pb;
use bytes::Bytes;
use client::Balanced;
use env::{Clock, Rng, SystemClock, SystemRng};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use types::go_quote;

use crate::check::report::{Report, Verdict};
use crate::failure::{Exit, Failure};
use crate::invocation::Invocation;
use crate::session::{Session, within};
use crate::{failure, range, standard};

/// How much a load asks for, by its short name.
struct Load {
    names: [&'static str; 2],
    clients: usize,
    writes_per_second: u64,
    pairs: u64,
}

const LOADS: [Load; 4] = [
    Load { names: ["s", "small"], clients: 50, writes_per_second: 150, pairs: 10_000 },
    Load { names: ["m", "medium"], clients: 200, writes_per_second: 1000, pairs: 100_000 },
    Load { names: ["l", "large"], clients: 500, writes_per_second: 8000, pairs: 1_000_000 },
    Load { names: ["xl", "xLarge"], clients: 1000, writes_per_second: 15_000, pairs: 3_000_000 },
];

const PERF_TIME: Duration = Duration::from_secs(60);
/// For what is done once the load is over.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn perf(invocation: &Invocation) -> Result<(), Failure> {
    let (load, prefix) = load(invocation, "/etcdctl-check-perf/")?;
    let session = Session::open(invocation)?;
    refuse_keys(&session, &prefix)?;
    let report = session.block_on(async {
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(load.writes_per_second).unwrap_or(u32::MAX));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let clock = SystemClock::default();
        let pace = async move |_| {
            ticks.tick().await;
            clock.now().0 < PERF_TIME
        };
        write(&session, load, &prefix, (256, 1024), pace, PERF_TIME.as_secs() * load.writes_per_second).await
    });
    let cleaned_up = clean_up(&session, invocation, &prefix);
    let Verdict { text, passed } = report.verdict(load.writes_per_second);
    standard::print(text.as_bytes())?;
    cleaned_up?;
    if passed { Ok(()) } else { Err(Failure::silent(Exit::Error)) }
}

pub(crate) fn datascale(invocation: &Invocation) -> Result<(), Failure> {
    let (load, prefix) = load(invocation, "/etcdctl-check-datascale/")?;
    let session = Session::open(invocation)?;
    refuse_keys(&session, &prefix)?;
    let memory = |moment: &str| {
        let endpoint = session.endpoints().first().expect("there is at least one");
        session.block_on(memory::resident_bytes(endpoint)).map_err(|why| {
            let text = format!("FAIL: Could not read process_resident_memory_bytes {moment} the put operations.");
            Failure::error(text).note(why)
        })
    };
    let before = memory("before")?;
    let (pairs, clients) = (load.pairs, load.clients);
    standard::print(
        format!(
            "Start data scale check for work load [{pairs} key-value pairs, 1024 bytes per key-value, {clients} \
             concurrent clients].\n"
        )
        .as_bytes(),
    )?;
    let report = session.block_on(write(&session, load, &prefix, (512, 512), async move |at| at < pairs, pairs));
    let after = memory("after");
    clean_up(&session, invocation, &prefix)?;
    let after = after?;
    if let Some(errors) = report.errors() {
        standard::print(errors.as_bytes())?;
        return Err(Failure::silent(Exit::Error));
    }
    let megabytes = (after - before) / f64::from(1 << 20);
    standard::print(format!("PASS: Approximate system memory used : {megabytes:.2} MB.\n").as_bytes())
}

fn load(invocation: &Invocation, prefix: &'static str) -> Result<(&'static Load, Vec<u8>), Failure> {
    let name = invocation.given.value("load").map_or("s".into(), String::from_utf8_lossy);
    let load = LOADS.iter().find(|load| load.names.contains(&&*name));
    let load = load.ok_or_else(|| Failure::new(Exit::BadFeature, format!("unknown load option {name}")))?;
    Ok((load, invocation.given.value("prefix").unwrap_or(prefix.as_bytes()).to_vec()))
}

/// Keys that are there already are somebody's.
fn refuse_keys(session: &Session, prefix: &[u8]) -> Result<(), Failure> {
    let (key, range_end) = range::with_prefix(prefix);
    let request = pb::RangeRequest { key, range_end, limit: 1, ..Default::default() };
    let found = session.limited(session.cluster.read(|client| {
        let request = request.clone();
        async move { client.range(request).await }
    }))?;
    if found.kvs.is_empty() {
        return Ok(());
    }
    let (quoted, plain) = (go_quote(prefix), String::from_utf8_lossy(prefix));
    let text = format!("prefix {quoted} has keys. Delete with 'etcdctl del --prefix {plain}' first");
    Err(Failure::new(Exit::InvalidInput, text))
}

/// Writes random keys below `prefix` by as many clients as the load has, each with a connection of its own, for as long
/// as `goes_on` says so (it may wait before it does).
async fn write(
    session: &Session,
    load: &Load,
    prefix: &[u8],
    (key_len, value_len): (usize, usize),
    mut goes_on: impl AsyncFnMut(u64) -> bool,
    expected: u64,
) -> Report {
    let (wishes, wished) = mpsc::channel::<Bytes>(load.clients);
    let wished = Arc::new(Mutex::new(wished));
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..load.clients {
        let cluster = session.further().preferring(number);
        clients.spawn(write_as_wished(cluster, wished.clone(), Bytes::from(vec![0; value_len]), done.clone()));
    }
    let mut rng = SystemRng::default();
    let clock = SystemClock::default();
    let mut at = 0;
    while goes_on(at).await {
        let mut key = prefix.to_vec();
        key.extend_from_slice(&rng.next_u64().to_be_bytes());
        key.resize(prefix.len() + key_len, 0);
        if wishes.send(key.into()).await.is_err() {
            break;
        }
        at += 1;
        show_progress(done.load(Ordering::Relaxed), expected);
    }
    drop(wishes);
    let (mut latencies, mut errors) = (Vec::new(), BTreeMap::new());
    while let Some(one) = clients.join_next().await {
        let (one_latencies, one_errors) = one.expect("no client panics");
        latencies.extend(one_latencies);
        for text in one_errors {
            *errors.entry(text).or_default() += 1;
        }
    }
    if std::io::stderr().is_terminal() {
        standard::complain("");
    }
    Report { latencies, errors, time: clock.now().0 }
}

async fn write_as_wished(
    cluster: Balanced,
    wished: Arc<Mutex<mpsc::Receiver<Bytes>>>,
    value: Bytes,
    done: Arc<AtomicU64>,
) -> (Vec<Duration>, Vec<String>) {
    let (mut latencies, mut errors) = (Vec::new(), Vec::new());
    let clock = SystemClock::default();
    loop {
        let Some(key) = wished.lock().await.recv().await else { return (latencies, errors) };
        let start = clock.now();
        let request = pb::PutRequest { key, value: value.clone(), ..Default::default() };
        match cluster.write(|client| async move { client.put(request).await }).await {
            Ok(_) => latencies.push(clock.now().since(start)),
            Err(status) => errors.push(failure::go_text(&status)),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// On a terminal only, and only when the number of percents changes.
fn show_progress(done: u64, expected: u64) {
    let hundredth = (expected / 100).max(1);
    if done.is_multiple_of(hundredth) && std::io::stderr().is_terminal() {
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), "\r{:3} %", done * 100 / expected.max(1));
    }
}

/// Deletes what was written; compacts and defragments if the user wants that.
fn clean_up(session: &Session, invocation: &Invocation, prefix: &[u8]) -> Result<(), Failure> {
    let (key, range_end) = range::with_prefix(prefix);
    let request = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
    let deleted = session.block_on(within(
        CLEAN_UP_LIMIT,
        &session.cluster,
        session.cluster.write(|client| async move { client.delete_range(request).await }),
    ))?;
    if invocation.given.is_set("auto-compact") {
        let revision = deleted.header.map_or(0, |header| header.revision);
        standard::print(format!("Compacting with revision {revision}\n").as_bytes())?;
        let request = pb::CompactionRequest { revision, physical: true };
        session.block_on(within(
            CLEAN_UP_LIMIT,
            &session.cluster,
            session.cluster.write(|client| async move { client.compact(request).await }),
        ))?;
        standard::print(format!("Compacted with revision {revision}\n").as_bytes())?;
    }
    if invocation.given.is_set("auto-defrag") {
        for endpoint in session.endpoints() {
            let name = go_quote(endpoint.text().as_bytes());
            standard::print(format!("Defragmenting {name}\n").as_bytes())?;
            let cluster = session.at(endpoint);
            let defragment = cluster.write(|client| async move { client.defragment(pb::DefragmentRequest {}).await });
            session.block_on(within(CLEAN_UP_LIMIT, &cluster, defragment))?;
            standard::print(format!("Defragmented {name}\n").as_bytes())?;
        }
    }
    Ok(())
}
