//! An entry, once applied anywhere, is the same everywhere, and so is what a revision did.

use std::collections::BTreeMap;

use types::{Index, LogEntry, MemberId, Term};
use watch::RevisionEvents;

use checker::Change;

use crate::dice::Micros;
use crate::translate;

/// The one history that all members are to have.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Of every applied entry: term and checksum, and who applied it first.
    applied: BTreeMap<Index, (Term, u32, MemberId)>,
    /// What every revision did, as the member told that first applied it, and when that was.
    pub(crate) revisions: BTreeMap<i64, (Micros, Vec<Change>)>,
}

impl Ledger {
    /// Notes an applied entry; returns whether nobody had applied it before.
    pub(crate) fn applied(&mut self, entry: &LogEntry, member: MemberId) -> Result<bool, String> {
        let crc = crc32c::crc32c(&entry.data) ^ entry.kind as u32;
        match self.applied.get(&entry.index) {
            None => {
                self.applied.insert(entry.index, (entry.term, crc, member));
                Ok(true)
            }
            Some((term, known, _)) if (*term, *known) == (entry.term, crc) => Ok(false),
            Some((term, _, first)) => Err(format!(
                "entry {} was applied by {first} with term {term}, by {member} with term {} or other contents",
                entry.index, entry.term
            )),
        }
    }

    pub(crate) fn revision(&mut self, events: &RevisionEvents, now: Micros, member: MemberId) -> Result<(), String> {
        let changes: Vec<Change> = events.events.iter().map(translate::change).collect();
        let known = self.revisions.entry(events.revision).or_insert_with(|| (now, changes.clone()));
        if known.1 == changes {
            return Ok(());
        }
        Err(format!("revision {} did {:?} first, and {changes:?} at {member}", events.revision, known.1))
    }

    /// The last entry applied anywhere.
    pub(crate) fn last_applied(&self) -> Index {
        self.applied.last_key_value().map_or(Index(0), |(index, _)| *index)
    }
}
