//! What goes wrong, and when it is mended.

use std::collections::BTreeMap;
use std::path::Path;

use env::{DiskOperation, Fault, SimDisk};
use types::MemberId;

use crate::boot;
use crate::dice::{MS, Micros, SECOND};
use crate::doubled_panic;
use crate::rot::{self, Rot};
use crate::world::{Event, World};

#[derive(Default)]
pub(crate) struct Faults {
    /// How many have struck.
    pub(crate) count: u64,
    /// What is to be mended, by number.
    mending: BTreeMap<u64, Mending>,
    /// The life that is being lived must end.
    pub(crate) stopping: Option<String>,
    has_ended: bool,
}

enum Mending {
    Network,
    DiskFull(MemberId),
    DiskError(MemberId),
    DiskSlow(MemberId),
    Clock(MemberId),
}

/// The operations of the disk that a lasting fault should meet.
const SYNCS: [DiskOperation; 2] = [DiskOperation::SyncData, DiskOperation::SyncDir];

#[derive(Clone, Copy)]
enum Kind {
    Crash,
    Kill,
    CrashAll,
    Pause,
    Partition,
    OneWay,
    IsolateLeader,
    BadLink,
    DiskFull,
    DiskError,
    DiskSlow,
    Rot,
    Clock,
    Transfer,
}

impl World {
    pub(crate) fn next_fault(&mut self) {
        if self.faults.has_ended {
            return;
        }
        let kinds = self.kinds();
        if let Some(kind) = self.dice.pick(&kinds).copied() {
            self.faults.count += 1;
            self.disturbed.push(self.now);
            self.strike(kind);
        }
        let after = self.dice.about(self.plan.fault_every).max(200 * MS);
        self.schedule(after, Event::Fault);
    }

    fn kinds(&self) -> Vec<Kind> {
        let faults = &self.plan.faults;
        let all = [
            (faults.crash, Kind::Crash),
            (faults.crash, Kind::Kill),
            (faults.crash_all, Kind::CrashAll),
            (faults.pause, Kind::Pause),
            (faults.partition, Kind::Partition),
            (faults.one_way, Kind::OneWay),
            (faults.isolate_leader, Kind::IsolateLeader),
            (faults.bad_link, Kind::BadLink),
            (faults.disk_full, Kind::DiskFull),
            (faults.disk_error, Kind::DiskError),
            (faults.disk_slow, Kind::DiskSlow),
            (faults.rot, Kind::Rot),
            (faults.clock, Kind::Clock),
            (faults.transfer, Kind::Transfer),
        ];
        all.into_iter().filter(|(strikes, _)| *strikes).map(|(_, kind)| kind).collect()
    }

