//! Leases end neither before their time nor long after it.

use checker::{Findings, History, LeaseRules, check_leases};

use crate::dice::SECOND;
use crate::world::World;

impl World {
    pub(crate) fn require_leases(&mut self, history: &History, findings: &Findings) {
        let rules = LeaseRules {
            second: SECOND,
            grace: self.plan.tick * self.plan.election_ticks + SECOND,
            drift_permille: 10,
        };
        let seen_at = |revision: i64| self.ledger.revisions.get(&revision).map(|(at, _)| *at);
        if let Err(violation) = check_leases(history, findings, seen_at, &self.disturbed, self.now, rules) {
            self.violated(&violation);
        }
    }
}
