//! Consensus, stepped by whichever thread brings it something.
//!
//! Whoever brings an item puts it into the inbox and steps the driver itself. Who finds another thread at it leaves
//! the item, and that thread does it too. So requests gather into batches under load, and a lone one crosses no
//! thread on its way to the log: a worker proposes, the wal thread commits what it has synced, and a thread of its
//! own only counts time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use bytes::Bytes;
use consensus::{ConsensusError, Driver, Effect, LogProgress, Progress, ProposeError, VoterChange};
use env::{Clock, Monotonic};
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use types::{EntryKind, Index, LogEntry, MemberId, Message, MessageKind, Term};

use crate::apply_queue::ApplyQueue;
use crate::apply_thread::ToApply;
use crate::error::Error;
use crate::fate::Fate;
use crate::inbox::Inbox;
use crate::mailbox::{Address, Outgoing};
use crate::request_id::RequestIds;
use crate::shared::Board;
use crate::wal_thread::ToWal;

/// What a waiting request gets: the reply of a proposal, or nothing more than "now" for a read.
pub(crate) enum Answer {
    Applied(machine::Reply),
    ReadNow,
}

pub(crate) struct Proposal {
    pub(crate) id: u64,
    /// An encoded `InternalRaftRequest` with this id.
    pub(crate) data: Bytes,
    /// `None` for what the member asks of itself.
    pub(crate) reply_to: Option<Address<Answer>>,
}

pub(crate) enum ToConsensus {
    Propose(Proposal),
    /// A change of the members; its data is an encoded `raftpb.ConfChange` with the proposal's id.
    ProposeConfChange(Proposal),
    /// A linearizable read waits for its read index.
    Read(Address<Answer>),
    /// What other members said, in order.
    Messages(Vec<Message>),
    /// Messages to this member were lost.
    Unreachable(MemberId),
    /// The connection to this member broke as if it were gone.
    Gone(MemberId),
    /// Stand for election, unless there is a leader.
    Campaign,
    /// Whether a snapshot has arrived at this member.
    SnapshotSent {
        to: MemberId,
        arrived: bool,
    },
    Persisted(u64),
    /// Entries that a follower needs, read back from the log.
    Fetched {
        from: Index,
        entries: Vec<LogEntry>,
    },
    /// The log holds nothing before this any more.
    LogReleased(Index),
    /// For the leader, with the next answer it gets.
    Report(Bytes),
    /// The entry at this index changed the voters.
    ConfChanged(VoterChange),
    TransferLeader(MemberId),
    Stop,
}

/// Requests in the log whose results are awaited here, by request id.
pub(crate) type Waiters = Mutex<HashMap<u64, Waiter>>;

pub(crate) struct Waiter {
    pub(crate) address: Address<Answer>,
    /// In ticks: whoever waits has given up by then. A proposal may be lost on its way to the leader, or with the leader.
    until: u64,
    /// The term it was proposed in.
    pub(crate) term: Term,
}

/// A proposal that waits for a leader, and until when.
struct Held {
    proposal: Proposal,
    is_conf_change: bool,
    until: u64,
}

/// The driver and what waits for it. All threads share it.
pub(crate) struct Stepper {
    inbox: Mutex<Vec<ToConsensus>>,
    turn: Mutex<Turn>,
    apply: Arc<ApplyQueue>,
    board: Arc<Board>,
    send: SendMessages,
}

/// What a turn leaves to be done once it is over: without it, so that others may have theirs.
#[derive(Default)]
struct Left {
    /// Something is to be applied.
    to_apply: bool,
    /// What the others are to be told is committed.
    tells: Vec<Message>,
    /// A client of this member waits for what is applied: it comes before the other members.
    client_first: bool,
    /// The members change. Whoever asked for it may start a new one as soon as that is answered, and it asks any of the others who
    /// belongs to the cluster: they hear of it first, so that hardly any of them is behind.
    changes_members: bool,
}

/// Hands messages to the transport; never waits.
pub(crate) type SendMessages = Arc<dyn Fn(Vec<Message>) + Send + Sync>;
/// A snapshot that has arrived is of no use to raft.
pub(crate) type IgnoreSnapshot = Box<dyn Fn() + Send>;

/// Where the driver's effects go.
pub(crate) struct Surroundings {
    pub(crate) ids: Arc<RequestIds>,
    pub(crate) send: SendMessages,
    pub(crate) ignore_snapshot: IgnoreSnapshot,
    /// Proposals wait for a leader this many ticks.
    pub(crate) proposal_ticks_max: u64,
    pub(crate) wal: Arc<Inbox<ToWal>>,
    pub(crate) apply: Arc<ApplyQueue>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) board: Arc<Board>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status_changed: tokio::sync::watch::Sender<consensus::Status>,
}