    fn strike(&mut self, kind: Kind) {
        let running = self.running();
        let victim = match self.leader().filter(|_| self.dice.percent(40)) {
            Some(leader) => Some(leader),
            None => self.dice.pick(&running).copied(),
        };
        let Some(victim) = victim else { return };
        match kind {
            Kind::Crash => {
                self.counts.fault("crash");
                self.crash_for_a_while(victim);
            }
            Kind::Kill => {
                self.counts.fault("kill");
                self.kill(victim);
                self.restart_after(victim, self.plan.restart);
            }
            Kind::CrashAll => {
                self.counts.fault("crash of all");
                for member in running {
                    let after = self.dice.below(20 * MS);
                    self.schedule(after, Event::Crash(member));
                }
            }
            Kind::Pause => {
                self.counts.fault("pause");
                self.note("pause", victim.0);
                if let Some(member) = self.members.get_mut(&victim) {
                    member.backlog.get_or_insert_default();
                }
                let after = self.dice.about(4 * SECOND);
                self.schedule(after, Event::Resume(victim));
            }
            Kind::Partition => self.partition(),
            Kind::OneWay => {
                self.counts.fault("one-way cut");
                for other in self.others(victim) {
                    self.network.cut(victim, other);
                }
                self.mend_after(8 * SECOND, Mending::Network);
            }
            Kind::IsolateLeader => {
                self.counts.fault("leader cut off");
                for other in self.others(victim) {
                    self.network.cut(victim, other);
                    self.network.cut(other, victim);
                }
                self.mend_after(6 * SECOND, Mending::Network);
            }
            Kind::BadLink => {
                self.counts.fault("bad link");
                for other in self.others(victim) {
                    let loss = self.dice.below(500_000);
                    let slowness = self.dice.below(400 * MS);
                    self.network.spoil(victim, other, loss, slowness);
                    self.network.spoil(other, victim, loss, slowness);
                }
                self.mend_after(15 * SECOND, Mending::Network);
            }
            Kind::DiskFull => {
                self.counts.fault("full disk");
                let room = self.dice.below(100) * 1024;
                let member = &self.members[&victim];
                member.disk.set_capacity(Some(member.disk.used_bytes() + room));
                self.excuse(victim, "full disk");
                self.mend_after(15 * SECOND, Mending::DiskFull(victim));
            }
            // What cannot be mended is done to a minority at most.
            Kind::DiskError if self.must_be_spared(victim) => {}
            Kind::DiskError => {
                self.counts.fault("disk error");
                let operation = *self.dice.pick(&SYNCS).expect("not empty");
                let fault = Fault {
                    operation: Some(operation),
                    path_contains: String::new(),
                    skip: self.dice.below(3),
                    times: 1,
                    error: std::io::ErrorKind::Other,
                };
                self.members[&victim].disk.inject(fault);
                self.excuse(victim, "disk error");
                if let Some(member) = self.members.get_mut(&victim) {
                    member.is_doubtful = true;
                }
                self.mend_after(10 * SECOND, Mending::DiskError(victim));
            }
            Kind::DiskSlow => {
                self.counts.fault("slow disk");
                let slowness = self.dice.between(5, 500);
                if let Some(member) = self.members.get_mut(&victim) {
                    member.slowness = slowness;
                }
                self.mend_after(15 * SECOND, Mending::DiskSlow(victim));
            }
            Kind::Rot => self.rot(victim),
            Kind::Clock => {
                self.counts.fault("clock");
                let rate = 990_000 + self.dice.below(20_000);
                let jump = self.dice.between(0, 7200) as i64 * SECOND as i64 - 3600 * SECOND as i64;
                let now = self.now;
                if let Some(member) = self.members.get_mut(&victim) {
                    member.clock.drift(now, rate);
                    member.clock.wall_offset += jump;
                }
                self.mend_after(60 * SECOND, Mending::Clock(victim));
            }
            Kind::Transfer => {
                self.counts.fault("leader transfer");
                if let Some(leader) = self.leader() {
                    self.with_life(leader, |world, life| {
                        life.driver.transfer_leader(victim);
                        world.turn(leader, life);
                    });
                }
            }
        }
    }

    pub(crate) fn crash_for_a_while(&mut self, id: MemberId) {
        self.crash(id);
        self.restart_after(id, self.plan.restart);
    }

    fn others(&self, member: MemberId) -> Vec<MemberId> {
        self.members.keys().copied().filter(|other| *other != member).collect()
    }

    /// Two halves at random. Whoever calls it has counted a fault.
    pub(crate) fn partition(&mut self) {
        self.counts.fault("partition");
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        let sides: Vec<bool> = ids.iter().map(|_| self.dice.percent(50)).collect();
        for (&one, &side) in ids.iter().zip(&sides) {
            for (&other, &other_side) in ids.iter().zip(&sides) {
                if side != other_side {
                    self.network.cut(one, other);
                }
            }
        }
        self.mend_after(8 * SECOND, Mending::Network);
    }

    /// Bits flip where they were durable; the member is restarted so that it meets them. At most one member at a time.
    fn rot(&mut self, victim: MemberId) {
        if self.must_be_spared(victim) {
            return;
        }
        self.crash(victim);
        let disk = self.members[&victim].disk.clone();
        if self.dice.percent(50) {
            self.rot_log(victim, &disk);
        } else {
            self.counts.fault("rot");
            let path = Path::new(boot::STATE);
            let len = disk.contents(path).map_or(0, |bytes| bytes.len() as u64);
            for _ in 0..self.dice.between(1, 20) {
                if len > 0 {
                    let offset = self.dice.below(len);
                    self.flip_bit(&disk, path, offset);
                }
            }
            self.excuse(victim, "rot");
        }
        self.restart_after(victim, 2 * SECOND);
    }

