//! Watchers see every change of theirs once, whole and in order.

use checker::{Findings, History, check_watch};

use crate::dice::SECOND;
use crate::world::World;

impl World {
    pub(crate) fn require_watches(&mut self, history: &History, findings: &Findings) {
        self.complete_sessions();
        for watcher in 0..self.watchers.len() {
            for session in 0..self.watchers[watcher].sessions.len() {
                let watched = &self.watchers[watcher].sessions[session];
                if let Err(violation) = check_watch(history, findings, watched) {
                    let what = format!("watcher {watcher}, session {session}: {}", violation.what);
                    return self.fail(&format!("{:?}", violation.rule), what);
                }
            }
        }
    }

    /// Watches that were open all through the quiet end have seen everything.
    fn complete_sessions(&mut self) {
        let last = self.ledger.revisions.keys().next_back().copied().unwrap_or(1);
        let quiet_since = self.now.saturating_sub(10 * SECOND);
        for watcher in &mut self.watchers {
            let Some((open, _)) = watcher.open else { continue };
            let session = &mut watcher.sessions[open];
            if session.responses.first().is_some_and(|created| created.at < quiet_since) {
                session.complete_to = Some(last);
            }
        }
    }
}
