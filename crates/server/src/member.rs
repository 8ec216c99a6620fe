//! A running member: starts its threads in order, stops them in order.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request;
use api::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use backend::Backend;
use env::{Clock, Disk, Rng};
use machine::Shared;
use watch::{EventLog, LogLimits};

use crate::apply_thread::{ApplyThread, ToApply};
use crate::backend_thread::{BackendThread, CommitBell};
use crate::boot::{Core, StartError, boot};
use crate::claim::{Claim, claim_directories};
use crate::fate::Fate;
use crate::handle::Handle;
use crate::housekeeping::{Chores, CompactionThread, LeaseThread};
use crate::inbox::Inbox;
use crate::large_reads::LargeReads;
use crate::layout::Layout;
use crate::request_id::{RequestIds, encode};
use crate::settings::Settings;
use crate::shared::{Board, Identity};
use crate::stepper::{Proposal, Stepper, Surroundings, ToConsensus, Waiters};
use crate::wal_thread::{ToWal, WalThread};

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
    pub(crate) ids: Arc<RequestIds>,
    pub(crate) large_reads: LargeReads,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status: tokio::sync::watch::Receiver<consensus::Status>,
    /// Up to where the removal of compacted history is done and on disk.
    pub(crate) compaction_finished: tokio::sync::watch::Receiver<i64>,
}

/// A running member. Dropping it without [`Member::stop`] leaves its threads running.
pub struct Member {
    inner: Arc<Inner>,
    apply: Arc<Inbox<ToApply>>,
    wal: Arc<Inbox<ToWal>>,
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
    backend: Option<JoinHandle<()>>,
    chores: Vec<JoinHandle<()>>,
}

/// The world a member lives in.
pub struct World {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Box<dyn Rng>,
}

/// A handle for the thread it is sent to; see [`Member::door`].
#[derive(Clone)]
pub struct Door(Arc<Inner>);

impl Door {
    /// Sets up the calling worker thread, which must run inside a `LocalSet`.
    pub fn open(&self) -> Handle {
        Handle::new(self.0.clone())
    }

    /// Resolves when the member stops, on any thread.
    pub async fn stopped(&self) {
        // An error means that the sender is gone: then the member has stopped too.
        let _ = self.0.fate.subscribe().wait_for(|stopped| *stopped).await;
    }
}

impl Member {
    /// Opens or makes the data directory, replays the log's tail and starts the threads. Returns once the threads
    /// run; [`Member::wait_ready`] tells when requests are served.
    ///
    /// # Errors
    /// [`StartError`]. A directory that cannot be used is left as it was found.
    pub fn start(settings: Settings, world: World) -> Result<Member, StartError> {
        let World { disk, clock, rng } = world;
        let layout = Layout::new(&settings.data_dir, settings.wal_dir.as_deref());
        let claim = claim_directories(disk.as_ref(), &layout)?;
        let core = boot(&disk, &layout, &settings, rng)?;
        spawn(core, settings, clock, claim)
    }

    /// Waits until this member has a leader, its attributes are published and the cluster has a version.
    ///
    /// # Errors
    /// [`StartError::Stopped`] if something broke meanwhile.
    pub fn wait_ready(&self) -> Result<(), StartError> {
        let (board, fate) = (&self.inner.board, &self.inner.fate);
        let mut published_in = None;
        board.wait_until(|| {
            if board.is_stopped() {
                return true;
            }
            let leads = board.is_leader() && board.reads_need_no_round();
            if leads && !self.is_published() && published_in != Some(board.term()) {
                published_in = Some(board.term());
                self.publish();
            }
            leads && self.is_published()
        });
        if board.is_stopped() {
            return Err(StartError::Stopped(fate.failure().unwrap_or_default()));
        }
        Ok(())
    }

    fn is_published(&self) -> bool {
        let settings = &self.inner.settings;
        let me = self.inner.identity.member_id;
        let membership = self.inner.shared.membership();
        let said = membership.member(me).map(|member| &member.attributes);
        let is_current =
            said.is_some_and(|said| said.name == settings.name && said.client_urls == settings.client_urls);
        is_current && membership.version().is_some()
    }

    /// Tells the cluster this member's name and client URLs, and the version of a new cluster.
    fn publish(&self) {
        let settings = &self.inner.settings;
        let attributes = Attributes { name: settings.name.clone(), client_urls: settings.client_urls.clone() };
        let attributes = ClusterMemberAttrSetRequest {
            member_id: self.inner.identity.member_id.0,
            member_attributes: Some(attributes),
        };
        self.tell(Request::ClusterMemberAttrSet(attributes));
        if self.inner.shared.membership().version().is_none() {
            self.tell(Request::ClusterVersionSet(ClusterVersionSetRequest { ver: CLUSTER_VERSION.to_owned() }));
        }
    }

    fn tell(&self, request: Request) {
        let id = self.inner.ids.next();
        let proposal = Proposal { id, data: encode(id, request), reply_to: None };
        self.inner.consensus.send(ToConsensus::Propose(proposal));
    }

    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// A way in for a worker thread, that can be sent there.
    pub fn door(&self) -> Door {
        Door(self.inner.clone())
    }

