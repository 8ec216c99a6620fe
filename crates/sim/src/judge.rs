//! The end of a run: was what clients saw right?

use std::collections::BTreeMap;

use checker::History;

use crate::world::World;

impl World {
    pub(crate) fn judge(&mut self) {
        if self.found.is_some() {
            return;
        }
        let end = self.now;
        for operation in self.operations.iter_mut().filter(|operation| operation.returned == 0) {
            operation.returned = end;
        }
        let log: BTreeMap<_, _> =
            self.ledger.revisions.iter().map(|(revision, (_, changes))| (*revision, changes.clone())).collect();
        let seen = self.ledger.revisions.iter().map(|(revision, (at, _))| (*revision, *at)).collect();
        let history = History { operations: self.operations.clone(), log, seen, start: 1 };
        let Some(findings) = self.require_linearizability(&history) else { return };
        self.require_watches(&history, &findings);
        if self.found.is_none() {
            self.require_leases(&history, &findings);
        }
    }

    /// Everything that clients and store did, for whoever replays.
    pub(crate) fn tell_history(&mut self, history: &History) {
        for (revision, changes) in &history.log {
            self.say("revision", (revision, self.ledger.revisions.get(revision).map(|(at, _)| *at), changes));
        }
        for (at, operation) in history.operations.iter().enumerate() {
            self.say("operation", (at, operation));
        }
    }
}
