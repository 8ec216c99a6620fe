//! The loop: one event after the other, in order of time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::PathBuf;

use checker::{Operation, Outcome as Told, Violation};
use env::{Monotonic, SimDisk};
use types::{Index, MemberId, Message};
use watch::HistoryLoad;

use crate::boot;
use crate::clients::Client;
use crate::counts::Counts;
use crate::dice::{Dice, MS, Micros, SECOND};
use crate::doubled_panic;
use crate::faults::Faults;
use crate::invariants::{Leaders, Ledger};
use crate::life::Life;
use crate::network::Network;
use crate::operator::Operator;
use crate::plan::Plan;
use crate::planted::Plant;
use crate::snapshot::StateCopy;
use crate::watchers::Watcher;

/// What is going to happen.
pub(crate) enum Event {
    /// For one member's life; void if that life is over.
    Life(MemberId, u64, LifeEvent),
    /// A request arrives at a member.
    Arrive {
        at: MemberId,
        operation: usize,
    },
    /// An outcome reaches its client.
    Tell {
        operation: usize,
        outcome: Told,
    },
    GiveUp {
        operation: usize,
    },
    Think {
        client: usize,
    },
    Restart(MemberId),
    Resume(MemberId),
    Crash(MemberId),
    Retire(MemberId),
    Fault,
    /// What a fault did is over.
    Mend(u64),
    Operate,
    WatchConnect {
        watcher: usize,
    },
    WatchTold {
        watcher: usize,
        session: usize,
        response: checker::Response,
    },
    WatchLost {
        watcher: usize,
        session: usize,
    },
    Pulse,
}

/// What happens inside a member.
pub(crate) enum LifeEvent {
    Tick,
    Message(Box<Message>),
    /// A snapshot has been received whole.
    Snapshot(Box<Message>, Box<StateCopy>),
    SnapshotSent {
        to: MemberId,
        arrived: bool,
    },
    Unreachable(MemberId),
    /// The connection to this member broke.
    Gone(MemberId),
    Campaign,
    WalDone,
    WalIdle,
    ApplyDone,
    Commit,
    CommitDone,
    LeaseLook,
    Prune,
    HubTick,
    Loaded(HistoryLoad),
    Unblock {
        watcher: usize,
    },
}

struct Scheduled {
    at: Micros,
    seq: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// One machine of the cluster.
pub(crate) struct Member {
    pub(crate) disk: SimDisk,
    pub(crate) life: Option<Life>,
    /// What waits until the pause ends.
    pub(crate) backlog: Option<Vec<Event>>,
    pub(crate) clock: MemberClock,
    /// Syncs take so many times longer.
    pub(crate) slowness: u64,
    /// Something was done to its disk that may stop it: the reason why it may.
    pub(crate) excuse: Option<&'static str>,
    /// Its disk is full, or an operation of it fails, until that is mended; rot, which excuses more, hides it there.
    pub(crate) has_failing_disk: bool,
    /// A file of its log that rotted where that must be seen at the next start.
    pub(crate) rotten_log: Option<PathBuf>,
    /// A sync of its disk has failed once.
    pub(crate) is_doubtful: bool,
    /// What it is called, if the cluster began with it.
    pub(crate) name: Option<String>,
    /// Taken out of the cluster, or wiped: not started again ...
    pub(crate) is_gone: bool,
    /// ... unless it was only taken out, and turns out to be needed.
    pub(crate) is_retired: bool,
}

/// A member's own idea of time.
#[derive(Clone, Copy)]
pub(crate) struct MemberClock {
    since: Micros,
    local: Micros,
    /// Local microseconds for a million true ones.
    rate: u64,
    /// How far the wall clock is off.
    pub(crate) wall_offset: i64,
}

impl MemberClock {
    pub(crate) fn new(local: Micros) -> MemberClock {
        MemberClock { since: 0, local, rate: 1_000_000, wall_offset: 0 }
    }

    pub(crate) fn local(&self, now: Micros) -> Micros {
        self.local + (u128::from(now - self.since) * u128::from(self.rate) / 1_000_000) as u64
    }

    pub(crate) fn monotonic(&self, now: Micros) -> Monotonic {
        Monotonic(std::time::Duration::from_micros(self.local(now)))
    }

    /// How long something of `local` length takes in truth.
    pub(crate) fn lasts(&self, local: Micros) -> Micros {
        (u128::from(local) * 1_000_000 / u128::from(self.rate)) as u64
    }

    pub(crate) fn drift(&mut self, now: Micros, rate: u64) {
        (self.local, self.since, self.rate) = (self.local(now), now, rate);
    }