/// What a thread works with while it is its turn. The buffers are reused from turn to turn.
struct Turn {
    driver: Driver,
    around: Surroundings,
    rounds: ReadRounds,
    /// Stopped or broken: whatever still comes is refused.
    is_over: bool,
    items: Vec<ToConsensus>,
    data: Vec<Bytes>,
    ids: Vec<u64>,
    /// Who waits for the results of what is proposed next, by request id.
    waiting: Vec<(u64, Waiter)>,
    reads: Vec<Address<Answer>>,
    /// Proposals that wait for a leader, and until when.
    held: VecDeque<Held>,
    /// Changes of the members that followers forwarded, and that wait for an earlier one to be applied.
    held_messages: VecDeque<Message>,
    /// A snapshot was given to raft, and nothing has come of it yet.
    snapshot_stepped: bool,
    /// Ticks since the start.
    now: u64,
    effects: Vec<Effect>,
    outgoing: Outgoing<Answer>,
    left: Left,
}

impl Stepper {
    pub(crate) fn new(driver: Driver, around: Surroundings) -> Stepper {
        let (apply, board, send) = (around.apply.clone(), around.board.clone(), around.send.clone());
        let turn = Turn {
            driver,
            around,
            rounds: ReadRounds::default(),
            is_over: false,
            items: Vec::new(),
            data: Vec::new(),
            ids: Vec::new(),
            waiting: Vec::new(),
            reads: Vec::new(),
            held: VecDeque::new(),
            held_messages: VecDeque::new(),
            snapshot_stepped: false,
            now: 0,
            effects: Vec::new(),
            outgoing: Outgoing::default(),
            left: Left::default(),
        };
        Stepper { inbox: Mutex::default(), turn: Mutex::new(turn), apply, board, send }
    }

    /// The end of this member's log.
    pub(crate) fn last_index(&self) -> Index {
        self.look(Driver::last_index)
    }

    /// How far the other members are; empty where this member does not lead.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        self.look(Driver::progress)
    }

    /// Where consensus stands, whom this member voted for, and how far all members are.
    pub(crate) fn standing(&self) -> (consensus::Status, MemberId, Vec<LogProgress>) {
        self.look(|driver| (driver.status(), driver.vote(), driver.log_progress()))
    }

    pub(crate) fn send(&self, item: ToConsensus) {
        self.inbox.lock().push(item);
        self.step();
    }

    /// As [`Stepper::send`], but for what the others are to be told and a client of this member comes before: that is left to
    /// the caller, for [`Stepper::tell`].
    #[must_use]
    pub(crate) fn send_before_tells(&self, item: ToConsensus) -> Vec<Message> {
        self.inbox.lock().push(item);
        let left = self.take_turns();
        self.settle(left)
    }

    pub(crate) fn tell(&self, messages: Vec<Message>) {
        if !messages.is_empty() {
            (self.send)(messages);
        }
    }

    /// Sends everything in `items`, leaving it empty with its capacity.
    pub(crate) fn send_all(&self, items: &mut Vec<ToConsensus>) {
        if items.is_empty() {
            return;
        }
        self.inbox.lock().append(items);
        self.step();
    }

    /// Puts everything in `items` behind what was sent before, for whoever steps next: see [`Stepper::look_again`].
    pub(crate) fn enqueue(&self, items: &mut Vec<ToConsensus>) {
        self.inbox.lock().append(items);
    }

    /// Until the guard is dropped, who brings something waits.
    #[cfg(test)]
    pub(crate) fn hold_inbox(&self) -> MutexGuard<'_, Vec<ToConsensus>> {
        self.inbox.lock()
    }

    /// Works off the inbox, unless another thread is at it. Nothing is left lying then: that thread looks into the
    /// inbox again once it has let go, and the item was there before it was found to hold on.
    fn step(&self) {
        self.finish(self.take_turns());
    }

    fn take_turns(&self) -> Left {
        let mut left = Left::default();
        fence(Ordering::SeqCst);
        while let Some(turn) = self.turn.try_lock() {
            if std::mem::take(&mut left.to_apply) {
                // There is no end of it yet, and what is committed does not wait.
                self.apply.wake();
            }
            self.tell(left.tells);
            left = self.work_off(turn);
            fence(Ordering::SeqCst);
            if self.inbox.lock().is_empty() {
                break;
            }
        }
        left
    }

    fn finish(&self, left: Left) {
        let applies = left.to_apply;
        let tells = self.settle(left);
        if applies && !tells.is_empty() {
            // The worker that was just woken waits for this very core, often, and its client for it.
            std::thread::yield_now();
        }
        self.tell(tells);
    }

    /// Does what is left, but for what comes after a client of this member.
    fn settle(&self, mut left: Left) -> Vec<Message> {
        if !left.client_first || left.changes_members {
            self.tell(std::mem::take(&mut left.tells));
        }
        if left.to_apply {
            self.apply.work_off();
        }
        left.tells
    }

    fn work_off(&self, mut turn: MutexGuard<'_, Turn>) -> Left {
        let turn = &mut *turn;
        // Read before the inbox is: what is applied by now may have changed the voters, and whoever applied it put that into
        // the inbox first. Raft must not hear of the entry before the change, or it elects and commits by old voters.
        let applied = turn.around.board.applied();
        std::mem::swap(&mut *self.inbox.lock(), &mut turn.items);
        if let Err(error) = turn.step(applied) {
            turn.around.fate.fail(format!("consensus: {error}"));
            turn.is_over = true;
        }
        if turn.is_over {
            turn.refuse_all();
        }
        turn.outgoing.deliver();
        std::mem::take(&mut turn.left)
    }

    /// Lets consensus know that time passes, until the member stops.
    pub(crate) fn run_clock(&self, clock: &dyn Clock, fate: &Fate, tick_interval: Duration, skips_silence: bool) {
        if skips_silence {
            self.with_turn(|turn| turn.driver.skip_silence());
        }
        self.look_again();
        let mut next_tick = clock.now().plus(tick_interval);
        while !fate.wait_stopped(next_tick.since(clock.now())) {
            let now = clock.now();
            if now >= next_tick {
                if now.since(next_tick) > tick_interval {
                    self.note_late_heartbeats();
                }
                self.with_turn(Turn::tick);
                // Ticks missed while the process did not run are not made up for: that would look like silence of
                // the others.
                next_tick = now.plus(tick_interval);
            }
        }
    }

    /// More than two intervals after the last ones, as etcd counts them.
    fn note_late_heartbeats(&self) {
        if self.board.is_leader() {
            self.board.figures.heartbeats_late.add(self.progress().len() as u64);
        }
    }

    /// Takes note of what is applied by now.
    pub(crate) fn look_again(&self) {
        self.step();
    }

    /// Looks at the driver without stepping it.
    fn look<T>(&self, at: impl FnOnce(&Driver) -> T) -> T {
        let seen = at(&self.turn.lock().driver);
        // Whoever brought something meanwhile found it taken, and left it to this thread.
        fence(Ordering::SeqCst);
        if !self.inbox.lock().is_empty() {
            self.step();
        }
        seen
    }

    fn with_turn<T>(&self, act: impl FnOnce(&mut Turn) -> T) -> T {
        let mut turn = self.turn.lock();
        let done = act(&mut turn);
        let left = self.work_off(turn);
        self.finish(left);
        self.step();
        done
    }
}

