//! Removing what compactions have made unreadable, little by little.
//!
//! Compactions are taken in the order they were accepted. A pass over one walks the keys in order: it looks for
//! candidates under the readers' lock, then changes them under the writers', so neither is held for long. No read
//! depends on how far a pass has come, for what it removes lies below the compacted revision.
//!
//! A pass begins only when nobody reads below its target any more, or only answers that were given up are left; nobody
//! can begin to while it lasts.
//!
//! After a crash the pass starts again from the first key: `scheduledCompactRev` is stored when a compaction is
//! accepted, `finishedCompactRev` with the last rows of its pass.

use std::ops::ControlFlow;

use backend::Staged;
use types::Record;

use crate::entry::Pruned;
use crate::error::MvccError;
use crate::hash;
use crate::index::Compaction;
use crate::leaves::each_leaf;
use crate::shared::Shared;
use crate::store::{FINISHED_COMPACTION, compaction_mark};

/// What a step did.
#[derive(Debug)]
pub enum PruneStep {
    /// Rows have been dropped from the index: stage this, then go on. May be empty.
    Removed(Staged),
    /// A read at an old revision must end first: try again later, and after a while [`View::break_reads`](crate::View::break_reads).
    Waiting,
    /// Nothing is left to remove. Every compaction is finished, once what was staged is committed.
    Finished,
}

/// A pass over one compaction that has begun: the key to go on from.
#[derive(Debug)]
pub(crate) struct Pass {
    next: Vec<u8>,
    /// Of which state: what [`Pins::replacements`](crate::pins::Pins::replacements) was.
    replacements: u64,
}

/// See [`View::prune_step`](crate::View::prune_step).
pub(crate) fn step(shared: &Shared, max_rows: usize) -> Result<PruneStep, MvccError> {
    let mut current = shared.pass.lock();
    let (compaction, replacements) = {
        let index = shared.index.read();
        (index.pending.front().copied(), shared.pins.replacements())
    };
    let Some(compaction) = compaction else { return Ok(PruneStep::Finished) };
    current.take_if(|pass| pass.replacements != replacements);
    let pass = match &mut *current {
        Some(pass) => pass,
        None => {
            if shared.pins.oldest().is_some_and(|pinned| pinned < compaction.target) {
                return Ok(PruneStep::Waiting);
            }
            if compaction.is_hashed {
                hash::at_compaction(shared, &compaction, replacements)?;
            }
            current.insert(Pass { next: Vec::new(), replacements })
        }
    };
    let (staged, next) = remove(shared, &compaction, pass, max_rows.max(1));
    *current = next.map(|next| Pass { next, replacements });
    Ok(PruneStep::Removed(staged))
}

/// See [`View::break_reads`](crate::View::break_reads).
pub(crate) fn break_reads(shared: &Shared) {
    let compaction = shared.index.read().pending.front().copied();
    if let Some(compaction) = compaction {
        shared.pins.break_below(compaction.target);
    }
}

/// Goes on with the `pass` over `compaction`; also returns where the next step is to go on, if there is one. Removes nothing
/// once the state has been replaced.
fn remove(shared: &Shared, compaction: &Compaction, pass: &Pass, max_rows: usize) -> (Staged, Option<Vec<u8>>) {
    let target = compaction.target;
    let (candidates, mut next) = find(shared, target, &pass.next, max_rows);
    let mut staged = Staged::default();
    let removed = &mut staged.removed_rows;
    let mut index = shared.index.write();
    if shared.pins.replacements() != pass.replacements {
        return (staged, None);
    }
    for candidate in candidates {
        let outcome = index.tree.prune(candidate.key(), target, max_rows - removed.len(), removed);
        if outcome == Pruned::Partly {
            next = Some(candidate.key().to_vec());
            break;
        }
    }
    if next.is_none() {
        index.pending.pop_front();
        staged.values.push(compaction_mark(FINISHED_COMPACTION, target));
    }
    drop(index);
    staged.removed_rows.sort_unstable();
    (staged, next)
}

/// The first keys, from `low` on, of which something is to be removed, and the key after them.
fn find(shared: &Shared, target: i64, low: &[u8], max_keys: usize) -> (Vec<Record>, Option<Vec<u8>>) {
    // Records of the keys; only the key of them matters.
    let (mut found, mut next) = (Vec::new(), None);
    each_leaf(shared, low, &mut |leaf, inside| {
        for at in leaf.aged.within(&inside).places() {
            let entry = &leaf.entries[at];
            if !entry.is_prunable(target) {
                continue;
            }
            if found.len() == max_keys {
                next = Some(entry.key().to_vec());
                return ControlFlow::Break(());
            }
            found.push(entry.record.clone());
        }
        ControlFlow::Continue(())
    });
    (found, next)
}
