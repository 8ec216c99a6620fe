//! Consensus' thread: takes all that waits, steps the driver, hands its effects on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Driver, Effect, ProposeError, Role, VoterChange};
use env::{Clock, Monotonic};
use hashbrown::HashMap;
use parking_lot::Mutex;
use types::Index;

use crate::apply_thread::ToApply;
use crate::error::Error;
use crate::fate::Fate;
use crate::inbox::Inbox;
use crate::mailbox::{Address, Outgoing};
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
    /// A linearizable read waits for its read index.
    Read(Address<Answer>),
    Persisted(u64),
    /// The entry at this index changed the voters.
    ConfChanged(VoterChange),
    Stop,
}

/// Requests in the log whose results are awaited here, by request id.
pub(crate) type Waiters = Mutex<HashMap<u64, Address<Answer>>>;

pub(crate) struct ConsensusThread {
    pub(crate) driver: Driver,
    pub(crate) inbox: Arc<Inbox<ToConsensus>>,
    pub(crate) wal: Arc<Inbox<ToWal>>,
    pub(crate) apply: Arc<Inbox<ToApply>>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) board: Arc<Board>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tick_interval: Duration,
    pub(crate) status_changed: tokio::sync::watch::Sender<consensus::Status>,
}

/// The parts of a turn that are reused from turn to turn.
#[derive(Default)]
struct Turn {
    data: Vec<Bytes>,
    proposals: Vec<(u64, Option<Address<Answer>>)>,
    reads: Vec<Address<Answer>>,
    effects: Vec<Effect>,
    outgoing: Outgoing<Answer>,
}

impl ConsensusThread {
    pub(crate) fn run(mut self) {
        if let Err(error) = self.serve() {
            self.fate.fail(format!("consensus: {error}"));
        }
        // Whoever still waits is told; nobody is left to wait out a timeout.
        let mut outgoing = Outgoing::default();
        for (_, address) in self.waiters.lock().drain() {
            outgoing.add(address, Err(Error::Stopped));
        }
        outgoing.deliver();
    }

    fn serve(&mut self) -> Result<(), consensus::ConsensusError> {
        let mut items = Vec::new();
        let mut turn = Turn::default();
        let mut rounds = ReadRounds::default();
        let mut next_tick = self.clock.now().plus(self.tick_interval);
        self.campaign_if_alone();
        loop {
            self.run_effects(&mut turn, &mut rounds);
            let timeout = next_tick.since(self.clock.now());
            self.inbox.take_all(&mut items, Some(timeout));
            self.driver.applied(self.board.applied());
            for item in items.drain(..) {
                match item {
                    ToConsensus::Propose(proposal) => {
                        turn.data.push(proposal.data);
                        turn.proposals.push((proposal.id, proposal.reply_to));
                    }
                    ToConsensus::Read(address) => turn.reads.push(address),
                    ToConsensus::Persisted(number) => self.driver.persisted(number),
                    ToConsensus::ConfChanged(change) => {
                        let (voters, learners) = self.driver.conf_changed(change)?;
                        tracing::info!(?voters, ?learners, "configuration in force");
                        self.campaign_if_alone();
                    }
                    ToConsensus::Stop => return Ok(()),
                }
            }
            self.propose(&mut turn);
            if !turn.reads.is_empty() {
                let context = rounds.begin(std::mem::take(&mut turn.reads));
                self.driver.read_index(context);
            }
            next_tick = self.tick(next_tick);
        }
    }

    /// A cluster of one waits for nobody.
    fn campaign_if_alone(&mut self) {
        if self.driver.is_only_voter() && self.driver.status().role == Role::Follower {
            self.driver.campaign();
        }
    }

    fn tick(&mut self, mut next_tick: Monotonic) -> Monotonic {
        let now = self.clock.now();
        if now >= next_tick {
            self.driver.tick();
            // Ticks missed while the process did not run are not made up for: that would look like silence of
            // the others.
            next_tick = now.plus(self.tick_interval);
        }
        next_tick
    }

    fn propose(&mut self, turn: &mut Turn) {
        if turn.data.is_empty() {
            return;
        }
        {
            let mut waiters = self.waiters.lock();
            let awaited = turn.proposals.iter_mut().filter_map(|(id, address)| Some((*id, address.take()?)));
            waiters.extend(awaited);
        }
        if let Err(error) = self.driver.propose(turn.data.drain(..)) {
            let mut waiters = self.waiters.lock();
            for (id, _) in &turn.proposals {
                if let Some(address) = waiters.remove(id) {
                    turn.outgoing.add(address, Err(refusal(error)));
                }
            }
        }
        turn.data.clear();
        turn.proposals.clear();
    }

    fn run_effects(&mut self, turn: &mut Turn, rounds: &mut ReadRounds) {
        self.driver.drain(&mut turn.effects);
        for effect in turn.effects.drain(..) {
            match effect {
                Effect::Persist { number, entries, hard_state } => {
                    self.wal.send(ToWal::Persist { number, entries, hard_state });
                }
                Effect::Apply(entries) => self.apply.send(ToApply::Entries(entries)),
                Effect::ReadReady { context, index } => {
                    self.apply.send(ToApply::Reads { index, addresses: rounds.end(context) });
                }
                Effect::ReadsDropped(contexts) => {
                    for address in contexts.into_iter().flat_map(|context| rounds.end(context)) {
                        turn.outgoing.add(address, Err(Error::LeaderChanged));
                    }
                }
                Effect::StatusChanged(status) => {
                    let before = *self.status_changed.borrow();
                    self.board.set_status(status);
                    if (before.term, before.role, before.leader) != (status.term, status.role, status.leader) {
                        tracing::info!(term = status.term.0, role = ?status.role, leader = %status.leader, "status changed");
                        self.apply.send(ToApply::Leading(status.role == Role::Leader));
                        self.status_changed.send_replace(status);
                    }
                }
            }
        }
        turn.outgoing.deliver();
    }
}

fn refusal(error: ProposeError) -> Error {
    match error {
        ProposeError::NotLeader(_) => Error::NoLeader,
        ProposeError::Dropped => Error::TooManyRequests,
    }
}

/// Reads that wait for a read index, by the context of their round. No context is ever used twice.
#[derive(Default)]
struct ReadRounds {
    last_context: u64,
    waiting: BTreeMap<u64, Vec<Address<Answer>>>,
}

impl ReadRounds {
    fn begin(&mut self, addresses: Vec<Address<Answer>>) -> u64 {
        self.last_context += 1;
        self.waiting.insert(self.last_context, addresses);
        self.last_context
    }

    fn end(&mut self, context: u64) -> Vec<Address<Answer>> {
        self.waiting.remove(&context).unwrap_or_default()
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