/// Proposals that wait for a leader, at most; those of a change of the members that wait for an earlier one count, too.
const HELD_PROPOSALS_MAX: usize = 5000;
/// Forwarded changes of the members that wait, at most; they come one at a time from people.
const HELD_MESSAGES_MAX: usize = 64;
/// How often those who wait are looked through for such as have given up.
const SWEEP_TICKS: u64 = 64;

impl Turn {
    /// Takes all that came, and carries out what the driver makes of it.
    fn step(&mut self, applied: Index) -> Result<(), ConsensusError> {
        let mut items = std::mem::take(&mut self.items);
        let result = items.drain(..).try_for_each(|item| self.take(item));
        self.items = items;
        if self.is_over || result.is_err() {
            return result;
        }
        self.driver.applied(applied);
        if self.takes_part() {
            campaign_if_alone(&mut self.driver);
        }
        self.propose();
        loop {
            self.begin_read_round();
            self.run_effects();
            let proposed = self.propose_held() || self.step_held()?;
            if !proposed && !self.may_begin_read_round() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, item: ToConsensus) -> Result<(), ConsensusError> {
        match item {
            // What a member asks of itself it asks as the leader: lapsed leases may have been renewed at another one since.
            ToConsensus::Propose(Proposal { reply_to: None, .. }) if !self.driver.leads() => {}
            ToConsensus::Propose(proposal) if self.driver.takes_proposals() => {
                self.ids.push(proposal.id);
                self.data.push(proposal.data);
                self.await_result(proposal.id, proposal.reply_to);
            }
            ToConsensus::Propose(proposal) => self.hold(proposal, false),
            ToConsensus::ProposeConfChange(proposal) if self.may_propose(true) => {
                self.propose_conf_change(proposal);
            }
            ToConsensus::ProposeConfChange(proposal) => self.hold(proposal, true),
            ToConsensus::Read(address) => self.reads.push(address),
            ToConsensus::Messages(messages) => {
                for message in messages {
                    if self.is_conf_change_too_early(&message) {
                        self.held_messages.push_back(message);
                        continue;
                    }
                    self.snapshot_stepped |= message.kind == MessageKind::Snapshot;
                    self.driver.step(message)?;
                }
            }
            ToConsensus::Unreachable(member) => self.driver.unreachable(member),
            ToConsensus::Gone(member) => {
                if self.driver.leader_is_gone(member) {
                    tracing::info!(leader = %member, "the connection to the leader is lost");
                }
            }
            ToConsensus::Campaign => {
                if self.takes_part() && self.driver.status().leader == MemberId(0) {
                    self.driver.campaign();
                }
            }
            ToConsensus::SnapshotSent { to, arrived } => self.driver.snapshot_sent(to, arrived),
            ToConsensus::Persisted(number) => self.driver.persisted(number),
            ToConsensus::Fetched { from, entries } => self.driver.fetched(from, entries),
            ToConsensus::LogReleased(first) => self.driver.log_released(first),
            ToConsensus::Report(report) => self.driver.set_report(report),
            ToConsensus::ConfChanged(change) => self.conf_changed(change)?,
            ToConsensus::TransferLeader(to) => self.driver.transfer_leader(to),
            ToConsensus::Stop => self.is_over = true,
        }
        Ok(())
    }

    /// Not before the data was compared, if that is asked for: no votes, no promises, no entries from others. Their messages
    /// are refused earlier, see `peers`.
    fn takes_part(&self) -> bool {
        !self.around.board.is_unchecked()
    }

    fn tick(&mut self) {
        self.now += 1;
        self.around.board.note_tick();
        if self.takes_part() {
            self.driver.tick();
        }
        while self.held.front().is_some_and(|held| held.until < self.now) {
            // Whoever waited has been told by its own clock.
            self.held.pop_front();
        }
        if self.now.is_multiple_of(SWEEP_TICKS) {
            self.around.waiters.lock().retain(|_, waiter| waiter.until >= self.now);
        }
    }

    fn conf_changed(&mut self, change: VoterChange) -> Result<(), ConsensusError> {
        let (voters, learners) = self.driver.conf_changed(change)?;
        tracing::info!(voters = in_log(&voters), learners = in_log(&learners), "configuration in force");
        Ok(())
    }

    fn await_result(&mut self, id: u64, reply_to: Option<Address<Answer>>) {
        if let Some(address) = reply_to {
            let until = self.now + self.around.proposal_ticks_max;
            self.waiting.push((id, Waiter { address, until, term: self.driver.term() }));
        }
    }

    fn hold(&mut self, proposal: Proposal, is_conf_change: bool) {
        let is_full = self.held.len() >= HELD_PROPOSALS_MAX;
        match proposal.reply_to {
            // What the member asks of itself is asked again anyway.
            None => {}
            Some(address) if is_full => self.outgoing.add(address, Err(Error::TooManyRequests)),
            reply_to => {
                let until = self.now + self.around.proposal_ticks_max;
                self.held.push_back(Held { proposal: Proposal { reply_to, ..proposal }, is_conf_change, until });
            }
        }
    }

    fn may_propose(&self, is_conf_change: bool) -> bool {
        self.driver.takes_proposals() && !(is_conf_change && self.driver.has_pending_conf_change())
    }

    /// One that a follower forwards while an earlier one is not applied: raft would drop it, and nobody would be told.
    fn is_conf_change_too_early(&self, message: &Message) -> bool {
        message.kind == MessageKind::Propose
            && self.driver.has_pending_conf_change()
            && self.held_messages.len() < HELD_MESSAGES_MAX
            && message.entries.iter().any(|entry| entry.kind != EntryKind::Normal)
    }

    /// Takes a forwarded change that was held back, once there is room for it. Returns whether there was one.
    fn step_held(&mut self) -> Result<bool, ConsensusError> {
        if self.held_messages.is_empty() || self.driver.has_pending_conf_change() {
            return Ok(false);
        }
        let message = self.held_messages.pop_front().expect("it was just seen");
        self.driver.step(message)?;
        Ok(true)
    }

    /// Proposes what was held back and may be proposed now; returns whether there was any.
    fn propose_held(&mut self) -> bool {
        let mut proposed = false;
        for held in std::mem::take(&mut self.held) {
            if !self.may_propose(held.is_conf_change) {
                self.held.push_back(held);
                continue;
            }
            proposed = true;
            if held.is_conf_change {
                self.propose();
                self.propose_conf_change(held.proposal);
            } else {
                self.ids.push(held.proposal.id);
                self.data.push(held.proposal.data);
                self.await_result(held.proposal.id, held.proposal.reply_to);
            }
        }
        self.propose();
        proposed
    }

    /// Before anything of theirs can be applied; under one lock for all.
    fn enter_waiting(&mut self) {
        if !self.waiting.is_empty() {
            self.around.waiters.lock().extend(self.waiting.drain(..));
        }
    }

    fn propose(&mut self) {
        if self.data.is_empty() {
            return;
        }
        self.enter_waiting();
        let proposed = self.driver.propose(self.data.drain(..));
        if let Err(error) = proposed {
            self.refuse_proposed(error);
        }
        self.ids.clear();
    }

    fn propose_conf_change(&mut self, proposal: Proposal) {
        // In the order in which they came.
        self.propose();
        self.await_result(proposal.id, proposal.reply_to);
        self.enter_waiting();
        if let Err(error) = self.driver.propose_conf_change(proposal.data) {
            self.ids.push(proposal.id);
            self.refuse_proposed(error);
            self.ids.clear();
        }
    }

    fn refuse_proposed(&mut self, error: ProposeError) {
        let mut waiters = self.around.waiters.lock();
        for waiter in self.ids.iter().filter_map(|id| waiters.remove(id)) {
            self.outgoing.add(waiter.address, Err(refusal(error)));
        }
    }

    /// One at a time: whoever comes meanwhile shares the next.
    fn may_begin_read_round(&self) -> bool {
        !self.reads.is_empty() && self.rounds.waiting.is_empty()
    }

    fn begin_read_round(&mut self) {
        if self.may_begin_read_round() {
            let context = self.around.ids.next();
            self.rounds.begin(context, std::mem::take(&mut self.reads), self.around.clock.now());
            self.driver.read_index(context);
        } else if !self.reads.is_empty() && self.rounds.take_long(self.around.clock.now()) {
            self.around.board.figures.slow_read_indexes.increment();
            self.driver.hurry_reads();
        }
    }

    fn run_effects(&mut self) {
        self.driver.drain(&mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send(messages) => (self.around.send)(messages),
                Effect::Tell(messages) => {
                    self.left.tells.extend(messages);
                    self.left.client_first = !self.around.waiters.lock().is_empty();
                }
                Effect::Persist { number, entries, hard_state } => {
                    self.around.wal.send(ToWal::Persist { number, entries, hard_state });
                }
                Effect::Restore { number, snapshot, entries, hard_state } => {
                    self.snapshot_stepped = false;
                    self.around.wal.send(ToWal::Restore { number, snapshot, entries, hard_state });
                }
                Effect::Fetch { from, to, limit_bytes } => {
                    self.around.wal.send(ToWal::Fetch { from, to, limit_bytes });
                }
                Effect::Apply(entries) => {
                    // Nobody sees an entry applied that the status does not have as committed.
                    if let Some(last) = entries.last() {
                        self.around.board.set_commit(last.index);
                    }
                    self.left.changes_members |= entries.iter().any(|entry| entry.kind != EntryKind::Normal);
                    self.around.apply.push(ToApply::Entries(entries));
                    self.left.to_apply = true;
                }
                Effect::ReadReady { context, index } => {
                    let addresses = self.rounds.end(context);
                    if index <= self.around.board.applied() {
                        addresses.into_iter().for_each(|address| self.outgoing.add(address, Ok(Answer::ReadNow)));
                    } else {
                        self.around.apply.push(ToApply::Reads { index, addresses });
                        self.left.to_apply = true;
                    }
                }
                // They join the next round, which has a context of its own.
                Effect::ReadsDropped(contexts) => {
                    self.around.board.figures.slow_read_indexes.add(contexts.len() as u64);
                    self.reads.extend(contexts.into_iter().flat_map(|context| self.rounds.end(context)));
                }
                Effect::Report { from, report } => self.around.apply.send(ToApply::Report { from, report }),
                Effect::StatusChanged(status) => self.around.publish(status),
                Effect::Leading(leading) => self.around.apply.send(ToApply::Leading(leading)),
            }
        }
        if std::mem::take(&mut self.snapshot_stepped) {
            (self.around.ignore_snapshot)();
        }
    }

