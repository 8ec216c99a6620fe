//! One life of a member, from its start to its crash: what the server's threads do, as events.
//!
//! | thread of the server | here |
//! |---|---|
//! | whoever steps consensus (`stepper.rs`) | [`World::turn`], at once |
//! | wal (`wal_thread.rs`) | [`LifeEvent::WalDone`]: all that waited is written and synced together, then the next |
//! | apply (`apply_thread.rs`) | [`LifeEvent::ApplyDone`], likewise |
//! | backend (`backend_thread.rs`) | [`LifeEvent::Commit`], [`LifeEvent::CommitDone`] |
//! | leases, compaction (`housekeeping.rs`) | [`LifeEvent::LeaseLook`], [`LifeEvent::Prune`] |
//!
//! What a thread does takes effect at the end of its time. A crash in between does a random part of it first, cut at any
//! operation of the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request as Entry;
use api::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest};
use backend::{Backend, BackendError};
use bytes::Bytes;
use checker::{Answer, Body, Outcome, Request};
use consensus::{Driver, Effect, ProposeError, Role, Status, VoterChange};
use env::{Disk, DiskOperation, Fault, Survival};
use lease::RenewError;
use machine::{Applied, ApplyError, Machine, Reply};
use mvcc::PruneStep;
use types::{EntryKind, HardState, Index, LogEntry, MemberId, Message, MessageKind, SnapshotMeta};
use wal::{Wal, WalError};
use watch::{EventLog, Hub, HubOptions, LogLimits, StreamId};

use crate::boot;
use crate::dice::{MS, Micros, SECOND};
use crate::disks;
use crate::planted::Plant;
use crate::snapshot::StateCopy;
use crate::translate;
use crate::world::{Event, LifeEvent, World};

pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) driver: Driver,
    pub(crate) machine: Machine,
    pub(crate) backend: Backend,
    pub(crate) hub: Hub,
    /// Streams of the hub: which watcher, which of its sessions, when its last message arrives, and until when it takes
    /// none.
    pub(crate) streams: BTreeMap<StreamId, OpenStream>,
    wal: Wal,
    disk: Arc<dyn Disk>,
    events: Arc<EventLog>,
    to_wal: VecDeque<ToWal>,
    /// What is being written now.
    writing: VecDeque<ToWal>,
    is_writing: bool,
    written: Written,
    wal_is_full: bool,
    wrote_at: Micros,
    to_apply: VecDeque<ToApply>,
    applying: Vec<ToApply>,
    commit: Commit,
    is_pruning: bool,
    /// Requests in the log, by id.
    waiters: BTreeMap<u64, Waiter>,
    /// Requests that wait for a leader.
    held: VecDeque<(usize, Micros)>,
    reads: Vec<usize>,
    rounds: BTreeMap<u64, Vec<usize>>,
    awaiting_apply: Vec<(Index, Vec<usize>)>,
    next_id: u64,
    status: Status,
    /// The last entry of a batch, for a fault that applies it twice.
    last_data: Bytes,
    receives_snapshot: bool,
    /// The last entry of which the state's digest was told.
    reported: Index,
    /// The first entry that is applied again after a restart.
    replays_from: Option<Index>,
}

/// The log keeps no more segments than these for members that are behind.
const SEGMENTS_FOR_OTHERS_MAX: usize = 16;

/// For events that whichever life is the member's then has to take.
const ANY_LIFE: u64 = 0;

/// The machine remembers its digest at every so-manieth entry.
const DIGEST_EVERY: u64 = 1000;

pub(crate) struct OpenStream {
    pub(crate) watcher: usize,
    pub(crate) session: usize,
    pub(crate) arrives: Micros,
    pub(crate) is_blocked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    Idle,
    Waiting,
    Running,
}

enum ToWal {
    Persist { number: u64, entries: Vec<LogEntry>, hard_state: Option<HardState> },
    Restore { number: u64, snapshot: SnapshotMeta, entries: Vec<LogEntry>, hard_state: Option<HardState> },
    Fetch { from: Index, to: Index, limit_bytes: u64 },
    Release { before: Index, needed: Index },
    Mark,
}

enum ToApply {
    Entries(Vec<LogEntry>),
    Reads { index: Index, operations: Vec<usize> },
    Restore(SnapshotMeta),
    Leading(bool),
}

struct Waiter {
    operation: usize,
    /// The answer, if it is not the machine's: a renewal that had to go through the log.
    answer: Option<Answer>,
}

impl World {
    /// Starts a member, with whatever its disk holds.
    pub(crate) fn restart(&mut self, id: MemberId) {
        let Some(member) = self.members.get(&id) else { return };
        if member.is_gone || member.life.is_some() {
            return;
        }
        let name = member.name.clone();
        let lie = self.plant.and_then(Plant::lie);
        let disk = disks::lying(&member.disk, lie);
        let rngs = (self.dice.split(), self.dice.split());
        let plant = self.plant.filter(|_| self.faults.count > 0);
        self.note("start", id.0);
        self.counts.restarts += 1;
        match boot::boot(&disk, &self.plan, plant, (id, name.as_deref()), rngs) {
            Ok(parts) => self.begin_life(id, parts, disk),
            Err(why) => self.stopped(id, &format!("it does not start: {why}")),
        }
    }

