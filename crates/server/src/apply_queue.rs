//! What is to be applied, in order, and who does it.
//!
//! Much is applied by the apply thread. A few brief entries, or reads that only have to be told, are not worth the waking
//! of another thread: the thread that stepped consensus does them itself once it has let go of consensus. On a quiet
//! member that is half the way of a request.
//!
//! Invariants
//! - Items are taken by whoever holds the turn, and only then: so they are carried out in the order in which they came.
//! - Nobody waits for the turn but the apply thread, so whoever steps consensus may hold whatever applying does not need.
//! - Nothing is left lying: who leaves something makes sure that the apply thread is awake.

use parking_lot::{Mutex, MutexGuard};

use crate::apply_thread::{Applier, ToApply};
use crate::inbox::Inbox;

pub(crate) struct ApplyQueue {
    inbox: Inbox<ToApply>,
    /// `None` before the apply thread has begun, and after it has ended.
    turn: Mutex<Option<Applier>>,
}

/// More entries are left to the apply thread: while it works, the next ones are on their way.
const ENTRIES_AT_ONCE_MAX: usize = 4;

impl ApplyQueue {
    pub(crate) fn new() -> ApplyQueue {
        ApplyQueue { inbox: Inbox::new(), turn: Mutex::new(None) }
    }

    /// Leaves an item to the apply thread.
    pub(crate) fn send(&self, item: ToApply) {
        self.inbox.send(item);
    }

    /// Leaves an item without waking anyone; [`ApplyQueue::work_off`] or [`ApplyQueue::wake`] is to follow.
    pub(crate) fn push(&self, item: ToApply) {
        self.inbox.push(item);
    }

    pub(crate) fn wake(&self) {
        self.inbox.wake();
    }

    /// Carries out what waits if that is quick and nobody else is at it; otherwise wakes the apply thread.
    pub(crate) fn work_off(&self) {
        if let Some(mut turn) = self.turn.try_lock()
            && let Some(applier) = &mut *turn
            && !applier.is_held_up()
            && self.inbox.take_all_if(&mut applier.work.items, are_quick)
        {
            work(&mut turn);
        }
        self.inbox.wake();
    }

    /// The apply thread's work; returns when it is over.
    pub(crate) fn run(&self, applier: Applier) {
        *self.turn.lock() = Some(applier);
        let mut is_over = false;
        while !is_over {
            self.inbox.wait_filled();
            let mut turn = self.turn.lock();
            if let Some(applier) = &mut *turn {
                self.inbox.take_all_if(&mut applier.work.items, |_| true);
                work(&mut turn);
            }
            is_over = turn.is_none();
        }
    }

    #[cfg(test)]
    pub(crate) fn take_all(&self, into: &mut Vec<ToApply>) {
        self.inbox.take_all(into, None);
    }
}

fn work(turn: &mut MutexGuard<'_, Option<Applier>>) {
    let is_over = turn.as_mut().is_none_or(Applier::work);
    if is_over {
        **turn = None;
    }
}

fn are_quick(items: &[ToApply]) -> bool {
    let mut entries = 0;
    items.iter().all(|item| match item {
        ToApply::Entries(more) => {
            entries += more.len();
            entries <= ENTRIES_AT_ONCE_MAX && more.iter().all(machine::is_brief)
        }
        ToApply::Reads { .. } => true,
        ToApply::Restore(_) | ToApply::Report { .. } | ToApply::Leading(_) | ToApply::Stop => false,
    })
}
