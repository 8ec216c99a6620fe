//! Revisions that somebody is still reading at.
//!
//! Reads that take as long as they take hold removal up. Answers that are being sent do so for a while only: a client
//! decides how long they take, and one that never reads must not keep old rows for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The pinned revisions. A pass of removal waits until none is below its target.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<State>);

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
    is_loose: bool,
}

/// A [`Pin`] that holds until it is broken.
#[derive(Debug)]
pub(crate) struct LoosePin(Pin);

impl Pins {
    /// To be called under the index lock, after the check that `revision` is not compacted: so no pass that would remove
    /// its rows can have begun.
    pub(crate) fn pin(self: &Arc<Pins>, revision: i64) -> Pin {
        *self.0.lock().firm.entry(revision).or_default() += 1;
        Pin { pins: Arc::clone(self), revision, is_loose: false }
    }

    /// The lowest revision that is pinned.
    pub(crate) fn oldest(&self) -> Option<i64> {
        let state = self.0.lock();
        let firm = state.firm.keys().next();
        let loose = state.loose.range(state.broken_below..).next().map(|(revision, _)| revision);
        firm.into_iter().chain(loose).min().copied()
    }

    /// Breaks the loose pins below `revision`, which is compacted: nobody can pin there any more.
    pub(crate) fn break_below(&self, revision: i64) {
        let mut state = self.0.lock();
        state.broken_below = state.broken_below.max(revision);
    }
}

impl Pin {
    /// From now on the pin may be broken.
    pub(crate) fn loosen(mut self) -> LoosePin {
        let mut state = self.pins.0.lock();
        *state.loose.entry(self.revision).or_default() += 1;
        release(&mut state.firm, self.revision);
        drop(state);
        self.is_loose = true;
        LoosePin(self)
    }
}

impl LoosePin {
    pub(crate) fn is_broken(&self) -> bool {
        let Pin { pins, revision, .. } = &self.0;
        *revision < pins.0.lock().broken_below
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.0.lock();
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
