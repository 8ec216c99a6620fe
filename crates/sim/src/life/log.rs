//! The log: what waits for it, writing it, and letting go of what is no longer needed.

use types::{HardState, Index, LogEntry, MemberId, SnapshotMeta};
use wal::WalError;

use super::Life;
use super::apply::ToApply;
use crate::dice::{MS, SECOND};
use crate::world::{LifeEvent, World};

pub(super) enum ToWal {
    Persist { number: u64, entries: Vec<LogEntry>, hard_state: Option<HardState> },
    Restore { number: u64, snapshot: SnapshotMeta, entries: Vec<LogEntry>, hard_state: Option<HardState> },
    Fetch { from: Index, to: Index, limit_bytes: u64 },
    Release { before: Index, needed: Index },
    Mark,
}

/// What writing has come to so far.
#[derive(Default)]
pub(super) struct Written {
    pub(super) number: Option<u64>,
    pub(super) restored: Option<SnapshotMeta>,
    pub(super) fetched: Vec<(Index, Vec<LogEntry>)>,
    pub(super) release: Option<Index>,
    /// The first entry that is left, if some were let go of.
    pub(super) released: Option<Index>,
}

/// The log keeps no more segments than these for members that are behind.
const SEGMENTS_FOR_OTHERS_MAX: usize = 16;

impl World {
    pub(super) fn kick_wal(&mut self, id: MemberId, life: &mut Life) {
        if life.is_writing || life.to_wal.is_empty() {
            return;
        }
        life.is_writing = true;
        life.writing = std::mem::take(&mut life.to_wal);
        let slowness = self.members.get(&id).map_or(1, |member| member.slowness);
        let lasts = (self.plan.disk_sync / 2 + self.dice.below(self.plan.disk_sync)) * slowness;
        self.again(id, life, lasts, LifeEvent::WalDone);
    }

    pub(super) fn wal_done(&mut self, id: MemberId, life: &mut Life) {
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
}

impl Life {
    /// What the wal thread does with all that waited. After a full disk it is called again, and goes on.
    pub(super) fn write_log(&mut self) -> Result<Written, WalError> {
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
}