    /// Some bits of one of the log's files flip. If they were covered the member must not start, and if not it must.
    fn rot_log(&mut self, victim: MemberId, disk: &SimDisk) {
        let mut segments = rot::segments(disk);
        let count = segments.len() as u64;
        if count == 0 {
            return;
        }
        let segment = &mut segments[self.dice.below(count) as usize];
        let mut is_seen = false;
        for _ in 0..self.dice.between(1, 8) {
            let offset = self.dice.below(segment.len() as u64) as usize;
            let rot = segment.rot_at(offset);
            // A bit that flips twice is as it was.
            if rot != Rot::LikeTorn && segment.flipped.insert(offset) {
                self.flip_bit(disk, &segment.path, offset as u64);
                is_seen |= rot == Rot::Seen;
            }
        }
        if is_seen {
            self.counts.fault("rot of the log");
            self.excuse(victim, "rot");
            if let Some(member) = self.members.get_mut(&victim) {
                member.rotten_log = Some(segment.path.clone());
            }
        } else if !segment.flipped.is_empty() {
            self.counts.fault("harmless rot of the log");
        }
    }

    fn flip_bit(&mut self, disk: &SimDisk, path: &Path, offset: u64) {
        let bit = self.dice.below(8) as u8;
        disk.flip_bit(path, offset, bit).expect("the file was just read");
        doubled_panic::note_rot();
    }

    /// Whether nothing may be spoilt at this member that cannot be mended: another's is, or the voters would be too few
    /// without it, now or once a change that was left half way is made.
    fn must_be_spared(&self, victim: MemberId) -> bool {
        let leader = self.leader().and_then(|leader| self.members[&leader].life.as_ref());
        let voters = leader.map_or(0, |life| life.machine.shared().membership().conf_state().voters.len());
        voters < 3
            || !self.operator.is_idle()
            || self.operator.has_left_steps
            || self.members.iter().any(|(id, member)| *id != victim && member.is_spoilt())
    }

    pub(crate) fn excuse(&mut self, id: MemberId, why: &'static str) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.has_failing_disk |= why != "rot";
        // Rot that has not been met yet may still be met after anything else is mended.
        if member.excuse != Some("rot") {
            member.excuse = Some(why);
        }
    }

    pub(crate) fn restart_after(&mut self, id: MemberId, mean: Micros) {
        let after = self.dice.about(mean) + 10 * MS;
        self.schedule(after, Event::Restart(id));
    }

    fn mend_after(&mut self, mean: Micros, mending: Mending) {
        let number = self.faults.count;
        self.faults.mending.insert(number, mending);
        let after = self.dice.about(mean) + 100 * MS;
        self.schedule(after, Event::Mend(number));
    }

    pub(crate) fn mend(&mut self, number: u64) {
        let Some(mending) = self.faults.mending.remove(&number) else { return };
        self.note("mend", number);
        self.disturbed.push(self.now);
        match mending {
            Mending::Network => self.network.heal(),
            Mending::DiskFull(id) | Mending::DiskError(id) => self.mend_disk(id),
            Mending::DiskSlow(id) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.slowness = 1;
                }
            }
            Mending::Clock(id) => {
                let now = self.now;
                if let Some(member) = self.members.get_mut(&id) {
                    member.clock.drift(now, 1_000_000);
                }
            }
        }
    }

    fn mend_disk(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.disk.heal();
        member.disk.set_capacity(None);
        member.has_failing_disk = false;
        if member.excuse != Some("rot") {
            member.excuse = None;
        }
        if member.life.is_none() && !member.is_gone {
            self.schedule(10 * MS, Event::Restart(id));
        }
    }

    /// From now on nothing fails any more.
    pub(crate) fn end_faults(&mut self) {
        self.note("end of faults", self.faults.count);
        self.faults.has_ended = true;
        self.faults.mending.clear();
        self.network.be_perfect();
        self.disturbed.push(self.now);
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        for id in ids {
            let now = self.now;
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.slowness = 1;
            member.clock.drift(now, 1_000_000);
            self.mend_disk(id);
            self.schedule(0, Event::Resume(id));
            self.schedule(100 * MS, Event::Restart(id));
        }
    }

    pub(crate) fn faults_have_ended(&self) -> bool {
        self.faults.has_ended
    }
}
