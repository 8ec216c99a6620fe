//! The part of the lessor that only the primary has: when leases lapse and when to checkpoint them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use env::Monotonic;
use types::LeaseId;

/// How many leases may lapse within one second after a new primary took over; more are put off.
/// Three quarters of the thousand a second that the primary can revoke.
const LAPSES_PER_SECOND_MAX: usize = 750;

/// Deadlines of every lease, and two queues over them.
#[derive(Debug, Default)]
pub(crate) struct Primary {
    times: HashMap<LeaseId, Times>,
    /// When to report a lease as lapsed: its deadline at first, later the moment for another try.
    lapses: BTreeSet<(Monotonic, LeaseId)>,
    /// When to checkpoint a lease.
    checkpoints: BTreeSet<(Monotonic, LeaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    deadline: Monotonic,
    lapse_at: Monotonic,
    checkpoint_at: Option<Monotonic>,
    checkpoint: Checkpoint,
    /// How much of the lease's time the deadline lacks because a checkpoint said that it was over.
    withheld: Duration,
}

/// What may be on its way through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checkpoint {
    /// Nothing.
    None,
    /// A checkpoint.
    Taken,
    /// A checkpoint, and behind it, for a renewal, one of 0 that clears it.
    Renewed,
}

impl Primary {
    pub(crate) fn deadline(&self, id: LeaseId) -> Option<Monotonic> {
        self.times.get(&id).map(|times| times.deadline)
    }

    /// Whether a checkpoint will be applied that says less than the time up to a lease's deadline, if it is renewed now.
    pub(crate) fn is_checkpointed(&self, id: LeaseId) -> bool {
        self.times.get(&id).is_some_and(|times| times.checkpoint != Checkpoint::None)
    }

    /// Sets a lease's deadline, in place of any it had, and its next checkpoint.
    pub(crate) fn set(&mut self, id: LeaseId, deadline: Monotonic, checkpoint_at: Option<Monotonic>) {
        self.remove(id);
        self.times.insert(
            id,
            Times {
                deadline,
                lapse_at: deadline,
                checkpoint_at,
                checkpoint: Checkpoint::None,
                withheld: Duration::ZERO,
            },
        );
        self.lapses.insert((deadline, id));
        self.checkpoints.extend(checkpoint_at.map(|at| (at, id)));
    }

    /// Notes what the deadline just set lacks of the lease's time.
    pub(crate) fn withhold(&mut self, id: LeaseId, time: Duration) {
        let times = self.times.get_mut(&id).expect("its deadline was just set");
        times.withheld = time;
    }

    /// Sets the deadline of a lease anew. A checkpoint on its way stays there.
    pub(crate) fn renew(&mut self, id: LeaseId, deadline: Monotonic, checkpoint_at: Option<Monotonic>) {
        let underway = match self.times.get(&id).map(|times| times.checkpoint) {
            Some(Checkpoint::Taken | Checkpoint::Renewed) => Checkpoint::Renewed,
            Some(Checkpoint::None) | None => Checkpoint::None,
        };
        self.set(id, deadline, checkpoint_at);
        self.times.entry(id).and_modify(|times| times.checkpoint = underway);
    }

    /// A checkpoint is applied: the one that was taken.
    pub(crate) fn checkpointed(&mut self, id: LeaseId) {
        self.times.entry(id).and_modify(|times| times.checkpoint = Checkpoint::None);
    }

    /// A checkpoint of 0 is applied: adds to the lease's deadline what a checkpoint had taken, if it still lacks it.
    pub(crate) fn cleared(&mut self, id: LeaseId) {
        let Some(times) = self.times.get_mut(&id) else { return };
        // It was behind the checkpoint in the log, which is lost if it has not come.
        if times.checkpoint == Checkpoint::Renewed {
            times.checkpoint = Checkpoint::None;
        }
        let Times { deadline, checkpoint_at, checkpoint, withheld, .. } = *times;
        if !withheld.is_zero() {
            self.set(id, deadline.plus(withheld), checkpoint_at);
            self.times.entry(id).and_modify(|times| times.checkpoint = checkpoint);
        }
    }

    pub(crate) fn remove(&mut self, id: LeaseId) {
        if let Some(times) = self.times.remove(&id) {
            self.lapses.remove(&(times.lapse_at, id));
            if let Some(at) = times.checkpoint_at {
                self.checkpoints.remove(&(at, id));
            }
        }
    }

    /// Up to `max` leases whose time is over, the longest overdue first. Each is reported again after `retry`.
    pub(crate) fn take_lapsed(&mut self, now: Monotonic, retry: Duration, max: usize) -> Vec<LeaseId> {
        let mut lapsed = Vec::new();
        while lapsed.len() < max {
            let Some(&(at, id)) = self.lapses.first().filter(|(at, _)| *at <= now) else { break };
            self.lapses.remove(&(at, id));
            let times = self.times.get_mut(&id).expect("every queued lease has its times");
            times.lapse_at = now.plus(retry);
            self.lapses.insert((times.lapse_at, id));
            lapsed.push(id);
        }
        lapsed
    }

    /// Up to `max` leases whose checkpoint is due, with their deadlines; the next one of each is due after `interval`.
    pub(crate) fn take_checkpoints(
        &mut self,
        now: Monotonic,
        interval: Duration,
        max: usize,
    ) -> Vec<(LeaseId, Monotonic)> {
        let mut due = Vec::new();
        while due.len() < max {
            let Some(&(at, id)) = self.checkpoints.first().filter(|(at, _)| *at <= now) else { break };
            self.checkpoints.remove(&(at, id));
            let times = self.times.get_mut(&id).expect("every queued lease has its times");
            let next = now.plus(interval);
            times.checkpoint_at = (next < times.deadline).then_some(next);
            times.checkpoint = Checkpoint::Taken;
            self.checkpoints.extend(times.checkpoint_at.map(|at| (at, id)));
            due.push((id, times.deadline));
        }
        due
    }

    /// Puts deadlines off so that no second sees more than [`LAPSES_PER_SECOND_MAX`] of them: after a change of
    /// leader the leases of a whole cluster would else lapse together. Order is kept and no deadline comes earlier.
    pub(crate) fn spread(&mut self) {
        self.spread_to(LAPSES_PER_SECOND_MAX);
    }

    fn spread_to(&mut self, per_second: usize) {
        if self.lapses.len() <= per_second {
            return;
        }
        let mut deadlines: Vec<(Monotonic, LeaseId)> = std::mem::take(&mut self.lapses).into_iter().collect();
        for at in per_second..deadlines.len() {
            let earliest = deadlines[at - per_second].0.plus(Duration::from_secs(1));
            deadlines[at].0 = deadlines[at].0.max(earliest);
        }
        for &(deadline, id) in &deadlines {
            let times = self.times.get_mut(&id).expect("every queued lease has its times");
            (times.deadline, times.lapse_at) = (deadline, deadline);
        }
        self.lapses = deadlines.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn spread_lets_no_second_see_too_many_lapses_and_brings_none_forward() {
        let mut primary = Primary::default();
        let wanted = [5, 5, 5, 5, 5, 6, 6, 30, 30];
        for (id, deadline) in (1..).zip(wanted) {
            primary.set(LeaseId(id), at(deadline), None);
        }
        primary.spread_to(2);
        let spread: Vec<u64> = primary.lapses.iter().map(|(at, _)| at.0.as_secs()).collect();
        assert_eq!(spread, [5, 5, 6, 6, 7, 7, 8, 30, 30]);
        let order: Vec<i64> = primary.lapses.iter().map(|(_, id)| id.0).collect();
        assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
