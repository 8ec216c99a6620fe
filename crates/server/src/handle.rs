//! What a front end calls: one [`Handle`] per network worker.
//!
//! A request is checked, given an id, put into the worker's outbox and awaited. The outbox leaves in one piece when
//! the worker has worked off what was ready, so that the requests of one turn cost one crossing of threads.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use env::Monotonic;
use machine::{Alarm, Operation, Reply, Shared};
use peer::client::KeptConnections;
use tokio::sync::Notify;
use types::{MemberId, Term};
use watch::EventLog;

use crate::error::Error;
use crate::figures::{Timed, WorkerFigures};
use crate::large_reads::LargeReads;
use crate::mailbox::{Address, Desk};
use crate::member::Inner;
use crate::request_id::encode;
use crate::settings::Limits;
use crate::shared::Identity;
use crate::stepper::{Answer, Proposal, ToConsensus};

/// How finely a worker measures the time its requests wait.
const CLOCK_TURN: Duration = Duration::from_millis(500);

/// One worker's way to the member. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct Handle(Rc<Worker>);

struct Worker {
    member: Arc<Inner>,
    desk: Rc<Desk<Answer>>,
    outbox: RefCell<Vec<ToConsensus>>,
    outbox_filled: Notify,
    figures: Arc<WorkerFigures>,
    connections: KeptConnections,
}

impl Handle {
    /// Sets up the calling worker thread, which must run a `LocalSet`.
    pub(crate) fn new(member: Arc<Inner>) -> Handle {
        let figures = member.board.figures.new_worker();
        let worker = Rc::new(Worker {
            member,
            figures,
            desk: Desk::new(),
            outbox: RefCell::default(),
            outbox_filled: Notify::new(),
            connections: KeptConnections::default(),
        });
        tokio::task::spawn_local(worker.desk.clone().sort_mail());
        tokio::task::spawn_local(worker.clone().send_outbox());
        tokio::task::spawn_local(turn_clock(worker.clone()));
        Handle(worker)
    }

    pub fn identity(&self) -> &Identity {
        &self.0.member.identity
    }

    pub fn limits(&self) -> &Limits {
        &self.0.member.settings.limits
    }

    pub fn raft_term(&self) -> Term {
        self.0.member.board.term()
    }

    /// The leader this member knows of.
    pub fn leader(&self) -> Option<MemberId> {
        self.0.member.board.leader()
    }

    /// Whether this member follows without a vote.
    pub fn is_learner(&self) -> bool {
        self.0.member.board.is_learner()
    }

    pub fn event_log(&self) -> &Arc<EventLog> {
        &self.0.member.events
    }

    /// Reads of the applied state, without any waiting.
    pub fn view(&self) -> &mvcc::View {
        self.state().view()
    }

    /// The applied state that is shared with readers.
    pub fn state(&self) -> &Shared {
        &self.0.member.shared
    }

