//! A running member: starts its threads in order, stops them in order.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use backend::Backend;
use env::{Clock, Disk, Rng};
use machine::Shared;
use parking_lot::Mutex;
use peer::{Readings, Transport};
use types::Index;
use watch::{EventLog, LogLimits};

use crate::apply_queue::ApplyQueue;
use crate::apply_thread::{Applier, ToApply, Work};
use crate::backend_thread::{BackendThread, CommitBell};
use crate::boot::{Core, StartError, boot};
use crate::bootstrap::Bootstrap;
use crate::claim::{Claim, claim_directories};
use crate::fate::Fate;
use crate::handle::Handle;
use crate::housekeeping::{Chores, CompactionThread, LeaseThread};
use crate::inbox::Inbox;
use crate::large_reads::LargeReads;
use crate::layout::Layout;
use crate::peer_thread::PeerThread;
use crate::request_id::RequestIds;
use crate::settings::Settings;
use crate::shared::{Board, Identity, Pulse};
use crate::snapshots::{Arrivals, Departures};
use crate::stepper::{Stepper, Surroundings, ToConsensus, Waiters};
use crate::wal_thread::{ToWal, ToWalReader, WalReaderThread, WalThread};

/// What all workers share of the member.
pub(crate) struct Inner {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) board: Arc<Board>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) shared: Shared,
    pub(crate) backend: Backend,
    pub(crate) events: Arc<EventLog>,
    pub(crate) consensus: Arc<Stepper>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) ids: Arc<RequestIds>,
    pub(crate) large_reads: LargeReads,
    pub(crate) outbox: peer::Outbox,
    /// Until a thread reads them.
    pub(crate) messages: Mutex<Option<Readings>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status: tokio::sync::watch::Receiver<consensus::Status>,
    /// Up to where the removal of compacted history is done and on disk.
    pub(crate) compaction_finished: tokio::sync::watch::Receiver<i64>,
}

/// A running member. Dropping it without [`Member::stop`] leaves its threads running.
pub struct Member {
    inner: Arc<Inner>,
    apply: Arc<ApplyQueue>,
    wal: Arc<Inbox<ToWal>>,
    wal_readers: Arc<Inbox<ToWalReader>>,
    bell: Arc<CommitBell>,
    chores: Arc<Chores>,
    threads: Threads,
    _claim: Claim,
}

#[derive(Default)]
struct Threads {
    clock: Option<JoinHandle<()>>,
    apply: Option<JoinHandle<()>>,
    wal: Option<JoinHandle<()>>,
    wal_reader: Option<JoinHandle<()>>,
    peers: Option<JoinHandle<()>>,
    backend: Option<JoinHandle<()>>,
    chores: Vec<JoinHandle<()>>,
}

/// The world a member lives in.
pub struct World {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Box<dyn Rng>,
    /// Where other members connect to.
    pub peer_listeners: Vec<std::net::TcpListener>,
}

/// A handle for the thread it is sent to; see [`Member::door`].
#[derive(Clone)]
pub struct Door(Arc<Inner>);

impl Door {
    /// Sets up the calling worker thread, which must run inside a `LocalSet`.
    pub fn open(&self) -> Handle {
        Handle::new(self.0.clone())
    }

