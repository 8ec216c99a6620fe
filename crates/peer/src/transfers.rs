//! Counts the snapshots to, or from, one peer.

use std::time::Duration;

use metrics::{Counter, Family, Histogram, Reading, names};

pub(crate) struct Transfers {
    under_way: Counter,
    arrived: Counter,
    failed: Counter,
    took: Histogram,
}

/// What was counted of the snapshots to, or from, one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferFigures {
    pub under_way: u64,
    pub arrived: u64,
    pub failed: u64,
    /// How long those that arrived took.
    pub took: Reading,
}

/// One under way; it is over, and has failed, when this is dropped.
pub(crate) struct UnderWay<'a> {
    transfers: &'a Transfers,
    has_arrived: bool,
}

impl Transfers {
    pub(crate) fn out() -> Transfers {
        Transfers::told_as(&names::SNAPSHOT_SEND)
    }

    pub(crate) fn inward() -> Transfers {
        Transfers::told_as(&names::SNAPSHOT_RECEIVE)
    }

    fn told_as(family: &Family) -> Transfers {
        let took = Histogram::new(family.buckets());
        Transfers { under_way: Counter::new(), arrived: Counter::new(), failed: Counter::new(), took }
    }

    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.under_way.increment();
        UnderWay { transfers: self, has_arrived: false }
    }

    pub(crate) fn figures(&self) -> TransferFigures {
        TransferFigures {
            under_way: self.under_way.get(),
            arrived: self.arrived.get(),
            failed: self.failed.get(),
            took: self.took.read(),
        }
    }
}

impl UnderWay<'_> {
    pub(crate) fn arrived(mut self, took: Duration) {
        self.has_arrived = true;
        self.transfers.arrived.increment();
        self.transfers.took.observe(took);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.transfers.under_way.subtract(1);
        if !self.has_arrived {
            self.transfers.failed.increment();
        }
    }
}

impl TransferFigures {
    /// Whether there ever was one.
    pub fn is_used(&self) -> bool {
        self.under_way + self.arrived + self.failed > 0
    }
}