    fn begin_life(&mut self, id: MemberId, parts: boot::Parts, disk: Arc<dyn Disk>) {
        self.lives += 1;
        let number = self.lives;
        let view = parts.machine.shared().view();
        let limits = LogLimits { revisions_max: 16, bytes_max: 64 << 10 };
        let events = EventLog::new(limits, view.revision(), view.compacted());
        let options = HubOptions {
            progress_notify_interval: Duration::from_secs(5),
            responses_max: 4,
            catch_up_revisions_max: 8,
            ..HubOptions::default()
        };
        let hub = Hub::new(events.clone(), options, || {});
        let member = self.members.get_mut(&id).expect("it is about to live");
        let wall = (self.now as i64 + member.clock.wall_offset).unsigned_abs() / MS;
        let status = parts.driver.status();
        let replays_from = (self.faults.count > 0).then(|| parts.machine.applied().next());
        member.life = Some(Life {
            number,
            driver: parts.driver,
            machine: parts.machine,
            backend: parts.backend,
            hub,
            streams: BTreeMap::new(),
            wal: parts.wal,
            disk,
            events,
            to_wal: VecDeque::new(),
            writing: VecDeque::new(),
            is_writing: false,
            written: Written::default(),
            wal_is_full: false,
            wrote_at: self.now,
            to_apply: VecDeque::new(),
            applying: Vec::new(),
            commit: Commit::Idle,
            is_pruning: true,
            waiters: BTreeMap::new(),
            held: VecDeque::new(),
            reads: Vec::new(),
            rounds: BTreeMap::new(),
            awaiting_apply: Vec::new(),
            // As the server makes ids: unlike those of the member's earlier lives, and of other members.
            next_id: (id.0 << 48) | (wall & ((1 << 40) - 1)) << 8,
            status,
            last_data: Bytes::new(),
            receives_snapshot: false,
            reported: Index(0),
            replays_from,
        });
        self.life_event(id, self.plan.tick, LifeEvent::Tick);
        self.life_event(id, 500 * MS, LifeEvent::LeaseLook);
        self.life_event(id, 10 * MS, LifeEvent::Prune);
        self.life_event(id, SECOND, LifeEvent::HubTick);
        self.with_life(id, |world, life| {
            if life.driver.is_only_voter() && life.driver.status().role == Role::Follower {
                life.driver.campaign();
            }
            world.turn(id, life);
        });
    }

    /// Schedules something for the present life of a member, `local` of its own microseconds from now.
    pub(crate) fn life_event(&mut self, id: MemberId, local: Micros, event: LifeEvent) {
        let Some(member) = self.members.get(&id) else { return };
        let Some(life) = &member.life else { return };
        let (after, number) = (member.clock.lasts(local), life.number);
        self.schedule(after, Event::Life(id, number, event));
    }

    /// The same from within [`World::with_life`].
    fn again(&mut self, id: MemberId, life: &Life, local: Micros, event: LifeEvent) {
        let after = self.members.get(&id).map_or(local, |member| member.clock.lasts(local));
        self.schedule(after, Event::Life(id, life.number, event));
    }

    /// Lets a member's life do something. It may end by it.
    pub(crate) fn with_life(&mut self, id: MemberId, act: impl FnOnce(&mut World, &mut Life)) {
        let Some(mut life) = self.members.get_mut(&id).and_then(|member| member.life.take()) else { return };
        act(self, &mut life);
        if let Some(why) = self.faults.stopping.take() {
            self.bury(id, &life);
            self.stopped(id, &why);
        } else if let Some(member) = self.members.get_mut(&id) {
            member.life = Some(life);
        }
    }

    pub(crate) fn live(&mut self, id: MemberId, number: u64, event: LifeEvent) {
        let is_its = |life: &Life| number == ANY_LIFE || life.number == number;
        if !self.members.get(&id).and_then(|member| member.life.as_ref()).is_some_and(is_its) {
            return;
        }
        self.with_life(id, |world, life| world.live_on(id, life, event));
    }

    fn live_on(&mut self, id: MemberId, life: &mut Life, event: LifeEvent) {
        match event {
            LifeEvent::Tick => {
                life.driver.tick();
                self.drop_overdue(life);
                self.again(id, life, self.plan.tick, LifeEvent::Tick);
                self.turn(id, life);
            }
            LifeEvent::Message(message) => self.take_message(id, life, *message),
            LifeEvent::Snapshot(message, copy) => self.take_snapshot(id, life, *message, &copy),
            LifeEvent::SnapshotSent { to, arrived } => {
                life.driver.snapshot_sent(to, arrived);
                self.turn(id, life);
            }
            LifeEvent::Unreachable(to) => {
                life.driver.unreachable(to);
                self.turn(id, life);
            }
            LifeEvent::Gone(member) => {
                if life.driver.leader_is_gone(member) {
                    let after = self.dice.below(100 * MS);
                    self.again(id, life, after, LifeEvent::Campaign);
                }
                self.turn(id, life);
            }
            LifeEvent::Campaign => {
                if life.driver.status().leader == MemberId(0) {
                    life.driver.campaign();
                }
                self.turn(id, life);
            }
            LifeEvent::WalDone => self.wal_done(id, life),
            LifeEvent::WalIdle => {
                if self.now >= life.wrote_at + SECOND && !life.is_writing {
                    life.to_wal.push_back(ToWal::Mark);
                    self.kick_wal(id, life);
                }
            }
            LifeEvent::ApplyDone => self.apply_done(id, life),
            LifeEvent::Commit => self.begin_commit(id, life),
            LifeEvent::CommitDone => self.commit_done(id, life),
            LifeEvent::LeaseLook => self.look_at_leases(id, life),
            LifeEvent::Prune => self.prune(id, life),
            LifeEvent::HubTick => {
                life.hub.advance();
                life.hub.tick(self.local_time(id));
                self.again(id, life, SECOND, LifeEvent::HubTick);
                self.serve_streams(id, life);
            }
            LifeEvent::Loaded(load) => self.history_loaded(id, life, &load),
            LifeEvent::Unblock { watcher } => self.unblock(id, life, watcher),
        }
    }

    fn local_time(&self, id: MemberId) -> env::Monotonic {
        self.members[&id].clock.monotonic(self.now)
    }

