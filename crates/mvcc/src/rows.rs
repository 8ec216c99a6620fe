//! The rows of a range answer: references until they are written out.
//!
//! A row costs 24 bytes here, for values stay where they are: shared with the index, or in the backend until their turn
//! comes. Of a large plain answer only a few rows are here at a time, however many there are.

use std::fmt;
use std::sync::Arc;
use std::vec;

use bytes::{BufMut, BytesMut};
use types::{LeaseId, Record, put_varint, varint_len};

use crate::entry::{Row, value_field_len, without_value};
use crate::error::MvccError;
use crate::index::Index;
use crate::pins::{LoosePin, Pin};
use crate::range::Cursor;
use crate::shared::Shared;

/// Tag of field 2, length-delimited: `repeated KeyValue kvs = 2` of a range response.
const KVS: u8 = 2 << 3 | 2;

/// Rows to be encoded piece by piece, or taken one by one.
///
/// While some of them have to be looked up or read from the backend they keep compaction from removing rows, until it has
/// waited long enough ([`View::break_reads`](crate::View::break_reads)): then what is left of them is
/// [`MvccError::Compacted`].
pub struct RangeRows {
    /// The only row, so that reading one key allocates nothing.
    one: Option<Cell>,
    many: vec::IntoIter<Cell>,
    /// Those after `many`.
    later: Option<Box<Cursor>>,
    encoded_len: u64,
    keys_only: bool,
    /// Where [`Cell::Stored`] and later rows are; there if there are any.
    source: Option<Source>,
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// Complete; or without its value, if only keys are asked for.
    Held(Record),
    Stored(Row),
}

/// Where stored rows come from.
#[derive(Debug)]
pub(crate) struct Source {
    shared: Arc<Shared>,
    pin: LoosePin,
}

impl Source {
    pub(crate) fn new(shared: &Arc<Shared>, pin: Pin) -> Source {
        Source { shared: Arc::clone(shared), pin: pin.loosen() }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether the rows are kept still.
    pub(crate) fn check(&self) -> Result<(), MvccError> {
        self.pin.check()
    }

    fn load(&self, row: Row) -> Result<Record, MvccError> {
        let found = self.shared.backend.get(row.key())?;
        // Asked afterwards: the pin may break, and the row go, while it is looked for. Then nothing is damaged.
        self.check()?;
        self.shared.must_exist(row, found)
    }
}

impl Cell {
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self, Cell::Stored(_))
    }

    /// The record, if the backend does not have it yet.
    pub(crate) fn or_unstaged(self, index: &Index) -> Cell {
        match self {
            Cell::Stored(row) => match index.unstaged.get(&row.revision()) {
                Some(record) => Cell::Held(record.clone()),
                None => self,
            },
            Cell::Held(_) => self,
        }
    }
}

impl RangeRows {
    pub(crate) fn none() -> RangeRows {
        RangeRows::many(Vec::new(), false, None)
    }

    pub(crate) fn one(cell: Cell, keys_only: bool, source: Option<Source>) -> RangeRows {
        let encoded_len = encoded_len(&cell, keys_only);
        RangeRows { one: Some(cell), many: Vec::new().into_iter(), later: None, encoded_len, keys_only, source }
    }

    pub(crate) fn many(cells: Vec<Cell>, keys_only: bool, source: Option<Source>) -> RangeRows {
        let encoded_len = cells.iter().map(|cell| encoded_len(cell, keys_only)).sum();
        RangeRows { one: None, many: cells.into_iter(), later: None, encoded_len, keys_only, source }
    }

    /// Whole rows that a cursor looks up.
    pub(crate) fn later(cursor: Cursor, encoded_len: u64, source: Source) -> RangeRows {
        let later = Some(Box::new(cursor));
        RangeRows {
            one: None,
            many: Vec::new().into_iter(),
            later,
            encoded_len,
            keys_only: false,
            source: Some(source),
        }
    }

    /// How many rows are left.
    pub fn len(&self) -> usize {
        let later = self.later.as_ref().map_or(0, |cursor| cursor.rows_left());
        usize::from(self.one.is_some()) + self.many.len() + later
    }