    /// Whoever waits is told, so that nobody is left to wait out a timeout.
    fn refuse_all(&mut self) {
        self.enter_waiting();
        let waiting = self.around.waiters.lock().drain().map(|(_, waiter)| waiter.address).collect::<Vec<_>>();
        let held = self.held.drain(..).filter_map(|held| held.proposal.reply_to);
        for address in waiting.into_iter().chain(held).chain(self.reads.drain(..)).chain(self.rounds.end_all()) {
            self.outgoing.add(address, Err(Error::Stopped));
        }
        for item in self.items.drain(..) {
            let address = match item {
                ToConsensus::Propose(proposal) | ToConsensus::ProposeConfChange(proposal) => proposal.reply_to,
                ToConsensus::Read(address) => Some(address),
                _ => None,
            };
            if let Some(address) = address {
                self.outgoing.add(address, Err(Error::Stopped));
            }
        }
        self.data.clear();
        self.ids.clear();
    }
}

impl Surroundings {
    fn publish(&self, status: consensus::Status) {
        let before = *self.status_changed.borrow();
        self.board.set_status(status);
        let is_moved = (before.term, before.role, before.leader) != (status.term, status.role, status.leader);
        if is_moved {
            tracing::info!(term = status.term.0, role = ?status.role, leader = %status.leader, "status changed");
            if status.leader != MemberId(0) {
                self.board.note_leader(self.clock.now());
            }
        }
        // Not for every commit: streams and others wait for what happens rarely.
        if is_moved || before.leads_in_term != status.leads_in_term {
            self.status_changed.send_replace(status);
        }
    }
}

