//! What planted faults do to a life: none of it happens without one.

use bytes::Bytes;
use types::{EntryKind, LogEntry, MemberId};

use super::Life;
use crate::planted::{Plant, voter_change};
use crate::snapshot::StateCopy;
use crate::world::World;

impl World {
    pub(super) fn change_voters_too_early(&mut self, life: &mut Life, entries: &[LogEntry]) {
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange) {
            if let Some(change) = voter_change(&entry.data) {
                self.planted += 1;
                // Raft may refuse it; then the fault just does not strike.
                let _ = life.driver.conf_changed(change);
            }
        }
    }

    pub(super) fn spoil_copy(&mut self, mut copy: StateCopy) -> StateCopy {
        if self.plant == Some(Plant::SnapshotWithoutRow) {
            let revisions = self.ledger.revisions.iter().rev();
            let puts = revisions.filter(|(_, (_, changes))| changes.first().is_some_and(|change| change.put.is_some()));
            let newest = puts.map(|(revision, _)| *revision).next();
            copy.without =
                newest.map(|main| types::RowKey { revision: types::Revision::first(main), tombstone: false });
            self.planted += u64::from(newest.is_some());
        }
        if self.plant == Some(Plant::StaleSnapshot) {
            let old = self.old_copy.get_or_insert_with(|| copy.clone()).clone();
            if old.applied.0 < copy.applied.0 {
                self.planted += 1;
                return StateCopy { applied: copy.applied, claims: Some(copy.applied), ..old };
            }
        }
        copy
    }

    pub(super) fn spoil_entries(&mut self, id: MemberId, life: &mut Life, entries: &mut [LogEntry]) {
        let is_victim = self.members.keys().next() == Some(&id);
        for entry in entries.iter_mut().filter(|entry| entry.kind == EntryKind::Normal) {
            if life.replays_from == Some(entry.index) && self.strikes(Plant::AppliedBeforeData) {
                // It counted as applied, and what it did was lost with the crash.
                entry.data = Bytes::new();
            }
            if is_victim && self.plant == Some(Plant::ApplyTwice) && entry.data.is_empty() && !life.last_data.is_empty()
            {
                self.planted += 1;
                entry.data = life.last_data.clone();
            } else if is_victim
                && self.plant == Some(Plant::SkipEntry)
                && !entry.data.is_empty()
                && self.dice.percent(1)
            {
                self.planted += 1;
                entry.data = Bytes::new();
            }
            if !entry.data.is_empty() {
                life.last_data = entry.data.clone();
            }
        }
    }

    /// Removes what a compaction has to keep: a deletion at exactly the compacted revision.
    pub(super) fn drop_tombstone(&mut self, life: &Life, compacted: i64) {
        if self.plant != Some(Plant::DropTombstone) {
            return;
        }
        let Some((_, changes)) = self.ledger.revisions.get(&compacted) else { return };
        for (sub, _) in changes.iter().enumerate().filter(|(_, change)| change.put.is_none()) {
            self.planted += 1;
            let revision = types::Revision { main: compacted, sub: sub as i64 };
            let row = types::RowKey { revision, tombstone: true };
            life.backend.stage(backend::Staged { removed_rows: vec![row], ..backend::Staged::default() });
        }
    }
}
