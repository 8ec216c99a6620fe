//! Hands a history to the checker and shows what it found.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anyhow::{Result, anyhow};
use checker::{
    History, LeaseRules, Outcome, Received, Violation, WatchSession, check_leases, check_watch, learn, ordered,
};

/// How many operations or responses of a violation are shown.
const SHOWN: usize = 12;

/// A history that was found good.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    pub operations: usize,
    /// Those of which nobody knows whether they happened.
    pub unknown: usize,
    pub watches: usize,
    pub last_revision: i64,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged { operations, unknown, watches, last_revision } = self;
        write!(f, "{operations} operations ({unknown} unknown), {watches} watches, {last_revision} revisions: good")
    }
}

/// Judges operations, then watches, then leases; `last` is the revision at which all members were found equal.
pub(super) fn judge(mut history: History, watches: &[WatchSession], last: i64) -> Result<Judged> {
    for session in watches {
        learn(&mut history, session).map_err(|violation| watch_report(&violation, session))?;
    }
    let findings = ordered(&history).map_err(|violation| report(&violation, &history))?;
    for session in watches {
        check_watch(&history, &findings, session).map_err(|violation| watch_report(&violation, session))?;
    }
    let mut seen: BTreeMap<i64, u64> = BTreeMap::new();
    for response in watches.iter().flat_map(|session| &session.responses) {
        if let Received::Events { events, .. } = &response.received {
            for event in events {
                let first = seen.entry(event.kv.modified).or_insert(response.at);
                *first = response.at.min(*first);
            }
        }
    }
    let end = history.operations.iter().map(|operation| operation.returned).max().unwrap_or(0);
    let rules = LeaseRules { second: 1_000_000_000, grace: 0, drift_permille: 1 };
    check_leases(&history, &findings, |revision| seen.get(&revision).copied(), &[], end, rules)
        .map_err(|violation| report(&violation, &history))?;
    let unknown = history.operations.iter().filter(|operation| operation.outcome == Outcome::Unknown).count();
    Ok(Judged { operations: history.operations.len(), unknown, watches: watches.len(), last_revision: last })
}

fn report(violation: &Violation, history: &History) -> anyhow::Error {
    let mut text = violation.to_string();
    for &at in violation.operations.iter().take(SHOWN) {
        write!(text, "\n  {at}: {:?}", history.operations[at]).expect("a string takes everything");
    }
    anyhow!(text)
}

fn watch_report(violation: &Violation, session: &WatchSession) -> anyhow::Error {
    let mut text = format!("a watch of {:?} from {}: {violation}", session.keys, session.start);
    for &at in &violation.operations {
        for shown in at.saturating_sub(SHOWN / 2)..=at {
            let Some(response) = session.responses.get(shown) else { continue };
            write!(text, "\n  {shown}: {response:?}").expect("a string takes everything");
        }
    }
    anyhow!(text)
}