/// Ids as etcd prints them.
fn in_log(members: &[MemberId]) -> String {
    members.iter().map(MemberId::to_string).collect::<Vec<_>>().join(",")
}

/// A cluster of one waits for nobody.
fn campaign_if_alone(driver: &mut Driver) {
    if driver.is_only_voter() && !driver.leads() && driver.has_applied_all() {
        driver.campaign();
    }
}

fn refusal(error: ProposeError) -> Error {
    match error {
        ProposeError::NoLeader => Error::NoLeader,
        ProposeError::Dropped => Error::TooManyRequests,
    }
}

/// Reads that wait for a read index, by the context of their round.
#[derive(Default)]
struct ReadRounds {
    waiting: BTreeMap<u64, Vec<Address<Answer>>>,
    /// When to ask more members, if reads wait for the next round.
    hurry_at: Option<Monotonic>,
}

/// More than busy members near each other take to answer, or asking twice would be most of the work; less than a tick.
const ROUND_PATIENCE: Duration = Duration::from_millis(20);

impl ReadRounds {
    fn begin(&mut self, context: u64, addresses: Vec<Address<Answer>>, now: Monotonic) {
        self.waiting.insert(context, addresses);
        self.hurry_at = Some(now.plus(ROUND_PATIENCE));
    }

