//! Election timeouts from the caller's randomness.
//!
//! raft-rs draws a timeout from the thread's generator whenever it resets itself. A reset shows in what can be seen
//! from outside: term, role or leader change, or the election clock jumps back. [`ElectionTimeout::settle`] draws
//! afresh from our generator at exactly those moments and writes the drawn value over raft-rs's own every time it is
//! called, so that the value in force depends on nothing but events and seed.

use env::Rng;
use raft::{RawNode, StateRole};

use crate::log_store::LogStore;

pub(crate) struct ElectionTimeout {
    rng: Box<dyn Rng>,
    /// In ticks, within `election_ticks..2 * election_ticks`.
    current: usize,
    seen: (u64, StateRole, u64),
    elapsed: usize,
}

impl ElectionTimeout {
    pub(crate) fn new(rng: Box<dyn Rng>, node: &mut RawNode<LogStore>) -> ElectionTimeout {
        let mut timeout = ElectionTimeout { rng, current: 0, seen: observe(node), elapsed: 0 };
        timeout.draw(node);
        timeout
    }

    /// To be called after everything that may have made raft-rs reset itself.
    pub(crate) fn settle(&mut self, node: &mut RawNode<LogStore>) {
        let seen = observe(node);
        let elapsed = node.raft.election_elapsed;
        let was_reset = seen != self.seen || elapsed < self.elapsed;
        (self.seen, self.elapsed) = (seen, elapsed);
        if was_reset {
            self.draw(node);
        } else {
            node.raft.set_randomized_election_timeout(self.current);
        }
    }

    fn draw(&mut self, node: &mut RawNode<LogStore>) {
        let base = node.raft.election_timeout();
        self.current = base + self.rng.below(base as u64) as usize;
        node.raft.set_randomized_election_timeout(self.current);
    }
}

fn observe(node: &RawNode<LogStore>) -> (u64, StateRole, u64) {
    (node.raft.term, node.raft.state, node.raft.leader_id)
}