    /// Reads what the other members say, but for what is to be stored, on the calling thread, inside a `LocalSet`: until the member
    /// stops. Nobody does before, and one thread is enough; a second call waits and reads nothing.
    pub async fn read_peers(&self) {
        let messages = self.0.messages.lock().take();
        let reading = async {
            match messages {
                Some(messages) => match messages.run().await {},
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = reading => {}
            () = self.stopped() => {}
        }
    }

    /// Terms, leaders and roles as they change.
    pub fn status_changes(&self) -> tokio::sync::watch::Receiver<consensus::Status> {
        self.0.status.clone()
    }

    pub fn pulse(&self) -> Pulse {
        self.0.board.pulse(self.0.clock.now())
    }

    /// Resolves when the member stops, on any thread.
    pub async fn stopped(&self) {
        // An error means that the sender is gone: then the member has stopped too.
        let _ = self.0.fate.subscribe().wait_for(|stopped| *stopped).await;
    }
}

impl Member {
    /// Opens the data directory, or makes one that begins as `begin` says, replays the log's tail and starts the threads. Returns once the threads
    /// run; [`Member::wait_ready`] tells when requests are served.
    ///
    /// # Errors
    /// [`StartError`]. A directory that cannot be used is left as it was found.
    pub fn start(settings: Settings, begin: &Bootstrap, world: World) -> Result<Member, StartError> {
        let World { disk, clock, rng, peer_listeners } = world;
        let layout = Layout::new(&settings.data_dir, settings.wal_dir.as_deref());
        let claim = claim_directories(disk.as_ref(), &layout)?;
        let core = boot(&disk, &layout, &settings, begin, rng)?;
        let arrivals = Arc::new(Arrivals::new(disk, layout, core.backend.clone()));
        let is_unchecked = settings.corruption_checks.initial && matches!(begin, Bootstrap::Restart);
        spawn(core, settings, clock, arrivals, peer_listeners, claim, is_unchecked)
    }

    /// Waits until this member has a leader, the cluster knows where its clients find it and has a version, and nothing
    /// was found wrong with the data, if that is to be checked.
    ///
    /// # Errors
    /// [`StartError::Stopped`] if something broke meanwhile.
    pub fn wait_ready(&self) -> Result<(), StartError> {
        let (board, fate) = (&self.inner.board, &self.inner.fate);
        let is_known = || self.inner.is_published() && self.inner.has_version();
        let is_ready = || board.leader().is_some() && !board.is_unchecked() && is_known();
        board.wait_until(|| board.is_stopped() || is_ready());
        if board.is_stopped() {
            return Err(StartError::Stopped(fate.failure().unwrap_or_default()));
        }
        Ok(())
    }

    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Lets the member that is furthest lead, so that nobody has to notice that this one is gone.
    fn hand_over(&self) {
        let board = &self.inner.board;
        if board.is_stopped() || !board.is_leader() {
            return;
        }
        let others = self.inner.consensus.progress().into_iter().filter(|other| other.is_active && !other.is_learner);
        let Some(successor) = others.max_by_key(|other| other.matched) else { return };
        self.inner.consensus.send(ToConsensus::TransferLeader(successor.member));
        // Not longer, however much goes on meanwhile: a successor that cannot catch up must not keep the member from stopping.
        let (clock, patience) = (&self.inner.clock, self.inner.settings.election_timeout);
        let deadline = clock.now().plus(patience);
        let is_over = || board.is_stopped() || board.has_other_leader() || clock.now() >= deadline;
        board.wait_until_for(patience, is_over);
    }

    /// A way in for a worker thread, that can be sent there.
    pub fn door(&self) -> Door {
        Door(self.inner.clone())
    }

    /// Waits until the member has stopped, at most `timeout`; returns whether it has.
    pub fn wait_stopped(&self, timeout: Duration) -> bool {
        self.inner.fate.wait_stopped(timeout)
    }

    /// Whether the member stopped because it was removed from the cluster.
    pub fn is_removed(&self) -> bool {
        self.inner.fate.is_removed()
    }

