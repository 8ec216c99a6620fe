//! Going through the whole index without keeping writers out for long.

use std::ops::{ControlFlow, Range};

use parking_lot::RwLockReadGuard;

use crate::shared::Shared;
use crate::tree::{Child, Leaf, Visitor};

/// Leaves looked at under one hold of the readers' lock.
const LEAVES_PER_HOLD: usize = 64;

/// Calls `visit` with every leaf from the key `low` on, in order, and with those of its entries that are not below.
/// Writers come in between, so what is seen is of no one revision; but no key that stays is passed over or seen twice.
pub(crate) fn each_leaf(shared: &Shared, low: &[u8], visit: &mut dyn FnMut(&Leaf, Range<usize>) -> ControlFlow<()>) {
    let mut low = low.to_vec();
    let mut index = shared.index.read();
    loop {
        let mut hold = Hold { visit, leaves_left: LEAVES_PER_HOLD, next: None };
        let _ = index.tree.visit(&low, None, &mut hold);
        let Some(next) = hold.next else { return };
        low = next;
        RwLockReadGuard::bump(&mut index);
    }
}

struct Hold<'v> {
    visit: &'v mut dyn FnMut(&Leaf, Range<usize>) -> ControlFlow<()>,
    leaves_left: usize,
    /// Where to go on after a pause.
    next: Option<Vec<u8>>,
}

impl Visitor for Hold<'_> {
    fn passes(&mut self, _: &Child) -> bool {
        false
    }

    fn leaf(&mut self, leaf: &Leaf, inside: Range<usize>, _: i64) -> ControlFlow<()> {
        if self.leaves_left == 0 {
            self.next = Some(leaf.entries[inside.start].key().to_vec());
            return ControlFlow::Break(());
        }
        self.leaves_left -= 1;
        (self.visit)(leaf, inside)
    }
}