    fn take_message(&mut self, id: MemberId, life: &mut Life, mut message: Message) {
        if self.plant == Some(Plant::IgnoreTerms)
            && matches!(message.kind, MessageKind::AppendResponse | MessageKind::VoteResponse)
        {
            let term = life.driver.status().term;
            if message.term < term {
                self.planted += 1;
                message.term = term;
            }
        }
        // The transport refuses who was removed.
        if life.machine.shared().membership().is_removed(message.from) {
            return;
        }
        if let Err(error) = life.driver.step(message) {
            return self.stop(error.to_string());
        }
        self.turn(id, life);
    }

    fn take_snapshot(&mut self, id: MemberId, life: &mut Life, message: Message, copy: &StateCopy) {
        let from = message.from;
        let written =
            if life.receives_snapshot { Err("another is being installed".to_owned()) } else { copy.write(&life.disk) };
        let arrived = written.is_ok();
        if let Err(why) = written {
            self.note("snapshot refused", (id.0, from.0, why));
        }
        let back = self.dice.between(1, 5) * MS;
        self.schedule_for(from, back, LifeEvent::SnapshotSent { to: id, arrived });
        if arrived {
            life.receives_snapshot = true;
            self.note("snapshot received", (id.0, from.0, copy.applied.0.0));
            self.take_message(id, life, message);
            // Raft may have had no use for it; then nothing waits for its place.
            life.receives_snapshot = life.is_restoring();
        }
    }

    /// For the present life of another member, if it has one when it is scheduled.
    pub(crate) fn schedule_for(&mut self, id: MemberId, after: Micros, event: LifeEvent) {
        if let Some(number) = self.members.get(&id).and_then(|member| Some(member.life.as_ref()?.number)) {
            self.schedule(after, Event::Life(id, number, event));
        }
    }

    /// What `server::Stepper` does whenever something has come.
    pub(crate) fn turn(&mut self, id: MemberId, life: &mut Life) {
        life.driver.applied(life.machine.applied());
        loop {
            if !life.reads.is_empty() {
                let context = self.read_context(life);
                let reads = std::mem::take(&mut life.reads);
                life.rounds.entry(context).or_default().extend(reads);
                life.driver.read_index(context);
            }
            let mut effects = Vec::new();
            life.driver.drain(&mut effects);
            for effect in effects {
                self.carry_out(id, life, effect);
            }
            let may_propose = !life.held.is_empty() && life.driver.takes_proposals();
            if !may_propose && life.reads.is_empty() {
                break;
            }
            for (operation, _) in std::mem::take(&mut life.held) {
                self.propose(id, life, operation);
            }
        }
        self.kick_wal(id, life);
        self.kick_apply(id, life);
    }

    fn read_context(&mut self, life: &mut Life) -> u64 {
        life.next_id += 1;
        if self.strikes(Plant::ReuseReadContext) { life.next_id % 2 } else { life.next_id }
    }

    fn carry_out(&mut self, id: MemberId, life: &mut Life, effect: Effect) {
        match effect {
            Effect::Send(messages) => {
                for message in messages {
                    self.send(id, life, message);
                }
            }
            Effect::Persist { number, entries, hard_state } => {
                if self.plant == Some(Plant::MembershipTooEarly) {
                    self.change_voters_too_early(life, &entries);
                }
                life.to_wal.push_back(ToWal::Persist { number, entries, hard_state });
                let leads = life.status.role == Role::Leader;
                let is_early = self.plant == Some(Plant::AcknowledgeBeforeSync)
                    || (self.plant == Some(Plant::FollowerAnswersBeforeSync) && !leads);
                if is_early {
                    self.planted += 1;
                    life.driver.persisted(number);
                }
            }
            Effect::Restore { number, snapshot, entries, hard_state } => {
                life.to_wal.push_back(ToWal::Restore { number, snapshot, entries, hard_state });
            }
            Effect::Fetch { from, to, limit_bytes } => life.to_wal.push_back(ToWal::Fetch { from, to, limit_bytes }),
            Effect::Apply(entries) => life.to_apply.push_back(ToApply::Entries(entries)),
            Effect::ReadReady { context, index } => {
                let operations = life.rounds.remove(&context).unwrap_or_default();
                life.to_apply.push_back(ToApply::Reads { index, operations });
            }
            Effect::ReadsDropped(contexts) => {
                let dropped = contexts.iter().filter_map(|context| life.rounds.remove(context)).flatten();
                life.reads.extend(dropped.collect::<Vec<_>>());
            }
            Effect::Report { from, report } => self.compare_digest(life, from, &report),
            Effect::StatusChanged(status) => self.status_changed(id, life, status),
        }
    }

    /// Followers tell the digest of their state at some indexes, as in the server; the leader compares.
    fn compare_digest(&mut self, life: &Life, from: MemberId, report: &[u8]) {
        let Some((index, digest)) = report.split_first_chunk::<8>() else { return };
        let index = Index(u64::from_be_bytes(*index));
        let Some(own) = life.machine.shared().digest_at(index) else { return };
        if own.to_be_bytes() != *digest {
            self.fail("Digest", format!("member {from} differs from its leader at entry {index}"));
        }
    }

