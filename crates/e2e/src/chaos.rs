//! A cluster under load while something happens to it, and judgement on what its clients saw.
//!
//! A [`Run`] has clients that write, compare and read through whichever member answers, watchers on every member, and one
//! clock. All that they were told becomes one history, which crate `checker` judges: its operations must have an order
//! that explains every answer, its watches keep etcd's nine guarantees, its leases not end before their time.
//!
//! A history can be repeated in kind but not in its bytes: the seed chooses requests and targets, the machine when they
//! meet.

mod client;
mod fault;
mod judge;
mod watcher;
mod wire;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use checker::{History, Operation, WatchSession};
use tokio::task::JoinSet;

use crate::{Cluster, SETTLE_LIMIT, holds_within};

pub use fault::Fault;
pub use judge::Judged;

/// No history is judged that has fewer operations.
const OPERATIONS: usize = 2_000;

const CLIENTS: u64 = 8;

/// How long a history may be collected: what a slow machine needs for [`OPERATIONS`] after the fault.
const COLLECT_LIMIT: Duration = Duration::from_secs(60);

/// What clients and watchers share.
#[derive(Debug)]
struct Shared {
    start: Instant,
    stopping: AtomicBool,
    sessions: AtomicU64,
    addresses: Mutex<Vec<SocketAddr>>,
    operations: Mutex<Vec<Operation>>,
    watches: Mutex<Vec<WatchSession>>,
}

impl Shared {
    /// Nanoseconds since the run began.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().expect("nobody panics while holding it").clone()
    }

    fn record(&self, operation: Operation) {
        self.operations.lock().expect("nobody panics while holding it").push(operation);
    }

    fn watched(&self, session: WatchSession) {
        self.watches.lock().expect("nobody panics while holding it").push(session);
    }

    fn count(&self) -> usize {
        self.operations.lock().expect("nobody panics while holding it").len()
    }
}

/// A workload that runs beside whatever the test does.
#[derive(Debug)]
pub struct Run {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Run {
    /// Starts clients and watchers of a cluster that is fresh: nothing was written to it.
    pub fn start(cluster: &Cluster, seed: u64) -> Run {
        Run::start_as(cluster, seed, false)
    }

    /// As [`Run::start`], with clients whose linearizable reads are serializable ones in truth: a fault that judgement has
    /// to find once a member falls behind.
    pub fn start_deceived(cluster: &Cluster, seed: u64) -> Run {
        Run::start_as(cluster, seed, true)
    }

    fn start_as(cluster: &Cluster, seed: u64, deceived: bool) -> Run {
        let addresses = cluster.seats().iter().map(crate::Seat::address).collect();
        let shared = Arc::new(Shared {
            start: Instant::now(),
            stopping: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            addresses: Mutex::new(addresses),
            operations: Mutex::default(),
            watches: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for client in 0..CLIENTS {
            tasks.spawn(client::Client::new(shared.clone(), client, seed, deceived).run());
        }
        for seat in 0..cluster.seats().len() {
            tasks.spawn(watcher::everything(shared.clone(), seat));
            tasks.spawn(watcher::some(shared.clone(), seat));
        }
        Run { shared, tasks }
    }

    /// Lets clients use the members that are there now.
    pub fn members_changed(&self, cluster: &Cluster) {
        let running = cluster.running().into_iter().map(|seat| cluster.seats()[seat].address()).collect();
        *self.shared.addresses.lock().expect("nobody panics while holding it") = running;
    }

    /// Puts so many bytes through one member, as a client of its own.
    async fn fill(&self, address: SocketAddr, bytes: usize) -> Result<()> {
        client::Client::new(self.shared.clone(), CLIENTS, 0, false).fill(address, bytes).await
    }

    /// How many operations were made so far.
    pub fn count(&self) -> usize {
        self.shared.count()
    }

    /// Ends the load once there is enough of it, waits until all members are well and hold the same, and judges.
    ///
    /// # Errors
    /// What was violated, with the operations concerned.
    pub async fn judge(self, cluster: &mut Cluster) -> Result<Judged> {
        self.members_changed(cluster);
        let limit = tokio::time::Instant::now() + COLLECT_LIMIT;
        while self.count() < OPERATIONS && tokio::time::Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        cluster.settled().await?;
        let last = cluster.equal().await?;
        for seat in cluster.running() {
            watcher::from_the_beginning(&self.shared, &cluster.client(seat).await?, last).await?;
        }
        let shared = Arc::into_inner(self.shared).context("all that shared it have ended")?;
        let mut operations = shared.operations.into_inner()?;
        operations.sort_by_key(|operation| operation.invoked);
        let made = operations.len();
        ensure!(made >= OPERATIONS, "only {made} operations were made");
        let history = History { operations, ..History::new() };
        judge::judge(history, &shared.watches.into_inner()?, last)
    }
}

/// One history: a fresh cluster, load, `fault`, judgement. What came of it is added to the file that `E2E_LEDGER` names.
///
/// # Errors
/// If anything does not hold; the seed is in the text.
pub async fn history(target: crate::Target, fault: Fault, seed: u64) -> Result<Judged> {
    let outcome = async {
        let mut cluster = fault.cluster(target).await?;
        let run = Run::start(&cluster, seed);
        // So that there is something to lose.
        holds_within(SETTLE_LIMIT, async || Ok(run.count() >= OPERATIONS / 10)).await.context("nothing is served")?;
        fault.inflict(&mut cluster, &run, &mut fastrand::Rng::with_seed(seed)).await.context("inflict the fault")?;
        run.judge(&mut cluster).await
    };
    let outcome = outcome.await.with_context(|| format!("{fault:?} with seed {seed} on {target}"));
    if let Some(path) = std::env::var_os("E2E_LEDGER") {
        let mut ledger = File::options().create(true).append(true).open(path)?;
        match &outcome {
            Ok(judged) => writeln!(ledger, "history {target} {fault:?} seed {seed}: {judged}")?,
            Err(error) => writeln!(ledger, "history {target} {fault:?} seed {seed}: FAILED: {error:#}")?,
        }
    }
    outcome
}
