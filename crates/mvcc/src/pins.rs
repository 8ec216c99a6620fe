//! Revisions that somebody is still reading at.
//!
//! Reads that take as long as they take hold removal up. Answers that are being sent do so for a while only: a client
//! decides how long they take, and one that never reads must not keep old rows for ever.
//!
//! All pins break when another state takes the place of the store's: what was visible at a revision may be gone then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::MvccError;

/// The pinned revisions. A pass of removal waits until none is below its target.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    state: Mutex<State>,
    /// How often another state has taken the place of the store's.
    replacements: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    firm: BTreeMap<i64, usize>,
    loose: BTreeMap<i64, usize>,
    /// Loose pins below this do not hold any more.
    broken_below: i64,
}

/// Keeps rows that are visible at a revision, and all newer ones, from being removed.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    revision: i64,
    /// What [`Pins::replacements`] was.
    replacements: u64,
    is_loose: bool,
}

/// A [`Pin`] that holds until it is broken.
#[derive(Debug)]
pub(crate) struct LoosePin(Pin);

impl Pins {
    /// To be called under the index lock, after the check that `revision` is not compacted: so no pass that would remove
    /// its rows can have begun.
    pub(crate) fn pin(self: &Arc<Pins>, revision: i64) -> Pin {
        *self.state.lock().firm.entry(revision).or_default() += 1;
        Pin { pins: Arc::clone(self), revision, replacements: self.replacements(), is_loose: false }
    }

    /// Changes only under the index lock.
    pub(crate) fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::Acquire)
    }

    /// Another state takes the place of the store's. To be called under the index lock, before anything of the new
    /// one can be seen.
    pub(crate) fn break_all(&self) {
        self.replacements.fetch_add(1, Ordering::AcqRel);
    }

    /// The lowest revision that is pinned.
    pub(crate) fn oldest(&self) -> Option<i64> {
        let state = self.state.lock();
        let firm = state.firm.keys().next();
        let loose = state.loose.range(state.broken_below..).next().map(|(revision, _)| revision);
        firm.into_iter().chain(loose).min().copied()
    }

    /// Breaks the loose pins below `revision`, which is compacted: nobody can pin there any more.
    pub(crate) fn break_below(&self, revision: i64) {
        let mut state = self.state.lock();
        state.broken_below = state.broken_below.max(revision);
    }
}

impl Pin {
    /// From now on the pin may be broken.
    pub(crate) fn loosen(mut self) -> LoosePin {
        let mut state = self.pins.state.lock();
        *state.loose.entry(self.revision).or_default() += 1;
        release(&mut state.firm, self.revision);
        drop(state);
        self.is_loose = true;
        LoosePin(self)
    }

    /// To be asked after what was to be kept still has been read.
    ///
    /// # Errors
    /// [`MvccError::Compacted`] if another state has taken the place of the store's: what was read may be a mixture.
    pub(crate) fn check(&self) -> Result<(), MvccError> {
        if self.replacements == self.pins.replacements() { Ok(()) } else { Err(MvccError::Compacted) }
    }
}

impl LoosePin {
    /// As [`Pin::check`].
    pub(crate) fn check(&self) -> Result<(), MvccError> {
        let Pin { pins, revision, .. } = &self.0;
        self.0.check()?;
        if *revision < pins.state.lock().broken_below { Err(MvccError::Compacted) } else { Ok(()) }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.state.lock();
        let pins = if self.is_loose { &mut state.loose } else { &mut state.firm };
        release(pins, self.revision);
    }
}

fn release(pins: &mut BTreeMap<i64, usize>, revision: i64) {
    let count = pins.get_mut(&revision).expect("a pin is counted until it is dropped");
    *count -= 1;
    if *count == 0 {
        pins.remove(&revision);
    }
}