    /// About how much memory the rows take that are here, values left out.
    pub fn held_bytes(&self) -> usize {
        size_of_val(self.many.as_slice())
    }

    /// Whether no row is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes [`RangeRows::encode_next`] appends for all rows that are left.
    pub fn encoded_len(&self) -> u64 {
        self.encoded_len
    }

    /// Appends the next rows to `out`, each as an element of `repeated KeyValue kvs = 2`, until `max_bytes` or more have
    /// been appended. Always appends one if any is left. Returns whether more are left.
    ///
    /// # Errors
    /// [`MvccError::Compacted`] if this has taken too long; else if the backend fails.
    pub fn encode_next(&mut self, out: &mut BytesMut, max_bytes: usize) -> Result<bool, MvccError> {
        let start = out.len();
        out.reserve(usize::try_from(self.encoded_len).unwrap_or(max_bytes).min(max_bytes));
        while let Some(cell) = self.next_cell()? {
            let record = self.whole(cell)?;
            if self.keys_only {
                encode_key(&record, out);
            } else {
                encode(&[record.as_bytes()], out);
            }
            if out.len() - start >= max_bytes {
                break;
            }
        }
        Ok(!self.is_empty())
    }

    /// The rows that are left as records; without values if only keys were asked for.
    pub fn records(mut self) -> impl Iterator<Item = Result<Record, MvccError>> {
        std::iter::from_fn(move || {
            let record = self.next_cell().and_then(|cell| cell.map(|cell| self.whole(cell)).transpose()).transpose()?;
            Some(record.map(|record| if self.keys_only { without_value(&record) } else { record }))
        })
    }

    fn next_cell(&mut self) -> Result<Option<Cell>, MvccError> {
        let mut cell = self.one.take().or_else(|| self.many.next());
        if cell.is_none()
            && let Some(cursor) = self.later.as_mut().filter(|cursor| cursor.rows_left() > 0)
        {
            self.many = cursor.look_up(source(&self.source), self.encoded_len)?.into_iter();
            cell = self.many.next();
        }
        let Some(cell) = cell else { return Ok(None) };
        self.encoded_len -= encoded_len(&cell, self.keys_only);
        Ok(Some(cell))
    }

    fn whole(&self, cell: Cell) -> Result<Record, MvccError> {
        match cell {
            Cell::Held(record) => Ok(record),
            Cell::Stored(row) => source(&self.source).load(row),
        }
    }
}

impl fmt::Debug for RangeRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeRows").field("len", &self.len()).field("encoded_len", &self.encoded_len).finish()
    }
}

fn source(source: &Option<Source>) -> &Source {
    source.as_ref().expect("stored and later rows come with their source")
}

fn encoded_len(cell: &Cell, keys_only: bool) -> u64 {
    row_len(match cell {
        Cell::Held(record) if keys_only => record.as_bytes().len() - value_field_len(record),
        Cell::Held(record) => record.as_bytes().len(),
        Cell::Stored(row) => row.len(),
    })
}

/// The length of a row in an answer, by that of its record.
pub(crate) fn row_len(record_len: usize) -> u64 {
    (1 + varint_len(record_len as u64) + record_len) as u64
}

/// Appends one message, given in parts.
fn encode(parts: &[&[u8]], out: &mut BytesMut) {
    out.put_u8(KVS);
    put_varint(out, parts.iter().map(|part| part.len() as u64).sum());
    for part in parts {
        out.put_slice(part);
    }
}

/// Appends a record without its value, which is its last field but the lease.
fn encode_key(record: &Record, out: &mut BytesMut) {
    let bytes = record.as_bytes();
    let lease_len = match record.meta().lease {
        LeaseId::NONE => 0,
        LeaseId(lease) => 1 + varint_len(lease as u64),
    };
    let after_value = bytes.len() - lease_len;
    let value_at = after_value - value_field_len(record);
    encode(&[&bytes[..value_at], &bytes[after_value..]], out);
}