    /// Stops: leadership goes to another member first, then no new requests, then what is in flight, then one last commit
    /// of the backend.
    ///
    /// # Errors
    /// Why the member had stopped by itself, if it had.
    pub fn stop(mut self) -> Result<(), String> {
        self.hand_over();
        self.inner.fate.stop();
        join(self.threads.peers.take());
        self.chores.stop();
        join(self.threads.chores.drain(..));
        self.inner.consensus.send(ToConsensus::Stop);
        join(self.threads.clock.take());
        self.wal.send(ToWal::Stop);
        join(self.threads.wal.take());
        self.wal_readers.send(ToWalReader::Stop);
        join(self.threads.wal_reader.take());
        self.apply.send(ToApply::Stop);
        join(self.threads.apply.take());
        self.bell.nudge();
        join(self.threads.backend.take());
        self.inner.fate.failure().map_or(Ok(()), Err)
    }
}

/// Space on the disk, and what of it holds data.
pub(crate) struct DatabaseSize {
    pub(crate) taken_bytes: u64,
    pub(crate) in_use_bytes: u64,
}

impl Inner {
    /// How large the database is; what waits for the next commit takes space too.
    pub(crate) fn database_size(&self) -> DatabaseSize {
        let in_use_bytes = self.backend.size().in_use_bytes + self.backend.staged_bytes() as u64;
        // Not the file's length: people hold this against the quota, and the file grows ahead of need.
        DatabaseSize { taken_bytes: self.backend.taken_bytes().max(in_use_bytes), in_use_bytes }
    }

    pub(crate) fn has_version(&self) -> bool {
        self.shared.membership().version().is_some()
    }

