//! What lies between members: lossy, slow, and sometimes cut.
//!
//! As in the real transport there are two streams from each member to each other, one for entries and one for all
//! else; what goes through one stays in order, what goes through both does not. Snapshots go their own way.

use std::collections::{BTreeMap, BTreeSet};

use types::{MemberId, MessageKind};

use crate::dice::{Dice, MS, Micros};

/// From whom to whom.
type Link = (MemberId, MemberId);

pub(crate) struct Network {
    delay: Micros,
    /// Of a million.
    loss: u64,
    duplication: u64,
    /// Nothing passes.
    cut: BTreeSet<Link>,
    /// These lose so many of a million, and are slower by so much.
    bad: BTreeMap<Link, (u64, Micros)>,
    /// When the last message of a stream arrives.
    last: BTreeMap<(Link, bool), Micros>,
}

impl Network {
    pub(crate) fn new(delay: Micros, loss: u64, duplication: u64) -> Network {
        Network { delay, loss, duplication, cut: BTreeSet::new(), bad: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// When copies of a message arrive, if any do.
    pub(crate) fn arrivals(
        &mut self,
        dice: &mut Dice,
        now: Micros,
        from: MemberId,
        to: MemberId,
        kind: MessageKind,
    ) -> Vec<Micros> {
        let link = (from, to);
        if self.cut.contains(&link) {
            return Vec::new();
        }
        let (loss, slowness) = self.bad.get(&link).copied().unwrap_or((0, 0));
        if dice.happens(self.loss + loss) {
            return Vec::new();
        }
        let at = now + 1 + self.delay / 2 + dice.below(self.delay) + dice.below(slowness + 1);
        let last = self.last.entry((link, kind == MessageKind::Append)).or_default();
        *last = at.max(*last + 1);
        let mut arrivals = vec![*last];
        // A connection hands each message on once. What raft can bear is repeated all the same; a proposal that came twice
        // would be two.
        if kind != MessageKind::Propose && dice.happens(self.duplication) {
            arrivals.push(*last + dice.about(50 * MS));
        }
        arrivals
    }

    pub(crate) fn is_cut(&self, from: MemberId, to: MemberId) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(crate) fn cut(&mut self, from: MemberId, to: MemberId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn spoil(&mut self, from: MemberId, to: MemberId, loss: u64, slowness: Micros) {
        self.bad.insert((from, to), (loss, slowness));
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.cut.is_empty() && self.bad.is_empty()
    }

    /// All links are as new; what the run's plan has of loss stays.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.bad.clear();
    }

    /// Nothing is lost any more.
    pub(crate) fn be_perfect(&mut self) {
        self.heal();
        self.loss = 0;
        self.duplication = 0;
    }
}