    fn change_voters_too_early(&mut self, life: &mut Life, entries: &[LogEntry]) {
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange) {
            if let Some(change) = crate::planted::voter_change(&entry.data) {
                self.planted += 1;
                // Raft may refuse it; then the fault just does not strike.
                let _ = life.driver.conf_changed(change);
            }
        }
    }

    fn status_changed(&mut self, id: MemberId, life: &mut Life, status: Status) {
        let before = std::mem::replace(&mut life.status, status);
        if (before.term, before.role, before.leader) == (status.term, status.role, status.leader) {
            return;
        }
        self.note("status", (id.0, status.term.0, status.role as u8, status.leader.0));
        if status.role == Role::Leader {
            match self.ledger.leads(status.term, id) {
                Ok(true) => self.counts.elections += 1,
                Ok(false) => {}
                Err(what) => self.fail("OneLeaderATerm", what),
            }
        }
        self.disturbed.push(self.now);
        life.to_apply.push_back(ToApply::Leading(status.role == Role::Leader));
    }

    fn send(&mut self, from: MemberId, life: &Life, message: Message) {
        let (to, kind) = (message.to, message.kind);
        self.counts.messages += 1;
        if kind == MessageKind::Snapshot {
            return self.send_snapshot(from, life, message);
        }
        let arrivals = self.network.arrivals(&mut self.dice, self.now, from, to, kind);
        let is_away = self.members.get(&to).is_none_or(|member| member.life.is_none());
        if is_away || self.network.is_cut(from, to) {
            if self.dice.percent(20) {
                self.again(from, life, 10 * MS, LifeEvent::Unreachable(to));
            }
            return;
        }
        for at in arrivals {
            // Most messages die with a connection; some waited at the sender and reach the receiver's next life.
            let is_bound = self.dice.percent(70);
            let number = self.members[&to].life.as_ref().filter(|_| is_bound).map_or(ANY_LIFE, |life| life.number);
            self.schedule_at(at, Event::Life(to, number, LifeEvent::Message(Box::new(message.clone()))));
        }
    }

    /// The state follows the message. As in the server it is the newest there is, and the message says of what.
    fn send_snapshot(&mut self, from: MemberId, life: &Life, mut message: Message) {
        let to = message.to;
        let copy = life.backend.commit().map_err(|error| error.to_string()).and_then(|_| StateCopy::of(&life.backend));
        let copy = match copy {
            Ok(copy) => copy,
            Err(why) => {
                self.note("snapshot fails", (from.0, to.0, why));
                return self.again(from, life, MS, LifeEvent::SnapshotSent { to, arrived: false });
            }
        };
        let copy = self.spoil_copy(copy);
        let state = life.machine.shared().membership().conf_state();
        let (index, term) = (life.machine.applied(), copy.applied.1);
        message.snapshot = Some(SnapshotMeta { index, term, voters: state.voters, learners: state.learners });
        self.note("snapshot sent", (from.0, to.0, index.0));
        let lasts = 20 * MS + copy.bytes() / 10 + self.dice.about(SECOND);
        let is_lost = self.network.is_cut(from, to) || self.dice.percent(10);
        let receiver = self.members.get(&to).and_then(|member| Some(member.life.as_ref()?.number));
        match receiver.filter(|_| !is_lost) {
            Some(number) => {
                let event = LifeEvent::Snapshot(Box::new(message), Box::new(copy));
                self.schedule(lasts, Event::Life(to, number, event));
                // If the receiver ends meanwhile, the sender finds out.
                self.again(from, life, lasts + 10 * SECOND, LifeEvent::SnapshotSent { to, arrived: false });
            }
            None => self.again(from, life, lasts, LifeEvent::SnapshotSent { to, arrived: false }),
        }
    }

    fn spoil_copy(&mut self, mut copy: StateCopy) -> StateCopy {
        if self.plant == Some(Plant::SnapshotWithoutRow) {
            let revisions = self.ledger.revisions.iter().rev();
            let puts = revisions.filter(|(_, (_, changes))| changes.first().is_some_and(|change| change.put.is_some()));
            let newest = puts.map(|(revision, _)| *revision).next();
            copy.without =
                newest.map(|main| types::RowKey { revision: types::Revision::first(main), tombstone: false });
            self.planted += u64::from(newest.is_some());
        }
        if self.plant == Some(Plant::StaleSnapshot) {
            let old = self.old_copy.get_or_insert_with(|| copy.clone()).clone();
            if old.applied.0 < copy.applied.0 {
                self.planted += 1;
                return StateCopy { applied: copy.applied, claims: Some(copy.applied), ..old };
            }
        }
        copy
    }

    fn kick_wal(&mut self, id: MemberId, life: &mut Life) {
        if life.is_writing || life.to_wal.is_empty() {
            return;
        }
        life.is_writing = true;
        life.writing = std::mem::take(&mut life.to_wal);
        let slowness = self.members.get(&id).map_or(1, |member| member.slowness);
        let lasts = (self.plan.disk_sync / 2 + self.dice.below(self.plan.disk_sync)) * slowness;
        self.again(id, life, lasts, LifeEvent::WalDone);
    }

    fn wal_done(&mut self, id: MemberId, life: &mut Life) {
        match life.write_log() {
            Ok(done) => {
                life.wal_is_full = false;
                life.is_writing = false;
                life.wrote_at = self.now;
                if let Some(snapshot) = done.restored {
                    life.to_apply.push_back(ToApply::Restore(snapshot));
                }
                for (from, entries) in done.fetched {
                    life.driver.fetched(from, entries);
                }
                if let Some(first) = done.released {
                    life.driver.log_released(first);
                }
                if let Some(number) = done.number {
                    life.driver.persisted(number);
                    self.again(id, life, SECOND, LifeEvent::WalIdle);
                }
                self.turn(id, life);
            }
            Err(WalError::NoSpace { .. }) => {
                life.wal_is_full = true;
                // What the backend lets go of may be the room it needs.
                let _ = life.release_while_full();
                self.again(id, life, 500 * MS, LifeEvent::WalDone);
            }
            Err(error) => self.stop(format!("log: {error}")),
        }
    }

    fn kick_apply(&mut self, id: MemberId, life: &mut Life) {
        if !life.applying.is_empty() || life.to_apply.is_empty() {
            return;
        }
        life.applying = life.to_apply.drain(..).collect();
        let lasts =
            if self.dice.percent(self.plan.slow_apply) { self.dice.about(50 * MS) } else { self.dice.between(20, 500) };
        self.again(id, life, lasts, LifeEvent::ApplyDone);
    }

    fn apply_done(&mut self, id: MemberId, life: &mut Life) {
        for item in std::mem::take(&mut life.applying) {
            match item {
                ToApply::Entries(entries) => self.apply(id, life, entries),
                ToApply::Reads { index, operations } => life.awaiting_apply.push((index, operations)),
                ToApply::Restore(snapshot) => self.install(id, life, &snapshot),
                ToApply::Leading(leading) => self.lead(id, life, leading),
            }
            if self.faults.stopping.is_some() || self.found.is_some() {
                return;
            }
        }
        let applied = life.machine.applied();
        let ready: Vec<usize> =
            life.awaiting_apply.extract_if(.., |(index, _)| *index <= applied).flat_map(|(_, reads)| reads).collect();
        for operation in ready {
            self.read(id, life, operation);
        }
        if self.strikes(Plant::ReleaseTooEarly) {
            life.to_wal.push_back(ToWal::Release { before: applied.next(), needed: applied.next() });
        }
        life.hub.advance();
        self.serve_streams(id, life);
        if life.commit == Commit::Idle && life.backend.staged_bytes() > 0 {
            life.commit = Commit::Waiting;
            self.again(id, life, self.plan.backend_interval, LifeEvent::Commit);
        }
        self.turn(id, life);
    }

    fn apply(&mut self, id: MemberId, life: &mut Life, mut entries: Vec<LogEntry>) {
        entries.retain(|entry| entry.index > life.machine.applied());
        for entry in &entries {
            match self.ledger.applied(entry, id) {
                Ok(is_first) => self.counts.applied_entries += u64::from(is_first),
                Err(what) => return self.fail("OneHistory", what),
            }
        }
        self.spoil_entries(id, life, &mut entries);
        let mut applied = Applied::default();
        if let Err(error) = life.machine.apply(&entries, self.local_time(id), &mut applied) {
            return self.stop(format!("apply: {error}"));
        }
        for events in &applied.events {
            if let Err(what) = self.ledger.revision(events, self.now, id) {
                return self.fail("OneHistory", what);
            }
        }
        if let Some(last) = entries.last() {
            self.note("applied", (id.0, last.index.0, life.machine.shared().view().revision()));
        }
        self.report_digest(life);
        life.events.publish(std::mem::take(&mut applied.events));
        for change in applied.voter_changes.drain(..) {
            let is_removed = change == machine::VoterChange::Remove(id);
            let change = match change {
                machine::VoterChange::AddVoter(member) => VoterChange::AddVoter(member),
                machine::VoterChange::AddLearner(member) => VoterChange::AddLearner(member),
                machine::VoterChange::Remove(member) => VoterChange::Remove(member),
                machine::VoterChange::Unchanged => VoterChange::Refused,
            };
            if let Err(error) = life.driver.conf_changed(change) {
                return self.stop(format!("consensus: {error}"));
            }
            if is_removed {
                let after = self.dice.between(500, 2000) * MS;
                self.schedule(after, Event::Retire(id));
            }
        }
        if applied.compacted {
            let compacted = life.machine.shared().view().compacted();
            life.events.compact(compacted);
            if !life.is_pruning {
                life.is_pruning = true;
                self.again(id, life, 10 * MS, LifeEvent::Prune);
            }
            self.drop_tombstone(life, compacted);
        }
        for (request, _, result) in applied.results.drain(..) {
            if let Some(waiter) = life.waiters.remove(&request) {
                self.answer(&waiter, result);
            }
        }
    }

    fn report_digest(&mut self, life: &mut Life) {
        let newest = Index(life.machine.applied().0 / DIGEST_EVERY * DIGEST_EVERY);
        if newest > life.reported
            && let Some(digest) = life.machine.shared().digest_at(newest)
        {
            life.reported = newest;
            life.driver.set_report([newest.0.to_be_bytes(), digest.to_be_bytes()].concat().into());
        }
    }

    fn spoil_entries(&mut self, id: MemberId, life: &mut Life, entries: &mut [LogEntry]) {
        let is_victim = self.members.keys().next() == Some(&id);
        for entry in entries.iter_mut().filter(|entry| entry.kind == EntryKind::Normal) {
            if life.replays_from == Some(entry.index) && self.strikes(Plant::AppliedBeforeData) {
                // It counted as applied, and what it did was lost with the crash.
                entry.data = Bytes::new();
            }
            if is_victim && self.plant == Some(Plant::ApplyTwice) && entry.data.is_empty() && !life.last_data.is_empty()
            {
                self.planted += 1;
                entry.data = life.last_data.clone();
            } else if is_victim
                && self.plant == Some(Plant::SkipEntry)
                && !entry.data.is_empty()
                && self.dice.percent(1)
            {
                self.planted += 1;
                entry.data = Bytes::new();
            }
            if !entry.data.is_empty() {
                life.last_data = entry.data.clone();
            }
        }
    }

    /// Removes what a compaction has to keep: a deletion at exactly the compacted revision.
    fn drop_tombstone(&mut self, life: &Life, compacted: i64) {
        if self.plant != Some(Plant::DropTombstone) {
            return;
        }
        let Some((_, changes)) = self.ledger.revisions.get(&compacted) else { return };
        for (sub, _) in changes.iter().enumerate().filter(|(_, change)| change.put.is_none()) {
            self.planted += 1;
            let revision = types::Revision { main: compacted, sub: sub as i64 };
            let row = types::RowKey { revision, tombstone: true };
            life.backend.stage(backend::Staged { removed_rows: vec![row], ..backend::Staged::default() });
        }
    }

    fn answer(&mut self, waiter: &Waiter, result: Result<Reply, ApplyError>) {
        let request = &self.operations[waiter.operation].request;
        let outcome = match (&waiter.answer, result) {
            (Some(answer), Ok(_)) => Outcome::Answered(answer.clone()),
            (None, Ok(reply)) => match translate::answer(request, reply) {
                Ok(answer) => Outcome::Answered(answer),
                Err(what) => return self.fail("UnreadableReply", what),
            },
            (_, Err(error)) => translate::refusal(&error).map_or(Outcome::Failed, Outcome::Refused),
        };
        self.tell(waiter.operation, outcome);
    }

    fn lead(&mut self, id: MemberId, life: &Life, leading: bool) {
        let now = self.local_time(id);
        let extend = Duration::from_micros(self.plan.tick * self.plan.election_ticks);
        let mut lessor = life.machine.shared().lessor().lock();
        if leading {
            lessor.promote(now, extend);
        } else if self.plant != Some(Plant::LeasesOutliveLeadership) {
            lessor.demote();
        }
        drop(lessor);
        if leading && self.plant == Some(Plant::ClockLeap) {
            self.planted += 1;
            if let Some(member) = self.members.get_mut(&id) {
                member.clock.leap(20 * SECOND);
            }
        }
    }

    /// The received state takes the place of the old one, under the watchers that are there.
    fn install(&mut self, id: MemberId, life: &mut Life, snapshot: &SnapshotMeta) {
        life.receives_snapshot = false;
        if let Err(error) = life.machine.adopt_received((snapshot.index, snapshot.term)) {
            return self.stop(format!("snapshot: {error}"));
        }
        life.commit = Commit::Idle;
        let view = life.machine.shared().view();
        life.events.reset(view.revision(), view.compacted());
        self.counts.snapshots += 1;
        self.note("snapshot installed", (id.0, snapshot.index.0, view.revision()));
        if !life.is_pruning {
            life.is_pruning = true;
            self.again(id, life, 10 * MS, LifeEvent::Prune);
        }
        life.driver.applied(snapshot.index);
    }

    fn begin_commit(&mut self, id: MemberId, life: &mut Life) {
        if life.commit == Commit::Waiting {
            life.commit = Commit::Running;
            let slowness = self.members.get(&id).map_or(1, |member| member.slowness);
            let lasts = self.plan.disk_sync * 3 * slowness;
            self.again(id, life, lasts, LifeEvent::CommitDone);
        }
    }

    fn commit_done(&mut self, id: MemberId, life: &mut Life) {
        if life.commit != Commit::Running {
            return;
        }
        match life.backend.commit() {
            Ok(committed) => {
                life.commit = Commit::Idle;
                let kept = if life.wal_is_full { 0 } else { self.plan.catchup_entries };
                let before = Index(committed.applied.0.0.saturating_sub(kept) + 1);
                let in_touch = life.driver.progress().into_iter().filter(|progress| progress.is_active);
                let needed = in_touch.map(|progress| progress.needs).min().filter(|_| !life.wal_is_full);
                life.to_wal.push_back(ToWal::Release { before, needed: needed.unwrap_or(before).min(before) });
                if life.backend.staged_bytes() > 0 {
                    life.commit = Commit::Waiting;
                    self.again(id, life, self.plan.backend_interval, LifeEvent::Commit);
                }
                self.turn(id, life);
            }
            Err(BackendError::NoSpace { .. }) => self.again(id, life, SECOND, LifeEvent::CommitDone),
            Err(error) => self.stop(format!("backend: {error}")),
        }
    }

    fn look_at_leases(&mut self, id: MemberId, life: &mut Life) {
        self.again(id, life, 500 * MS, LifeEvent::LeaseLook);
        let now = self.local_time(id);
        let (expired, checkpoints) = {
            let mut lessor = life.machine.shared().lessor().lock();
            (lessor.expired(now, 500), lessor.checkpoints(now, 1000))
        };
        let mut requests = Vec::new();
        if !self.strikes(Plant::NeverExpire) {
            requests.extend(expired.into_iter().map(|lease| Entry::LeaseRevoke(LeaseRevokeRequest { id: lease.0 })));
        }
        if !checkpoints.is_empty() {
            let checkpoints =
                checkpoints.into_iter().map(|(lease, remaining_ttl)| LeaseCheckpoint { id: lease.0, remaining_ttl });
            requests.push(Entry::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints: checkpoints.collect() }));
        }
        if requests.is_empty() || !life.driver.takes_proposals() {
            return;
        }
        let data: Vec<Bytes> = requests.into_iter().map(|request| translate::encode(life.take_id(), request)).collect();
        // Asked again in three seconds if it is lost.
        let _ = life.driver.propose(data);
        self.turn(id, life);
    }

    fn prune(&mut self, id: MemberId, life: &mut Life) {
        match life.machine.shared().view().prune_step(20) {
            Ok(PruneStep::Removed(staged)) => {
                life.backend.stage(staged);
                if life.commit == Commit::Idle {
                    life.commit = Commit::Waiting;
                    self.again(id, life, self.plan.backend_interval, LifeEvent::Commit);
                }
                self.again(id, life, 10 * MS, LifeEvent::Prune);
            }
            Ok(PruneStep::Waiting) => self.again(id, life, 50 * MS, LifeEvent::Prune),
            Ok(PruneStep::Finished) => life.is_pruning = false,
            Err(error) => self.stop(format!("compaction: {error}")),
        }
    }

    /// A request reaches a member.
    pub(crate) fn arrive(&mut self, at: MemberId, operation: usize) {
        if self.members.get(&at).is_none_or(|member| member.life.is_none()) {
            // Nobody listens there.
            return self.tell(operation, Outcome::Failed);
        }
        self.with_life(at, |world, life| {
            let session = life.number;
            if let Some(asked) = world.operations.get_mut(operation) {
                asked.session = Some(session);
            }
            world.serve(at, life, operation);
        });
    }

    fn serve(&mut self, id: MemberId, life: &mut Life, operation: usize) {
        let request = &self.operations[operation].request;
        let membership = life.machine.shared().membership();
        let is_learner = membership.member(id).is_none_or(|member| member.is_learner);
        if request.is_serializable() {
            return self.read(id, life, operation);
        }
        if is_learner {
            return self.tell(operation, Outcome::Failed);
        }
        match request {
            Request::Range(_) => self.begin_read(id, life, operation),
            Request::Txn(txn) if translate::reads_only(txn) => self.begin_read(id, life, operation),
            Request::KeepAlive(_) => {
                let leader = life.driver.status().leader;
                if leader == id {
                    // Once all it has committed is applied, it need not ask the others.
                    match life.machine.applied() >= life.driver.status().commit {
                        true => self.read(id, life, operation),
                        false => self.begin_read(id, life, operation),
                    }
                } else if leader == MemberId(0) || self.network.is_cut(id, leader) {
                    self.tell(operation, Outcome::Failed);
                } else if self.strikes(Plant::RenewAnywhere) {
                    self.read(id, life, operation);
                } else {
                    // Only once: the other may not lead any more either.
                    let after = self.plan.network_delay + self.dice.below(self.plan.network_delay);
                    self.forward_renewal(leader, after, operation);
                }
            }
            _ if life.wal_is_full => self.tell(operation, Outcome::Failed),
            _ if life.driver.takes_proposals() => {
                self.propose(id, life, operation);
                self.turn(id, life);
            }
            _ => life.held.push_back((operation, self.now + self.plan.request_timeout)),
        }
    }

    fn forward_renewal(&mut self, leader: MemberId, after: Micros, operation: usize) {
        let asked = &self.operations[operation];
        if asked.returned == 0 && self.now < asked.invoked + self.plan.request_timeout {
            self.schedule(after, Event::Arrive { at: leader, operation });
        }
    }

    fn begin_read(&mut self, id: MemberId, life: &mut Life, operation: usize) {
        if self.strikes(Plant::ReadWithoutIndex) {
            return self.read(id, life, operation);
        }
        if self.plant == Some(Plant::LeaderReadsAlone) && life.status.role == Role::Leader {
            self.planted += 1;
            return self.read(id, life, operation);
        }
        life.reads.push(operation);
        self.turn(id, life);
    }

    fn propose(&mut self, id: MemberId, life: &mut Life, operation: usize) {
        let request = &self.operations[operation].request;
        let Some(entry) = translate::entry(request) else { return };
        let request_id = life.take_id();
        self.note("propose", (id.0, operation, request_id));
        life.waiters.insert(request_id, Waiter { operation, answer: None });
        if let Err(error) = life.driver.propose([translate::encode(request_id, entry)]) {
            life.waiters.remove(&request_id);
            match error {
                ProposeError::NoLeader => life.held.push_back((operation, self.now + self.plan.request_timeout)),
                ProposeError::Dropped => self.tell(operation, Outcome::Failed),
            }
        }
    }

    /// Reads from the state as it stands.
    fn read(&mut self, id: MemberId, life: &mut Life, operation: usize) {
        let shared = life.machine.shared();
        let request = self.operations[operation].request.clone();
        let result = match &request {
            Request::Range(query) => shared.range(&translate::range_request(query)),
            Request::Txn(txn) => shared.read_only_txn(&translate::txn_request(txn)),
            Request::KeepAlive(lease) => return self.renew(id, life, operation, *lease),
            _ => return,
        };
        let outcome = match result {
            Ok(reply) => match translate::answer(&request, reply) {
                Ok(answer) => Outcome::Answered(answer),
                Err(what) => return self.stop(what),
            },
            Err(failure) => match translate::failure(failure) {
                Ok(error) => translate::refusal(&error).map_or(Outcome::Failed, Outcome::Refused),
                Err(what) => return self.stop(what),
            },
        };
        self.tell(operation, outcome);
    }

    fn renew(&mut self, id: MemberId, life: &mut Life, operation: usize, lease: types::LeaseId) {
        let now = self.local_time(id);
        let revision = life.machine.shared().view().revision();
        let renewed = life.machine.shared().lessor().lock().renew(lease, now);
        let answer = |ttl| Answer { revision, body: Body::KeptAlive { ttl } };
        match renewed {
            Ok(renewal) if renewal.clear_checkpoint => {
                let checkpoint = LeaseCheckpoint { id: lease.0, remaining_ttl: 0 };
                let request = Entry::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints: vec![checkpoint] });
                let request_id = life.take_id();
                life.waiters.insert(request_id, Waiter { operation, answer: Some(answer(renewal.ttl)) });
                // If it is lost, the client's patience ends.
                let _ = life.driver.propose([translate::encode(request_id, request)]);
            }
            Ok(renewal) => self.tell(operation, Outcome::Answered(answer(renewal.ttl))),
            Err(RenewError::NotPrimary) if self.plant == Some(Plant::RenewAnywhere) => {
                let ttl =
                    life.machine.shared().lessor().lock().time_to_live(lease, now).map_or(0, |ttl| ttl.granted_ttl);
                self.tell(operation, Outcome::Answered(answer(ttl)));
            }
            Err(RenewError::NotPrimary) => self.tell(operation, Outcome::Failed),
            Err(RenewError::NotFound | RenewError::Expired) => self.tell(operation, Outcome::Answered(answer(0))),
        }
    }

    fn drop_overdue(&mut self, life: &mut Life) {
        let now = self.now;
        life.held.retain(|(_, until)| *until >= now);
        let operations = &self.operations;
        life.waiters.retain(|_, waiter| operations[waiter.operation].returned == 0);
    }

    /// Ends the life that is being lived, as soon as it has done what it is at.
    pub(crate) fn stop(&mut self, why: String) {
        self.faults.stopping.get_or_insert(why);
    }

    /// Those who waited learn that the connection is gone.
    pub(crate) fn bury(&mut self, id: MemberId, life: &Life) {
        for waiter in life.waiters.values() {
            let after = self.dice.between(1, 20) * MS;
            self.schedule(after, Event::Tell { operation: waiter.operation, outcome: Outcome::Unknown });
        }
        let reads = life.reads.iter().chain(life.rounds.values().flatten());
        let awaiting = life.awaiting_apply.iter().flat_map(|(_, reads)| reads);
        for &operation in reads.chain(awaiting).chain(life.held.iter().map(|(operation, _)| operation)) {
            let outcome = match self.operations[operation].request {
                Request::KeepAlive(_) => Outcome::Unknown,
                _ => Outcome::Failed,
            };
            let after = self.dice.between(1, 20) * MS;
            self.schedule(after, Event::Tell { operation, outcome });
        }
        for stream in life.streams.values() {
            let after = self.dice.between(1, 20) * MS;
            self.schedule(after, Event::WatchLost { watcher: stream.watcher, session: stream.session });
        }
        for other in self.running() {
            if other != id && !self.network.is_cut(id, other) {
                let after = self.dice.between(100, 5000);
                self.schedule_for(other, after, LifeEvent::Gone(id));
            }
        }
    }

    /// The power goes, in the middle of whatever the disk is at.
    pub(crate) fn crash(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.backlog = None;
        let Some(mut life) = member.life.take() else { return };
        self.note("crash", id.0);
        let cut = Fault {
            operation: None,
            path_contains: String::new(),
            skip: self.dice.below(12),
            times: u64::MAX,
            error: std::io::ErrorKind::Other,
        };
        let seed = self.dice.next();
        let member = self.members.get_mut(&id).expect("it just lived");
        let disk = member.disk.clone();
        disk.inject(cut);
        // How far either comes is up to the fault; whatever it says, nobody hears it any more.
        if life.is_writing {
            let _ = life.write_log();
        }
        if life.commit == Commit::Running {
            let _ = life.backend.commit();
        }
        let survival = match seed % 8 {
            0 => Survival::None,
            1 => Survival::All,
            _ => Survival::Random(seed),
        };
        member.disk = disk.crash(survival);
        self.bury(id, &life);
    }

    /// The process is killed; the machine, and so what was written, stays.
    pub(crate) fn kill(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.backlog = None;
        let Some(life) = member.life.take() else { return };
        self.note("kill", id.0);
        self.bury(id, &life);
    }
}