    /// Leaps ahead, as no monotonic clock does.
    pub(crate) fn leap(&mut self, by: Micros) {
        self.local += by;
    }
}

/// What went wrong.
#[derive(Clone, Debug)]
pub struct Found {
    /// Simulated microseconds since the start.
    pub at: u64,
    /// The name of the rule that was broken.
    pub rule: String,
    pub what: String,
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    pub counts: Counts,
    /// A hash of everything that happened.
    pub trace: u64,
    pub found: Option<Found>,
}

/// One run.
pub struct World {
    pub(crate) now: Micros,
    seq: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub(crate) dice: Dice,
    pub(crate) plan: Plan,
    pub(crate) plant: Option<Plant>,
    pub(crate) network: Network,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) lives: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) faults: Faults,
    pub(crate) operator: Operator,
    pub(crate) leaders: Leaders,
    pub(crate) ledger: Ledger,
    /// When leases may have got all their time anew, or their end been held up.
    pub(crate) disturbed: Vec<Micros>,
    pub(crate) old_copy: Option<StateCopy>,
    /// Clients and faults stop.
    pub(crate) is_ending: bool,
    pub(crate) counts: Counts,
    pub(crate) found: Option<Found>,
    trace: u64,
    is_verbose: bool,
    /// How often a planted fault has struck.
    pub(crate) planted: u64,
}

/// After the last fault the cluster gets this long to serve again ...
const RECOVERY: Micros = 30 * SECOND;
/// ... and so long to become one, without requests.
const SETTLING: Micros = 60 * SECOND;

impl World {
    /// A new cluster.
    pub fn new(seed: u64, plan: Plan, plant: Option<Plant>) -> World {
        doubled_panic::begin_run();
        let mut dice = Dice::new(seed);
        let network = Network::new(plan.network_delay, plan.loss, plan.duplication);
        let operator = Operator::default();
        let mut members = BTreeMap::new();
        for (id, name) in boot::founders(&plan) {
            let local = dice.below(1000 * SECOND);
            members.insert(id, Member::new(local, Some(name)));
        }
        World {
            now: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            dice,
            plan,
            plant,
            network,
            members,
            lives: 0,
            clients: Vec::new(),
            operations: Vec::new(),
            watchers: Vec::new(),
            faults: Faults::default(),
            operator,
            leaders: Leaders::default(),
            ledger: Ledger::default(),
            disturbed: Vec::new(),
            old_copy: None,
            is_ending: false,
            counts: Counts::default(),
            found: None,
            trace: 0,
            is_verbose: false,
            planted: 0,
        }
    }

    /// Tells every step on the standard error output.
    pub fn verbose(mut self) -> World {
        self.is_verbose = true;
        self
    }

    /// Runs for `duration` microseconds of faults and work, then heals all and judges.
    pub fn run(mut self, duration: u64) -> Report {
        self.begin();
        self.run_until(duration);
        if self.found.is_none() {
            self.end_faults();
            let healed = self.now;
            self.run_until(healed + RECOVERY);
            self.require_recovery(healed);
            self.is_ending = true;
            // In steps, so that a cluster that is one already need not be watched any longer.
            let settling = self.now;
            while self.found.is_none() && self.now < settling + SETTLING {
                self.run_until(self.now + 4 * SECOND);
                let revision = self.newest_revision();
                // What has just happened, as the end of a lease, need not be everywhere yet.
                self.run_until(self.now + SECOND);
                let is_quiet = self.newest_revision() == revision;
                if is_quiet && self.difference().is_none() && self.now >= settling + 15 * SECOND {
                    break;
                }
            }
            self.require_convergence();
            self.judge();
        }
        self.counts.microseconds = self.now;
        self.counts.runs = 1;
        self.counts.operations = self.operations.len() as u64;
        Report { counts: self.counts, trace: self.trace, found: self.found }
    }

    fn begin(&mut self) {
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        for id in ids {
            let at = self.dice.below(500 * MS);
            self.schedule(at, Event::Restart(id));
        }
        self.begin_clients();
        self.begin_watchers();
        if self.plan.fault_every > 0 {
            self.schedule(5 * SECOND, Event::Fault);
        }
        self.schedule(SECOND, Event::Pulse);
        if self.plan.faults.membership {
            self.schedule(20 * SECOND, Event::Operate);
        }
    }

