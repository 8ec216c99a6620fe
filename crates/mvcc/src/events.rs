//! History, as watchers that lag behind need it.
//!
//! It is read off the backend's rows, which are in revision order. From the compacted revision on they are all there:
//! removal takes only rows below it, or put at it and put again within the same revision.

use std::ops::ControlFlow;

use types::{KeyRange, Record, Revision, RowKey};

use crate::error::MvccError;
use crate::shared::{Shared, not_a_record};

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
    shared.undisturbed(|| try_read(shared, range, from, to_inclusive, limits))
}

fn try_read(
    shared: &Shared,
    range: &KeyRange,
    from: i64,
    to_inclusive: i64,
    limits: EventLimits,
) -> Result<EventChunk, MvccError> {
    let (to, pin) = {
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
        if stored_key(bytes).is_some_and(|key| !range.contains(key)) {
            return ControlFlow::Continue(());
        }
        let Some(record) = Record::from_stored(bytes) else {
            damaged = Some(row);
            return ControlFlow::Break(());
        };
        bytes_left = bytes_left.saturating_sub(bytes.len());
        chunk.events.push((row, record));
        ControlFlow::Continue(())
    })?;
    pin.check()?;
    match damaged {
        Some(row) => Err(shared.backend.damaged(not_a_record(row)).into()),
        None => Ok(chunk),
    }
}

/// The key of a stored record, which is its first field, without making a record of it.
fn stored_key(bytes: &[u8]) -> Option<&[u8]> {
    const KEY: u8 = 1 << 3 | 2;
    let (&KEY, mut rest) = bytes.split_first()? else { return None };
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        len |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return rest.get(..len);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::RecordMeta;

    #[test]
    fn the_key_is_found_without_decoding_the_rest() {
        for len in [1, 5, 127, 128, 300, 20_000] {
            let key = vec![b'k'; len];
            let record = Record::put(&key, b"value", RecordMeta { version: 1, ..RecordMeta::default() });
            assert_eq!(stored_key(record.as_bytes()), Some(key.as_slice()));
            assert_eq!(stored_key(&record.as_bytes()[..len]), None);
        }
        assert_eq!(stored_key(b""), None);
        assert_eq!(stored_key(&[0x0a; 40]), Some(&[0x0a; 10][..]));
        assert_eq!(stored_key(&[0xff; 40]), None);
    }
}
