//! The state on disk: commits of what was applied, and the rows that a compaction has made superfluous.

use backend::BackendError;
use mvcc::PruneStep;
use types::{Index, MemberId};

use super::Life;
use super::log::ToWal;
use crate::dice::{MS, SECOND};
use crate::world::{LifeEvent, World};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    Idle,
    Waiting,
    Running,
}

impl World {
    pub(super) fn begin_commit(&mut self, id: MemberId, life: &mut Life) {
        if life.commit == Commit::Waiting {
            life.commit = Commit::Running;
            let slowness = self.members.get(&id).map_or(1, |member| member.slowness);
            let lasts = self.plan.disk_sync * 3 * slowness;
            self.again(id, life, lasts, LifeEvent::CommitDone);
        }
    }

    pub(super) fn commit_done(&mut self, id: MemberId, life: &mut Life) {
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

    pub(super) fn prune(&mut self, id: MemberId, life: &mut Life) {
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
}
