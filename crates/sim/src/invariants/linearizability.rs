//! What clients were answered is explained by one order of their requests: by revisions, and the beginning by search too.

use checker::{Findings, History, Outcome, Verdict, ordered, search};

use crate::world::World;

/// Operations that are also judged by search.
const SEARCHED: usize = 150;
const SEARCH_STEPS_MAX: usize = 100_000;

impl World {
    /// What the history tells, if it is in order.
    pub(crate) fn require_linearizability(&mut self, history: &History) -> Option<Findings> {
        let findings = match ordered(history) {
            Ok(findings) => findings,
            Err(violation) => {
                self.tell_history(history);
                self.violated(&violation);
                return None;
            }
        };
        self.counts.lease_expiries += findings.expiries.len() as u64;
        if let Err(violation) = self.search_beginning(history) {
            self.tell_history(history);
            self.fail("NotLinearizable", violation);
            return None;
        }
        Some(findings)
    }

    /// Judges the beginning of the history the other way too.
    fn search_beginning(&self, history: &History) -> Result<(), String> {
        let Some(cut) = history.operations.get(SEARCHED).map(|operation| operation.invoked) else { return Ok(()) };
        let mut beginning = History { operations: history.operations[..SEARCHED].to_vec(), ..History::new() };
        let mut seen = beginning.start;
        for operation in &mut beginning.operations {
            match &operation.outcome {
                Outcome::Answered(answer) if operation.returned < cut => seen = seen.max(answer.revision),
                _ if operation.returned < cut => {}
                _ => operation.outcome = Outcome::Unknown,
            }
        }
        beginning.log = history.log.range(..=seen).map(|(revision, changes)| (*revision, changes.clone())).collect();
        match search(&beginning, SEARCH_STEPS_MAX) {
            Verdict::NotLinearizable => Err(format!("no order explains the first {SEARCHED} operations")),
            Verdict::Linearizable | Verdict::GaveUp => Ok(()),
        }
    }
}