/// What writing has come to so far.
#[derive(Default)]
struct Written {
    number: Option<u64>,
    restored: Option<SnapshotMeta>,
    fetched: Vec<(Index, Vec<LogEntry>)>,
    release: Option<Index>,
    /// The first entry that is left, if some were let go of.
    released: Option<Index>,
}

impl Life {
    /// What the wal thread does with all that waited. After a full disk it is called again, and goes on.
    fn write_log(&mut self) -> Result<Written, WalError> {
        while let Some(item) = self.writing.pop_front() {
            match item {
                ToWal::Persist { number, entries, hard_state } => {
                    self.wal.append(&entries, hard_state)?;
                    self.written.number = Some(number);
                }
                ToWal::Restore { number, snapshot, entries, hard_state } => {
                    if let Err(error) = self.wal.restart_at(snapshot.index, snapshot.term) {
                        self.writing.push_front(ToWal::Restore { number, snapshot, entries, hard_state });
                        return Err(error);
                    }
                    self.wal.append(&entries, hard_state)?;
                    self.written.restored = Some(snapshot);
                    self.written.number = Some(number);
                }
                ToWal::Fetch { from, to, limit_bytes } => {
                    let entries = match from >= self.wal.first() {
                        true => self.wal.read(from, to, limit_bytes as usize)?,
                        false => Vec::new(),
                    };
                    self.written.fetched.push((from, entries));
                }
                ToWal::Release { before, needed } => {
                    let is_long = self.wal.segment_count() > SEGMENTS_FOR_OTHERS_MAX;
                    self.written.release = Some(if is_long { before } else { needed });
                }
                ToWal::Mark => self.wal.mark_durable()?,
            }
        }
        self.wal.sync()?;
        let mut written = std::mem::take(&mut self.written);
        if let Some(index) = written.release {
            let first = self.wal.first();
            self.wal.release_before(index)?;
            written.released = Some(self.wal.first()).filter(|now| *now > first);
        }
        Ok(written)
    }

    /// Lets go of what the backend holds, for want of room.
    fn release_while_full(&mut self) -> Result<(), WalError> {
        let mut release = self.written.release.take();
        self.to_wal.retain(|item| match item {
            ToWal::Release { before, .. } => {
                release = Some(*before);
                false
            }
            _ => true,
        });
        release.map_or(Ok(0), |index| self.wal.release_before(index)).map(drop)
    }

    fn is_restoring(&self) -> bool {
        let is_restore = |item: &ToWal| matches!(item, ToWal::Restore { .. });
        let is_install = |item: &ToApply| matches!(item, ToApply::Restore(_));
        self.to_wal.iter().chain(&self.writing).any(is_restore)
            || self.to_apply.iter().chain(&self.applying).any(is_install)
    }

    pub(crate) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// The operations of the disk that a lasting fault should meet.
pub(crate) const SYNCS: [DiskOperation; 2] = [DiskOperation::SyncData, DiskOperation::SyncDir];
