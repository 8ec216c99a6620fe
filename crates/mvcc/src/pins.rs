//! Revisions that somebody is still reading at.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The pinned revisions. A pass of removal waits until none is below its target.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<BTreeMap<i64, usize>>);

/// Keeps rows that are visible at a revision, and all newer ones, from being removed.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    revision: i64,
}

impl Pins {
    /// To be called under the index lock, after the check that `revision` is not compacted: so no pass that would remove
    /// its rows can have begun.
    pub(crate) fn pin(self: &Arc<Pins>, revision: i64) -> Pin {
        *self.0.lock().entry(revision).or_default() += 1;
        Pin { pins: Arc::clone(self), revision }
    }

    /// The lowest pinned revision.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.0.lock().keys().next().copied()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.0.lock();
        let count = pins.get_mut(&self.revision).expect("a pin is counted until it is dropped");
        *count -= 1;
        if *count == 0 {
            pins.remove(&self.revision);
        }
    }
}