    /// Whether the present round takes long; said once.
    fn take_long(&mut self, now: Monotonic) -> bool {
        self.hurry_at.take_if(|at| *at <= now).is_some()
    }

    fn end(&mut self, context: u64) -> Vec<Address<Answer>> {
        self.waiting.remove(&context).unwrap_or_default()
    }

    fn end_all(&mut self) -> impl Iterator<Item = Address<Answer>> + use<> {
        std::mem::take(&mut self.waiting).into_values().flatten()
    }
}

/// Reads whose index is known and not applied yet.
#[derive(Default)]
pub(crate) struct ReadsAwaitingApply(Vec<(Index, Vec<Address<Answer>>)>);

impl ReadsAwaitingApply {
    pub(crate) fn add(&mut self, index: Index, addresses: Vec<Address<Answer>>) {
        self.0.push((index, addresses));
    }

    pub(crate) fn answer(&mut self, applied: Index, outgoing: &mut Outgoing<Answer>) {
        for (_, addresses) in self.0.extract_if(.., |(index, _)| *index <= applied) {
            for address in addresses {
                outgoing.add(address, Ok(Answer::ReadNow));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use consensus::{DriverConfig, Restored, Role};
    use env::{SystemClock, SystemRng};
    use types::HardState;

    use super::*;
    use crate::mailbox::Desk;

    pub(crate) struct Parts {
        pub(crate) stepper: Arc<Stepper>,
        pub(crate) wal: Arc<Inbox<ToWal>>,
        pub(crate) board: Arc<Board>,
        pub(crate) fate: Arc<Fate>,
        pub(crate) apply: Arc<ApplyQueue>,
        /// What was handed to the transport.
        sent: Arc<Mutex<Vec<Message>>>,
    }

    impl Parts {
        /// On a disk that takes no time.
        fn step(&self, item: ToConsensus) {
            self.stepper.send(item);
            let mut to_wal = vec![];
            self.wal.take_all(&mut to_wal, Some(Duration::ZERO));
            for item in to_wal {
                let ToWal::Persist { number, .. } = item else { panic!("nothing else is asked of the log") };
                self.stepper.send(ToConsensus::Persisted(number));
            }
        }

        /// From member 2.
        fn hear(&self, kind: MessageKind, term: u64, index: u64) {
            let message = Message::new(kind, MemberId(2), MemberId(1));
            self.step(ToConsensus::Messages(vec![Message { term: Term(term), index: Index(index), ..message }]));
        }
    }

    fn alone() -> Restored {
        Restored {
            hard_state: HardState::default(),
            voters: vec![MemberId(1)],
            learners: vec![],
            applied: (Index(0), Term(0)),
            terms: vec![(Index(0), Term(0))],
            before_first: Index(0),
            entries: vec![],
        }
    }

    pub(crate) fn single_voter() -> Parts {
        parts(alone())
    }

    fn parts(restored: Restored) -> Parts {
        let config = DriverConfig {
            id: MemberId(1),
            heartbeat_ticks: 1,
            election_ticks: 10,
            pre_vote: true,
            kept_entries_max: 10,
            kept_bytes_max: 1 << 20,
        };
        let driver = Driver::new(config, restored, Box::new(SystemRng::with_seed(1))).unwrap();
        let (wal, apply, board) = (Arc::new(Inbox::new()), Arc::new(ApplyQueue::new()), Arc::<Board>::default());
        let fate = Arc::new(Fate::new(board.clone()));
        let sent = Arc::<Mutex<Vec<Message>>>::default();
        let transport = sent.clone();
        let around = Surroundings {
            ids: Arc::new(RequestIds::new(MemberId(1), Duration::ZERO)),
            send: Arc::new(move |messages| transport.lock().extend(messages)),
            ignore_snapshot: Box::new(|| {}),
            proposal_ticks_max: 100,
            wal: wal.clone(),
            apply: apply.clone(),
            waiters: Arc::default(),
            board: board.clone(),
            fate: fate.clone(),
            clock: Arc::new(SystemClock::default()),
            status_changed: tokio::sync::watch::channel(driver.status()).0,
        };
        Parts { stepper: Arc::new(Stepper::new(driver, around)), wal, board, fate, apply, sent }
    }

    /// A log that takes everything at once, until it is stopped.
    fn keep_log(parts: &Parts) -> std::thread::JoinHandle<()> {
        let (stepper, wal) = (parts.stepper.clone(), parts.wal.clone());
        std::thread::spawn(move || {
            let mut items = vec![];
            loop {
                wal.take_all(&mut items, None);
                for item in items.drain(..) {
                    match item {
                        ToWal::Persist { number, .. } => stepper.send(ToConsensus::Persisted(number)),
                        _ => return,
                    }
                }
            }
        })
    }

    #[test]
    fn the_log_has_members_in_hex() {
        assert_eq!(in_log(&[MemberId(0x8e9e_05c5_2164_694d), MemberId(10)]), "8e9e05c52164694d,a");
        assert_eq!(in_log(&[]), "");
    }

    /// Founders have their members from the log, one entry each: the first one alone is no cluster.
    #[test]
    fn nobody_leads_by_part_of_the_voters_that_are_committed() {
        let entries = [1, 2, 3].map(|index| types::LogEntry {
            term: Term(1),
            index: Index(index),
            kind: types::EntryKind::ConfChange,
            data: Bytes::new(),
        });
        let hard_state = HardState { term: Term(1), vote: MemberId(0), commit: Index(3) };
        let parts = parts(Restored { hard_state, voters: vec![], entries: entries.to_vec(), ..alone() });
        let change = |member| ToConsensus::ConfChanged(VoterChange::AddVoter(MemberId(member)));
        parts.stepper.send(change(1));
        assert_eq!(parts.stepper.turn.lock().driver.status().role, Role::Follower, "the others are not applied yet");
        let mut rest = vec![change(2), change(3)];
        parts.stepper.send_all(&mut rest);
        parts.board.set_applied(Index(3));
        parts.stepper.look_again();
        let turn = parts.stepper.turn.lock();
        assert_eq!((turn.driver.status().role, turn.driver.voters().len()), (Role::Follower, 3));
    }

    /// Lapsed leases among them, which may have been renewed at the leader since.
    #[test]
    fn what_a_member_asks_of_itself_is_proposed_only_while_it_leads() {
        let voters = vec![MemberId(1), MemberId(2), MemberId(3)];
        let parts = parts(Restored { voters, ..alone() });
        let desk = Desk::new();
        let propose = |id, data: &'static [u8], reply_to| {
            parts.step(ToConsensus::Propose(Proposal { id, data: Bytes::from_static(data), reply_to }));
        };
        let sent = |kind| {
            let sent = parts.sent.lock();
            let of_kind = sent.iter().filter(|message| message.kind == kind);
            let entries = of_kind.flat_map(|message| &message.entries).map(|entry| entry.data.clone());
            entries.filter(|data| !data.is_empty()).collect::<Vec<_>>()
        };

        // Not even kept until there is a leader.
        propose(1, b"own, without a leader", None);
        let (address, _waiting) = desk.open(10);
        propose(2, b"a client's, without a leader", Some(address));
        parts.hear(MessageKind::Heartbeat, 1, 0);
        propose(3, b"own, of a follower", None);
        let (address, _waiting) = desk.open(10);
        propose(4, b"a client's, of a follower", Some(address));
        assert_eq!(sent(MessageKind::Propose), ["a client's, without a leader", "a client's, of a follower"]);

        parts.hear(MessageKind::TimeoutNow, 1, 0);
        parts.hear(MessageKind::VoteResponse, 2, 0);
        assert!(parts.stepper.turn.lock().driver.leads());
        propose(5, b"own, of the leader", None);
        // The second follows, with the entry that begins the term.
        parts.hear(MessageKind::AppendResponse, 2, 1);
        assert_eq!(sent(MessageKind::Append), ["own, of the leader"]);
    }

    /// Behind who waits here for the commit: see [`Left`].
    #[test]
    fn what_is_committed_is_told_to_the_others() {
        let voters = vec![MemberId(1), MemberId(2), MemberId(3)];
        let parts = parts(Restored { voters, ..alone() });
        let told = || {
            let sent = std::mem::take(&mut *parts.sent.lock());
            let appends = sent.iter().filter(|message| message.kind == MessageKind::Append);
            let mut told = appends.map(|append| (append.commit.0, append.to.0)).collect::<Vec<_>>();
            told.sort_unstable();
            told
        };
        parts.hear(MessageKind::Heartbeat, 1, 0);
        parts.hear(MessageKind::TimeoutNow, 1, 0);
        parts.hear(MessageKind::VoteResponse, 2, 0);
        told();
        // The entry that begins the term. Member 3 may not even have got it.
        parts.hear(MessageKind::AppendResponse, 2, 1);
        assert_eq!(told(), [(1, 2)], "3 is told once it answers");

        let desk = Desk::new();
        let (address, _waiting) = desk.open(10);
        let proposal = Proposal { id: 1, data: Bytes::from_static(b"a client's"), reply_to: Some(address) };
        parts.step(ToConsensus::Propose(proposal));
        told();
        parts.hear(MessageKind::AppendResponse, 2, 2);
        assert_eq!(told(), [(2, 2)]);
    }

    #[test]
    fn who_may_hold_other_data_than_the_others_does_not_stand_for_election() {
        for others in [&[][..], &[MemberId(2), MemberId(3)]] {
            let mut voters = vec![MemberId(1)];
            voters.extend(others);
            let parts = parts(Restored { voters, ..alone() });
            let stood = || parts.stepper.turn.lock().driver.status().role != Role::Follower;
            parts.board.set_is_unchecked(true);
            for _ in 0..1000 {
                parts.stepper.with_turn(Turn::tick);
                parts.stepper.send(ToConsensus::Campaign);
                assert!(!stood());
            }
            parts.board.set_is_unchecked(false);
            parts.stepper.send(ToConsensus::Campaign);
            assert!(stood());
        }
    }

    #[test]
    fn what_many_threads_bring_is_committed_once_and_in_their_order() {
        const THREADS: u64 = 4;
        const EACH: u64 = 2000;
        let parts = single_voter();
        parts.stepper.look_again();
        let log = keep_log(&parts);
        for thread in 0..THREADS {
            let stepper = parts.stepper.clone();
            std::thread::spawn(move || {
                for id in thread * EACH..(thread + 1) * EACH {
                    let data = Bytes::from(id.to_be_bytes().to_vec());
                    stepper.send(ToConsensus::Propose(Proposal { id, data, reply_to: None }));
                }
            });
        }
        let mut applied = vec![vec![]; THREADS as usize];
        let mut items = vec![];
        while applied.iter().map(Vec::len).sum::<usize>() < (THREADS * EACH) as usize {
            parts.apply.take_all(&mut items);
            for item in items.drain(..) {
                let ToApply::Entries(entries) = item else { continue };
                assert!(entries.iter().all(|entry| entry.index <= parts.board.commit()), "applied before committed");
                for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
                    let id = u64::from_be_bytes(entry.data[..].try_into().unwrap());
                    applied[(id / EACH) as usize].push(id);
                }
            }
        }
        for (thread, ids) in (0..THREADS).zip(&applied) {
            assert_eq!(ids, &(thread * EACH..(thread + 1) * EACH).collect::<Vec<_>>());
        }
        parts.wal.send(ToWal::Stop);
        log.join().unwrap();
    }

    #[test]
    fn after_a_stop_all_who_wait_are_told_and_so_is_who_comes_later() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let parts = single_voter();
            parts.stepper.look_again();
            let desk = Desk::new();
            tokio::task::spawn_local(desk.clone().sort_mail());
            let propose = |id| {
                let (address, waiting) = desk.open(10);
                let data = Bytes::from_static(b"x");
                parts.stepper.send(ToConsensus::Propose(Proposal { id, data, reply_to: Some(address) }));
                waiting
            };
            let before = propose(1);
            let (address, read) = desk.open(10);
            parts.stepper.send(ToConsensus::Read(address));
            parts.stepper.send(ToConsensus::Stop);
            let after = propose(2);
            for waiting in [before, read, after] {
                assert!(matches!(waiting.await, Err(Error::Stopped)));
            }
        });
    }

    #[test]
    fn proposals_that_wait_for_a_leader_are_bounded() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let parts = parts(Restored { voters: vec![MemberId(1), MemberId(2)], ..alone() });
            let desk = Desk::new();
            tokio::task::spawn_local(desk.clone().sort_mail());
            let waiting = (0..=HELD_PROPOSALS_MAX as u64).map(|id| {
                let (address, waiting) = desk.open(10);
                let data = Bytes::from_static(b"x");
                parts.stepper.send(ToConsensus::Propose(Proposal { id, data, reply_to: Some(address) }));
                waiting
            });
            let mut waiting = waiting.collect::<VecDeque<_>>();
            assert!(matches!(waiting.pop_back().unwrap().await, Err(Error::TooManyRequests)));
            parts.stepper.send(ToConsensus::Stop);
            for waiting in waiting {
                assert!(matches!(waiting.await, Err(Error::Stopped)), "it waited");
            }
        });
    }

    #[test]
    fn the_clock_elects_a_single_voter_and_ends_with_the_member() {
        let parts = single_voter();
        let log = keep_log(&parts);
        let fate = parts.stepper.turn.lock().around.fate.clone();
        let (stepper, ending) = (parts.stepper.clone(), fate.clone());
        let clock = std::thread::spawn(move || {
            stepper.run_clock(&SystemClock::default(), &ending, Duration::from_millis(1), true);
        });
        let mut items = vec![];
        while !items.iter().any(|item| matches!(item, ToApply::Leading(true))) {
            items.clear();
            parts.apply.take_all(&mut items);
        }
        fate.stop();
        clock.join().unwrap();
        parts.wal.send(ToWal::Stop);
        log.join().unwrap();
    }
}