    /// Whether the cluster knows this member's name and client URLs.
    pub(crate) fn is_published(&self) -> bool {
        let membership = self.shared.membership();
        let said = membership.member(self.identity.member_id).map(|member| &member.attributes);
        said.is_some_and(|said| said.name == self.settings.name && said.client_urls == self.settings.client_urls)
    }
}

fn spawn(
    core: Core,
    settings: Settings,
    clock: Arc<dyn Clock>,
    arrivals: Arc<Arrivals>,
    peer_listeners: Vec<std::net::TcpListener>,
    claim: Claim,
    is_unchecked: bool,
) -> Result<Member, StartError> {
    let Core { identity, driver, wal, machine, backend } = core;
    let (bell, chores) = (Arc::new(CommitBell::default()), Arc::new(Chores::default()));
    let board = Arc::new(Board::new(bell.clone()));
    let fate = Arc::new(Fate::new(board.clone()));
    // Whichever thread meets damage, a reader's too.
    let told = fate.clone();
    backend.on_failure(move |error| told.fail(format!("backend: {error}")));
    let (to_wal, wal_readers, to_apply) = (Arc::new(Inbox::new()), Arc::new(Inbox::new()), Arc::new(ApplyQueue::new()));
    let waiters = Arc::new(Waiters::default());
    let shared = machine.shared().clone();
    let events = EventLog::new(LogLimits::default(), shared.view().revision(), shared.view().compacted());
    let ids = Arc::new(RequestIds::new(identity.member_id, clock.wall()));
    let (status_changed, status) = tokio::sync::watch::channel(driver.status());
    let (finished, compaction_finished) = tokio::sync::watch::channel(-1);
    board.set_is_unchecked(is_unchecked);
    board.set_applied(backend.applied().0);
    board.set_status(driver.status());
    let (transport, streams) = Transport::new(peer_settings(&identity, &settings), clock.clone());
    let outbox = transport.outbox();
    let proposal_ticks_max =
        settings.limits.request_timeout.div_duration_f64(settings.heartbeat_interval).ceil() as u64 + 1;
    let around = Surroundings {
        ids: ids.clone(),
        send: {
            let outbox = outbox.clone();
            Arc::new(move |messages| outbox.send(messages))
        },
        ignore_snapshot: {
            let arrivals = arrivals.clone();
            Box::new(move || arrivals.done())
        },
        proposal_ticks_max,
        wal: to_wal.clone(),
        apply: to_apply.clone(),
        waiters: waiters.clone(),
        board: board.clone(),
        fate: fate.clone(),
        clock: clock.clone(),
        status_changed,
    };
    let stepper = Arc::new(Stepper::new(driver, around));

    let mut threads = Threads::default();
    let wal_thread = WalThread {
        wal,
        inbox: to_wal.clone(),
        readers: wal_readers.clone(),
        consensus: stepper.clone(),
        apply: to_apply.clone(),
        board: board.clone(),
        fate: fate.clone(),
        clock: clock.clone(),
    };
    threads.wal = Some(thread("wal", move || wal_thread.run(streams.appends))?);
    let wal_reader = WalReaderThread { inbox: wal_readers.clone(), consensus: stepper.clone(), fate: fate.clone() };
    threads.wal_reader = Some(thread("wal-reader", move || wal_reader.run())?);
    let backend_thread = BackendThread {
        backend: backend.clone(),
        bell: bell.clone(),
        wal: to_wal.clone(),
        consensus: stepper.clone(),
        board: board.clone(),
        fate: fate.clone(),
        interval: settings.backend_batch_interval,
        catchup_entries: settings.catchup_entries,
        clock: clock.clone(),
    };
    threads.backend = Some(thread("backend", move || backend_thread.run())?);
    let applier = Applier {
        member_id: identity.member_id,
        outbox: outbox.clone(),
        arrivals: arrivals.clone(),
        ids: ids.clone(),
        divergence: None,
        reported: Index(0),
        alarms: shared.alarms(),
        machine,
        backend: backend.clone(),
        consensus: stepper.clone(),
        waiters: waiters.clone(),
        events: events.clone(),
        bell: bell.clone(),
        chores: chores.clone(),
        board: board.clone(),
        fate: fate.clone(),
        clock: clock.clone(),
        warning_duration: settings.warning_apply_duration,
        election_timeout: settings.election_timeout,
        work: Work::default(),
    };
    applier.note_membership();
    let queue = to_apply.clone();
    threads.apply = Some(thread("apply", move || queue.run(applier))?);
    let compaction_thread = CompactionThread {
        shared: shared.clone(),
        backend: backend.clone(),
        chores: chores.clone(),
        bell: bell.clone(),
        fate: fate.clone(),
        clock: clock.clone(),
        board: board.clone(),
        batch_limit: settings.compaction_batch_limit,
        sleep_interval: settings.compaction_sleep_interval,
        finished,
    };
    threads.chores.push(thread("compaction", move || compaction_thread.run())?);
    let lease_thread = LeaseThread {
        shared: shared.clone(),
        chores: chores.clone(),
        consensus: stepper.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
    };
    threads.chores.push(thread("lease", move || lease_thread.run())?);
    let (ticked, ticking, fate_of_clock, interval) =
        (stepper.clone(), clock.clone(), fate.clone(), settings.heartbeat_interval);
    let skips_silence = settings.initial_election_tick_advance;
    let run_clock = move || ticked.run_clock(ticking.as_ref(), &fate_of_clock, interval, skips_silence);
    threads.clock = Some(thread("clock", run_clock)?);
    let departures = Departures {
        backend: backend.clone(),
        bell: bell.clone(),
        fate: fate.clone(),
        board: board.clone(),
        clock: clock.clone(),
    };
    let inner = Inner {
        identity,
        settings,
        board,
        fate,
        shared,
        backend,
        events,
        consensus: stepper,
        waiters,
        ids,
        large_reads: LargeReads::new().map_err(StartError::Thread)?,
        clock,
        status,
        compaction_finished,
        outbox,
        messages: Mutex::new(Some(streams.messages)),
    };
    let inner = Arc::new(inner);
    let peer_thread =
        PeerThread { door: Door(inner.clone()), transport, listeners: peer_listeners, arrivals, departures };
    threads.peers = Some(thread("peers", move || peer_thread.run())?);
    Ok(Member { inner, apply: to_apply, wal: to_wal, wal_readers, bell, chores, threads, _claim: claim })
}

fn peer_settings(identity: &Identity, settings: &Settings) -> peer::Settings {
    let peer_urls = settings.peer_urls.clone();
    peer::Settings {
        dial_timeout: Duration::from_secs(1) + settings.election_timeout,
        read_timeout: settings.peer_read_timeout,
        write_timeout: settings.peer_write_timeout,
        ..peer::Settings::new(identity.cluster_id, identity.member_id, identity.version, peer_urls)
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(StartError::Thread)
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the member panicked");
        }
    }
}
