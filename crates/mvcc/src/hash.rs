//! The hash by which members, and etcd's own tools, compare their data.
//!
//! CRC-32C over the word `key` and then over row key and record of every row up to a revision, leaving out what
//! compaction has removed or still has to. So it does not depend on how far removal has come.
//!
//! Rows up to the compacted revision count only if they belong to the *keep set*: per key the newest row at the hashed
//! revision, if it is a put. If that set is empty, every row counts that compaction has kept. A deletion at exactly
//! the compacted revision never counts (releases before 3.5.16 removed it).
//!
//! Source: etcd-io/etcd `server/storage/mvcc/hash.go`, `kvstore_compaction.go`.

use std::ops::ControlFlow;

use types::Revision;

use crate::entry::Row;
use crate::error::MvccError;
use crate::index::Compaction;
use crate::leaves::each_leaf;
use crate::shared::Shared;

/// How many hashes made at compactions are kept.
const KEPT_HASHES: usize = 10;

/// A hash, and what it is the hash of. Only hashes of which both revisions are equal can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// The compacted revision that the hash leaves out rows for; -1 for none.
    pub compact_revision: i64,
    /// The revision up to which rows are hashed.
    pub hash_revision: i64,
}

/// See [`View::hash_kv`](crate::View::hash_kv).
pub(crate) fn on_demand(shared: &Shared, revision: i64) -> Result<HashKv, MvccError> {
    shared.undisturbed(|| try_on_demand(shared, revision))
}

fn try_on_demand(shared: &Shared, revision: i64) -> Result<HashKv, MvccError> {
    let made = shared.hashes.lock().iter().find(|made| made.hash_revision == revision && revision > 0).copied();
    if let Some(made) = made {
        return Ok(made);
    }
    let (compact_revision, hash_revision, pin) = {
        let index = shared.index.read();
        if revision > 0 {
            index.readable(revision)?;
        }
        let hash_revision = if revision == 0 { index.revision } else { revision };
        // What is newer than the pin stays, and of what is older all that counts.
        (index.compacted, hash_revision, shared.pins.pin(index.compacted))
    };
    let keep = keep_set(shared, hash_revision, compact_revision, false);
    let hash = hash_rows(shared, hash_revision, compact_revision, keep)?;
    pin.check()?;
    Ok(HashKv { hash, compact_revision, hash_revision })
}

/// Hashes what `compaction` covers and remembers it. To be called before its removal begins and after that of the one
/// before has ended. Comes to nothing if the state is replaced meanwhile: `replacements` is what their number was.
pub(crate) fn at_compaction(shared: &Shared, compaction: &Compaction, replacements: u64) -> Result<(), MvccError> {
    let Compaction { target, previous, .. } = *compaction;
    let keep = keep_set(shared, target, previous, true);
    let hash = hash_rows(shared, target, previous, keep)?;
    let mut hashes = shared.hashes.lock();
    if shared.pins.replacements() != replacements {
        return Ok(());
    }
    if hashes.len() == KEPT_HASHES {
        hashes.pop_front();
    }
    hashes.push_back(HashKv { hash, compact_revision: previous, hash_revision: target });
    Ok(())
}

fn hash_rows(shared: &Shared, revision: i64, compacted: i64, keep: Vec<Revision>) -> Result<u32, MvccError> {
    let mut hash = crc32c::crc32c(b"key");
    let mut keep = keep.into_iter().peekable();
    shared.backend.scan(Revision::first(0), Revision::first(revision.saturating_add(1)), &mut |row, bytes| {
        if row.revision.main <= compacted {
            while keep.next_if(|&kept| kept < row.revision).is_some() {}
            let is_kept = keep.next_if_eq(&row.revision).is_some();
            if !is_kept || row.tombstone && row.revision.main == compacted {
                return ControlFlow::Continue(());
            }
        }
        hash = crc32c::crc32c_append(hash, row.encode().as_ref());
        hash = crc32c::crc32c_append(hash, bytes);
        ControlFlow::Continue(())
    })?;
    Ok(hash)
}

/// The rows up to the compacted revision that count, ascending.
///
/// `keeps_tombstone` says whether a deletion at exactly `revision` makes the keep set other than empty; it does in the
/// set a compaction makes, not in the one a request makes.
fn keep_set(shared: &Shared, revision: i64, compacted: i64, keeps_tombstone: bool) -> Vec<Revision> {
    if compacted < 0 {
        return Vec::new();
    }
    let (mut rows, is_empty) = newest_puts(shared, revision, compacted, keeps_tombstone);
    if is_empty {
        // Nothing lives at `revision`: then all that compaction kept counts.
        (rows, _) = newest_puts(shared, compacted, compacted, false);
    }
    rows.sort_unstable();
    rows
}

/// The newest row at `revision` of every key, as far as it is a put and not above `compacted`; and whether there is
/// none of any key, above it or not.
fn newest_puts(shared: &Shared, revision: i64, compacted: i64, keeps_tombstone: bool) -> (Vec<Revision>, bool) {
    let filler = shared.index.read().filler.filter(|filler| filler.main <= compacted);
    let (mut rows, mut is_empty) = (Vec::from_iter(filler.map(Row::revision)), filler.is_none());
    each_leaf(shared, b"", &mut |leaf, inside| {
        for row in leaf.entries[inside].iter().filter_map(|entry| entry.row_at(revision)) {
            if row.is_tombstone() {
                is_empty &= !(keeps_tombstone && row.main == revision);
                continue;
            }
            is_empty = false;
            if row.main <= compacted {
                rows.push(row.revision());
            }
        }
        ControlFlow::Continue(())
    });
    (rows, is_empty)
}