    fn run_until(&mut self, end: Micros) {
        while self.found.is_none() {
            match self.queue.peek() {
                Some(Reverse(next)) if next.at <= end => {}
                _ => break,
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.counts.events += 1;
            self.handle(next.event);
        }
        if self.found.is_none() {
            self.now = end;
        }
    }

    pub(crate) fn schedule(&mut self, after: Micros, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    pub(crate) fn schedule_at(&mut self, at: Micros, event: Event) {
        self.seq += 1;
        self.queue.push(Reverse(Scheduled { at, seq: self.seq, event }));
    }

    fn handle(&mut self, event: Event) {
        let member = match &event {
            Event::Life(id, ..) => Some(*id),
            Event::Arrive { at, .. } => Some(*at),
            _ => None,
        };
        if let Some(backlog) = member.and_then(|id| self.members.get_mut(&id)?.backlog.as_mut()) {
            backlog.push(event);
            return;
        }
        match event {
            Event::Life(id, life, event) => self.live(id, life, event),
            Event::Arrive { at, operation } => self.arrive(at, operation),
            Event::Tell { operation, outcome } => self.told(operation, outcome),
            Event::GiveUp { operation } => self.given_up(operation),
            Event::Think { client } => self.think(client),
            Event::Restart(id) => self.restart(id),
            Event::Resume(id) => self.resume(id),
            Event::Crash(id) => self.crash_for_a_while(id),
            Event::Retire(id) => self.retire(id),
            Event::Fault => self.next_fault(),
            Event::Mend(number) => self.mend(number),
            Event::Operate => self.operate(),
            Event::WatchConnect { watcher } => self.watch_connect(watcher),
            Event::WatchTold { watcher, session, response } => self.watch_told(watcher, session, response),
            Event::WatchLost { watcher, session } => self.watch_lost(watcher, session),
            Event::Pulse => self.pulse(),
        }
    }

    /// Notes something in the trace.
    pub(crate) fn note(&mut self, what: &str, numbers: impl Hash + std::fmt::Debug) {
        let mut hasher = DefaultHasher::new();
        (self.trace, self.now, what, &numbers).hash(&mut hasher);
        self.trace = hasher.finish();
        self.say(what, numbers);
    }

    /// Tells whoever replays, and nobody else.
    pub(crate) fn say(&self, what: &str, numbers: impl std::fmt::Debug) {
        if self.is_verbose {
            let at = self.now as f64 / 1e6;
            // Nothing is lost with a line that cannot be written.
            let _ = writeln!(std::io::stderr(), "{at:10.6} {what} {numbers:?}");
        }
    }

    pub(crate) fn fail(&mut self, rule: &str, what: impl Into<String>) {
        if self.found.is_none() {
            self.found = Some(Found { at: self.now, rule: rule.to_owned(), what: what.into() });
        }
    }

    pub(crate) fn violated(&mut self, violation: &Violation) {
        let mut what = violation.what.clone();
        for &at in violation.operations.iter().take(6) {
            if let Some(operation) = self.operations.get(at) {
                what.push_str(&format!("\n  {at}: {operation:?}"));
            }
        }
        self.fail(&format!("{:?}", violation.rule), what);
    }

    /// What the plant is, if the fault that it plants can strike now; counts it.
    pub(crate) fn strikes(&mut self, plant: Plant) -> bool {
        let strikes = self.plant == Some(plant);
        self.planted += u64::from(strikes);
        strikes
    }

    fn pulse(&mut self) {
        if self.is_disturbed() {
            self.disturbed.push(self.now);
        }
        self.schedule(500 * MS, Event::Pulse);
    }

    fn is_disturbed(&self) -> bool {
        let is_ill = |member: &Member| {
            let is_held_up = member.backlog.is_some() || member.slowness > 1;
            !member.is_gone && (member.life.is_none() || is_held_up || member.has_failing_disk)
        };
        !self.network.is_whole() || self.leader().is_none() || self.members.values().any(is_ill)
    }

    /// Who leads, as far as can be told from outside.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        let led = self.members.iter().filter_map(|(id, member)| {
            let status = member.life.as_ref().filter(|_| member.backlog.is_none())?.driver.status();
            status.leads_in_term.then_some((status.term, *id))
        });
        led.max().map(|(_, id)| id)
    }

    /// The members that run.
    pub(crate) fn running(&self) -> Vec<MemberId> {
        self.members.iter().filter(|(_, member)| member.life.is_some()).map(|(id, _)| *id).collect()
    }

    fn resume(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(backlog) = member.backlog.take() else { return };
        self.note("resume", id.0);
        for event in backlog {
            self.schedule(1, event);
        }
    }

    /// The newest revision that any member has made.
    pub(crate) fn newest_revision(&self) -> i64 {
        self.ledger.revisions.keys().next_back().copied().unwrap_or(1)
    }

    /// The last entry applied by a running member.
    pub(crate) fn applied(&self, id: MemberId) -> Option<Index> {
        Some(self.members.get(&id)?.life.as_ref()?.machine.applied())
    }
}

impl Member {
    pub(crate) fn new(local: Micros, name: Option<String>) -> Member {
        Member {
            disk: SimDisk::new(),
            life: None,
            backlog: None,
            clock: MemberClock::new(local),
            slowness: 1,
            excuse: None,
            has_failing_disk: false,
            rotten_log: None,
            is_doubtful: false,
            name,
            is_gone: false,
            is_retired: false,
        }
    }

    /// Whether its data may be of no use, though it is not gone.
    pub(crate) fn is_spoilt(&self) -> bool {
        !self.is_gone && (self.is_doubtful || self.excuse == Some("rot"))
    }
}
