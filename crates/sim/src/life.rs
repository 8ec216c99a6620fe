//! One life of a member, from its start to its crash: what the server's threads do, as events.
//!
//! | thread of the server | here |
//! |---|---|
//! | whoever steps consensus (`stepper.rs`) | [`World::turn`], at once: `life/stepper.rs` |
//! | wal (`wal_thread.rs`) | [`LifeEvent::WalDone`]: all that waited is written and synced together: `life/log.rs` |
//! | apply (`apply_thread.rs`) | [`LifeEvent::ApplyDone`], likewise: `life/apply.rs` |
//! | backend (`backend_thread.rs`) | [`LifeEvent::Commit`], [`LifeEvent::CommitDone`]: `life/state.rs` |
//! | compaction, leases (`housekeeping.rs`) | [`LifeEvent::Prune`], [`LifeEvent::LeaseLook`]: there, and `life/leases.rs` |
//! | who reads streams, peers (`peers.rs`, `snapshots.rs`) | [`LifeEvent::Message`], [`LifeEvent::Snapshot`]: `life/post.rs` |
//! | workers (`kv.rs`) | `life/requests.rs` |
//!
//! What the member proposes by itself besides (`cluster_task.rs`, `auto_compaction.rs`) is what clients and the operator
//! ask for here.
//!
//! What a thread does takes effect at the end of its time. A crash in between does a random part of it first, cut at any
//! operation of the disk (`life/end.rs`). What planted faults do to a life is in `life/plants.rs`.

mod apply;
mod end;
mod leases;
mod log;
mod plants;
mod post;
mod requests;
mod state;
mod stepper;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use backend::Backend;
use bytes::Bytes;
use checker::Answer;
use consensus::{Driver, Role, Status};
use env::Disk;
use machine::Machine;
use types::{Index, MemberId, Term};
use wal::Wal;
use watch::{EventLog, Hub, HubOptions, LogLimits, StreamId};

use crate::boot;
use crate::dice::{MS, Micros, SECOND};
use crate::disks;
use crate::planted::Plant;
use crate::world::{Event, LifeEvent, World};
use apply::ToApply;
use log::{ToWal, Written};
use requests::Waiter;
use state::Commit;

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
    /// Renewals whose answer waits until it is sure that this member led meanwhile, and since which term it did.
    renewals: BTreeMap<usize, (Answer, Term)>,
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

/// For events that whichever life is the member's then has to take.
const ANY_LIFE: u64 = 0;

pub(crate) struct OpenStream {
    pub(crate) watcher: usize,
    pub(crate) session: usize,
    pub(crate) arrives: Micros,
    pub(crate) is_blocked: bool,
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
            Ok(parts) => {
                self.require_rot_seen(id, None);
                self.begin_life(id, parts, disk);
            }
            Err(why) => {
                self.require_rot_seen(id, Some(&why));
                self.stopped(id, &format!("it does not start: {why}"));
            }
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
            renewals: BTreeMap::new(),
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

    /// For the present life of another member, if it has one when it is scheduled.
    pub(crate) fn schedule_for(&mut self, id: MemberId, after: Micros, event: LifeEvent) {
        if let Some(number) = self.members.get(&id).and_then(|member| Some(member.life.as_ref()?.number)) {
            self.schedule(after, Event::Life(id, number, event));
        }
    }

    /// Ends the life that is being lived, as soon as it has done what it is at.
    pub(crate) fn stop(&mut self, why: String) {
        self.faults.stopping.get_or_insert(why);
    }
}

impl Life {
    pub(crate) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