    /// Waits until the member has stopped, at most `timeout`; returns whether it has.
    pub fn wait_stopped(&self, timeout: Duration) -> bool {
        self.inner.fate.wait_stopped(timeout)
    }

    /// Stops: no new requests, then what is in flight, then one last commit of the backend.
    ///
    /// # Errors
    /// Why the member had stopped by itself, if it had.
    pub fn stop(mut self) -> Result<(), String> {
        self.inner.fate.stop();
        self.chores.stop();
        join(self.threads.chores.drain(..));
        self.inner.consensus.send(ToConsensus::Stop);
        join(self.threads.clock.take());
        self.wal.send(ToWal::Stop);
        join(self.threads.wal.take());
        self.apply.send(ToApply::Stop);
        join(self.threads.apply.take());
        self.bell.nudge();
        join(self.threads.backend.take());
        self.inner.fate.failure().map_or(Ok(()), Err)
    }
}

/// The version that a new cluster of these servers agrees on.
const CLUSTER_VERSION: &str = "3.5.0";

fn spawn(core: Core, settings: Settings, clock: Arc<dyn Clock>, claim: Claim) -> Result<Member, StartError> {
    let Core { identity, driver, wal, machine, backend } = core;
    let (bell, chores) = (Arc::new(CommitBell::default()), Arc::new(Chores::default()));
    let board = Arc::new(Board::new(bell.clone()));
    let fate = Arc::new(Fate::new(board.clone()));
    // Whichever thread meets damage, a reader's too.
    let told = fate.clone();
    backend.on_failure(move |error| told.fail(format!("backend: {error}")));
    let (to_wal, to_apply) = (Arc::new(Inbox::new()), Arc::new(Inbox::new()));
    let waiters = Arc::new(Waiters::default());
    let shared = machine.shared().clone();
    let events = EventLog::new(LogLimits::default(), shared.view().revision(), shared.view().compacted());
    let ids = Arc::new(RequestIds::new(identity.member_id, clock.wall()));
    let (status_changed, status) = tokio::sync::watch::channel(driver.status());
    let (finished, compaction_finished) = tokio::sync::watch::channel(-1);
    board.set_applied(backend.applied().0);
    board.set_status(driver.status());
    let proposal_ticks_max =
        settings.limits.request_timeout.div_duration_f64(settings.heartbeat_interval).ceil() as u64 + 1;
    let around = Surroundings {
        ids: ids.clone(),
        send: Box::new(|_| {}),
        take_report: Box::new(|_, _| {}),
        proposal_ticks_max,
        wal: to_wal.clone(),
        apply: to_apply.clone(),
        waiters: waiters.clone(),
        board: board.clone(),
        fate: fate.clone(),
        status_changed,
    };
    let stepper = Arc::new(Stepper::new(driver, around));

    let mut threads = Threads::default();
    let wal_thread = WalThread {
        wal,
        segment_size_bytes: settings.wal_segment_size_bytes,
        inbox: to_wal.clone(),
        consensus: stepper.clone(),
        apply: to_apply.clone(),
        board: board.clone(),
        fate: fate.clone(),
    };
    threads.wal = Some(thread("wal", move || wal_thread.run())?);
    let backend_thread = BackendThread {
        backend: backend.clone(),
        bell: bell.clone(),
        wal: to_wal.clone(),
        board: board.clone(),
        fate: fate.clone(),
        interval: settings.backend_batch_interval,
        catchup_entries: settings.catchup_entries,
    };
    threads.backend = Some(thread("backend", move || backend_thread.run())?);
    let apply_thread = ApplyThread {
        member_id: identity.member_id,
        machine,
        backend: backend.clone(),
        inbox: to_apply.clone(),
        consensus: stepper.clone(),
        waiters,
        events: events.clone(),
        bell: bell.clone(),
        chores: chores.clone(),
        board: board.clone(),
        fate: fate.clone(),
        clock: clock.clone(),
        warning_duration: settings.warning_apply_duration,
        election_timeout: settings.election_timeout,
    };
    apply_thread.note_membership();
    threads.apply = Some(thread("apply", move || apply_thread.run())?);
    let compaction_thread = CompactionThread {
        shared: shared.clone(),
        backend: backend.clone(),
        chores: chores.clone(),
        bell: bell.clone(),
        fate: fate.clone(),
        clock: clock.clone(),
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
    let run_clock = move || ticked.run_clock(ticking.as_ref(), &fate_of_clock, interval);
    threads.clock = Some(thread("clock", run_clock)?);
    let inner = Inner {
        identity,
        settings,
        board,
        fate,
        shared,
        backend,
        events,
        consensus: stepper,
        ids,
        large_reads: LargeReads::new(),
        clock,
        status,
        compaction_finished,
    };
    Ok(Member { inner: Arc::new(inner), apply: to_apply, wal: to_wal, bell, chores, threads, _claim: claim })
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
