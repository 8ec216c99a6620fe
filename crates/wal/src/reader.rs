//! Reading entries back, on whichever thread, while the log goes on.
//!
//! Invariants
//! - What a reader returns is what the log held when the reader was made.
//! - A segment that was let go of meanwhile may hold anything: the next segment's records, or both. What was read is given
//!   back only if none of its segments was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use types::{Index, LogEntry};

use crate::WalError;
use crate::format::{Records, WalRecord};
use crate::log_index::{LogIndex, Slot};
use crate::scan::{READ_ALL_BYTES, READ_SOME_BYTES, SegmentReader};
use crate::segment::Segment;

/// A reader knows of no more places than these; what lies beyond is for the next one.
const PLACES_MAX: usize = 4096;

/// Up to which sequence segments were let go of. Said before anything happens to their files.
#[derive(Clone, Default)]
pub(crate) struct Released(Arc<AtomicU64>);

impl Released {
    pub(crate) fn note(&self, sequence: u64) {
        self.0.fetch_max(sequence, Ordering::SeqCst);
    }

    fn includes(&self, sequence: u64) -> bool {
        sequence <= self.0.load(Ordering::SeqCst)
    }
}

/// Entries of the log that are still to be read, see [`crate::Wal::reader`].
pub struct Reader {
    from: Index,
    end: Index,
    bytes_max: usize,
    /// Ascending; each with the first index that lies elsewhere.
    places: Vec<(Slot, Index)>,
    /// Those of the places.
    segments: Vec<Segment>,
    released: Released,
}

impl Reader {
    /// For entries `from..end`, all of which `index` has; `segment` knows every segment by its sequence.
    pub(crate) fn new(
        index: &LogIndex,
        segment: impl Fn(u64) -> Segment,
        (from, end): (Index, Index),
        bytes_max: usize,
        released: Released,
    ) -> Reader {
        let mut reader = Reader { from, end: from, bytes_max, places: Vec::new(), segments: Vec::new(), released };
        while reader.end < end && reader.places.len() < PLACES_MAX {
            let (slot, until) = index.locate(reader.end).expect("entries between first and last have a slot");
            if reader.segments.last().is_none_or(|last| last.sequence != slot.sequence) {
                reader.segments.push(segment(slot.sequence));
            }
            reader.places.push((slot, until));
            reader.end = until.min(end);
        }
        reader
    }

    /// Reads as many entries as have at most the bytes asked for together, or fewer, but at least one if there is one.
    ///
    /// # Errors
    /// [`WalError::Released`]; [`WalError::Damaged`]; [`WalError::Io`].
    pub fn read(self) -> Result<Vec<LogEntry>, WalError> {
        let read = self.read_unchecked();
        match self.segments.first() {
            // Oldest first: if any of them was, this one was.
            Some(oldest) if self.released.includes(oldest.sequence) => Err(WalError::Released { index: self.from }),
            _ => read,
        }
    }

    fn read_unchecked(&self) -> Result<Vec<LogEntry>, WalError> {
        let mut reading =
            Reading { next: self.from, entries: Vec::new(), bytes: 0, bytes_max: self.bytes_max, full: false };
        let read_bytes = (self.bytes_max as u64).clamp(READ_SOME_BYTES, READ_ALL_BYTES);
        let mut segments = self.segments.iter();
        let mut reader: Option<SegmentReader<'_>> = None;
        for (slot, until) in &self.places {
            if reading.full {
                break;
            }
            // One slot mostly goes on where the one before it ended: in what was read already.
            let reader = match &mut reader {
                Some(reader) if reader.segment().sequence == slot.sequence => reader,
                other => {
                    let segment = segments.next().expect("each segment of the places is there, in order");
                    other.insert(SegmentReader::new(segment, read_bytes))
                }
            };
            reading.take_slot(reader, slot.offset, (*until).min(self.end))?;
        }
        Ok(reading.entries)
    }
}

/// Entries read back so far.
struct Reading {
    next: Index,
    entries: Vec<LogEntry>,
    bytes: usize,
    bytes_max: usize,
    full: bool,
}

impl Reading {
    /// Takes the entries before `until` of the slot at `offset`.
    fn take_slot(&mut self, reader: &mut SegmentReader<'_>, mut offset: u64, until: Index) -> Result<(), WalError> {
        let segment = reader.segment();
        while self.next < until && !self.full {
            let Some(frame) = reader.frame_at(offset)? else {
                let what = format!("entry {} was written here once", self.next);
                return Err(WalError::damaged(&segment.path, offset, what));
            };
            let payload = reader.payload(&frame.header)?;
            for record in Records::new(payload) {
                let record = record.map_err(|fault| WalError::damaged(&segment.path, offset, fault.what))?;
                self.take(record, until);
            }
            offset = frame.header.end();
        }
        Ok(())
    }

    fn take(&mut self, record: WalRecord<'_>, until: Index) {
        let WalRecord::Entry { term, index, kind, data } = record else { return };
        if index != self.next || index >= until || self.full {
            return;
        }
        self.full = self.bytes + data.len() > self.bytes_max && !self.entries.is_empty();
        if self.full {
            return;
        }
        self.bytes += data.len();
        self.entries.push(LogEntry { term, index, kind, data: Bytes::copy_from_slice(data) });
        self.next = index.next();
    }
}
