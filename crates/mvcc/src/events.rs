//! History, as watchers that lag behind need it.
//!
//! It is read off the backend's rows, which are in revision order. From the compacted revision on they are all there:
//! removal takes only rows below it, or put at it and put again within the same revision.

use std::ops::ControlFlow;

use types::{KeyRange, Record, Revision, RowKey};

use crate::error::MvccError;
use crate::shared::Shared;

/// How much one [`View::events`](crate::View::events) does.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    /// Rows looked at, whether they are in the range or not.
    pub rows: usize,
    /// Bytes of returned records.
    pub bytes: usize,
}

/// A piece of history.
#[derive(Clone, Debug)]
pub struct EventChunk {
    /// Oldest first. A deletion's record holds nothing but the key.
    pub events: Vec<(RowKey, Record)>,
    /// The revision to go on from: whatever is below it has been looked at.
    pub next: i64,
}

pub(crate) fn read(
    shared: &Shared,
    range: &KeyRange,
    from: i64,
    to_inclusive: i64,
    limits: EventLimits,
) -> Result<EventChunk, MvccError> {
    let (to, _pin) = {
        let index = shared.index.read();
        if from < index.compacted {
            return Err(MvccError::Compacted);
        }
        (to_inclusive.min(index.revision), shared.pins.pin(from))
    };
    let mut chunk = EventChunk { events: Vec::new(), next: from.max(to + 1) };
    if from > to {
        return Ok(chunk);
    }
    let (mut rows_left, mut bytes_left) = (limits.rows, limits.bytes);
    let mut previous_main = None;
    let mut damaged = None;
    shared.backend.scan(Revision::first(from), Revision::first(to + 1), &mut |row, bytes| {
        let starts_revision = previous_main.is_some_and(|main| main != row.revision.main);
        if starts_revision && (rows_left == 0 || bytes_left == 0) {
            chunk.next = row.revision.main;
            return ControlFlow::Break(());
        }
        previous_main = Some(row.revision.main);
        rows_left = rows_left.saturating_sub(1);
        if bytes.is_empty() {
            return ControlFlow::Continue(()); // filler, see `restore`
        }
        match Record::from_stored(bytes) {
            Some(record) if range.contains(record.key()) => {
                bytes_left = bytes_left.saturating_sub(bytes.len());
                chunk.events.push((row, record));
                ControlFlow::Continue(())
            }
            Some(_) => ControlFlow::Continue(()),
            None => {
                damaged = Some(row);
                ControlFlow::Break(())
            }
        }
    })?;
    match damaged {
        Some(row) => Err(MvccError::Damaged { row }),
        None => Ok(chunk),
    }
}