    /// Resolves when the member stops.
    pub fn stopped(&self) -> impl Future<Output = ()> + 'static {
        let mut signal = self.0.member.fate.subscribe();
        async move {
            // An error means that the sender is gone: then the member has stopped too.
            let _ = signal.wait_for(|stopped| *stopped).await;
        }
    }

    /// Terms, leaders and roles as they change.
    pub fn status_changes(&self) -> tokio::sync::watch::Receiver<consensus::Status> {
        self.0.member.status.clone()
    }

    /// Where reads run that would keep the worker waiting.
    pub fn large_reads(&self) -> &LargeReads {
        &self.0.member.large_reads
    }

    /// To the leader, for what it is asked all the time.
    pub(crate) fn connections(&self) -> &KeptConnections {
        &self.0.connections
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0.member
    }

    pub(crate) fn member(&self) -> Arc<Inner> {
        self.0.member.clone()
    }

    /// This worker's own.
    pub(crate) fn figures(&self) -> &WorkerFigures {
        &self.0.figures
    }

    pub(crate) fn now(&self) -> Monotonic {
        self.0.member.clock.now()
    }

    /// Awaits the answer to a request, notes how long that takes, and logs it if it is too long.
    pub(crate) async fn timed<T, E>(&self, what: Timed, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let start = self.now();
        let answer = answer.await;
        self.note_time(what, answer.is_ok(), self.now().since(start));
        answer
    }

    pub(crate) fn note_time(&self, what: Timed, succeeded: bool, took: Duration) {
        self.figures().request(what, succeeded).observe_alone(took);
        let expected = self.0.member.settings.warning_request_duration;
        if took > expected {
            let request = log_name(what);
            tracing::warn!(?took, "expected-duration" = ?expected, request, "request took too long");
        }
    }

    /// Puts a request through the log and returns its result.
    pub(crate) async fn propose(&self, request: Request) -> Result<Reply, Error> {
        let what = Timed::Proposal(Operation::of(&request));
        self.timed(what, self.propose_untimed(request)).await
    }

    async fn propose_untimed(&self, request: Request) -> Result<Reply, Error> {
        let member = &self.0.member;
        self.check_running()?;
        if member.board.commit().0.saturating_sub(member.board.applied().0) > UNAPPLIED_MAX {
            return Err(Error::TooManyRequests);
        }
        let id = member.ids.next();
        // What the member says of itself is not of a client's making, and without it nobody is served.
        let is_own = matches!(request, Request::ClusterMemberAttrSet(_) | Request::ClusterVersionSet(_));
        let data = encode(id, request);
        if !is_own && data.len() > member.settings.limits.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        match self
            .ask_for_proposal(|address| ToConsensus::Propose(Proposal { id, data, reply_to: Some(address) }))
            .await?
        {
            Answer::Applied(reply) => Ok(reply),
            Answer::ReadNow => Err(Error::Internal("a read's answer went to a proposal".into())),
        }
    }

    /// Returns once the applied state reflects every write acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::NoLeader`], [`Error::LeaderChanged`], [`Error::Timeout`], [`Error::Stopped`].
    pub async fn linearizable(&self) -> Result<(), Error> {
        self.check_running()?;
        if self.0.member.board.reads_need_no_round() {
            return Ok(());
        }
        let asked = self.ask(ToConsensus::Read).await;
        asked.inspect_err(|_| self.inner().board.figures.read_indexes_failed.increment()).map(|_| ())
    }

    /// As [`Handle::ask`], of something that is to go through the log.
    pub(crate) async fn ask_for_proposal(
        &self,
        item: impl FnOnce(Address<Answer>) -> ToConsensus,
    ) -> Result<Answer, Error> {
        let answer = self.ask(item).await;
        // Those that were applied have an answer, whatever it is.
        if answer.as_ref().is_err_and(|error| !matches!(error, Error::Apply(_))) {
            self.inner().board.figures.proposals_failed.increment();
        }
        answer
    }

    /// Hands consensus an item that is answered, and waits for the answer.
    pub(crate) async fn ask(&self, item: impl FnOnce(Address<Answer>) -> ToConsensus) -> Result<Answer, Error> {
        let asked_at = self.now();
        let (address, waiting) = self.0.desk.open(self.timeout_turns());
        self.send(item(address));
        match waiting.await {
            Err(Error::Timeout) => Err(self.why_timed_out(asked_at)),
            answer => answer,
        }
    }

    /// etcd tells requests that a change of leaders explains from others.
    fn why_timed_out(&self, asked_at: Monotonic) -> Error {
        let Some(elected_at) = self.0.member.board.leader_since() else { return Error::Timeout };
        let before = 2 * self.limits().election_timeout;
        match asked_at <= elected_at && asked_at.plus(before) >= elected_at {
            true => Error::TimeoutLeaderFailure,
            false => Error::Timeout,
        }
    }

    /// Refuses writes that add to the store while there is no room for them: `cost` bytes against the quota, and
    /// whether the disk is full.
    pub(crate) async fn admit_growth(&self, cost: u64) -> Result<(), Error> {
        if cost == 0 {
            return Ok(());
        }
        let member = &self.0.member;
        if member.board.disk_is_full() {
            return Err(Error::NoSpace);
        }
        let Some(quota) = member.settings.quota_bytes else { return Ok(()) };
        if member.backend.size().in_use_bytes + member.backend.staged_bytes() as u64 + cost < quota {
            return Ok(());
        }
        if !self.state().alarms().has(Alarm::NoSpace) {
            tracing::warn!(quota, "the database is over its quota; raising the alarm");
            let alarm = AlarmRequest {
                action: AlarmAction::Activate.into(),
                member_id: member.identity.member_id.0,
                alarm: AlarmType::Nospace.into(),
            };
            self.propose(Request::Alarm(alarm)).await?;
        }
        Err(Error::NoSpace)
    }

    pub(crate) fn check_running(&self) -> Result<(), Error> {
        if self.0.member.board.is_stopped() { Err(Error::Stopped) } else { Ok(()) }
    }

    pub(crate) fn send(&self, item: ToConsensus) {
        let mut outbox = self.0.outbox.borrow_mut();
        outbox.push(item);
        if outbox.len() == 1 {
            self.0.outbox_filled.notify_one();
        }
    }

    fn timeout_turns(&self) -> u64 {
        (self.limits().request_timeout.as_millis() / CLOCK_TURN.as_millis()) as u64
    }
}

/// What the log calls a request; never its contents.
fn log_name(what: Timed) -> &'static str {
    match what {
        Timed::Range => "range",
        Timed::ReadOnlyTxn | Timed::Proposal(Operation::Txn) => "txn",
        Timed::Proposal(Operation::Put) => "put",
        Timed::Proposal(Operation::DeleteRange) => "delete range",
        Timed::Proposal(Operation::Compaction) => "compaction",
        Timed::Proposal(Operation::LeaseGrant) => "lease grant",
        Timed::Proposal(Operation::LeaseRevoke) => "lease revoke",
        Timed::Proposal(_) => "other",
    }
}

/// More committed than applied by this much, and proposals are refused.
const UNAPPLIED_MAX: u64 = 5000;

impl Worker {
    async fn send_outbox(self: Rc<Self>) {
        loop {
            self.outbox_filled.notified().await;
            // Everything that is ready now goes first, so that its requests travel together.
            tokio::task::yield_now().await;
            self.member.consensus.send_all(&mut self.outbox.borrow_mut());
        }
    }
}

async fn turn_clock(worker: Rc<Worker>) {
    let mut turns = tokio::time::interval(CLOCK_TURN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = turns.tick().await;
        worker.desk.turn_clock(|| Error::Timeout);
        worker.connections.close_idle(now);
    }
}
