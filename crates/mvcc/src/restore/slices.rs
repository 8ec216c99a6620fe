//! Reading all rows of the backend, in revision order, on as many threads as it is worth.
//!
//! The revisions are cut into slices. Each reader takes every so-manieth slice and hands its rows over in pieces; the
//! caller's thread takes the pieces in the slices' order. So what it sees does not depend on how the threads run, and
//! a reader is ahead of it by a bounded number of pieces.

use std::hash::BuildHasher;
use std::ops::{ControlFlow, Range};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use backend::{ReadView, Tally};
use hashbrown::DefaultHashBuilder;
use types::{Record, Revision, RowKey};

use crate::entry::{Row, value_field_len};
use crate::error::MvccError;
use crate::shared::not_a_record;

/// A slice has at least so many main revisions: a row of one change each makes about one piece.
const SLICE_REVISIONS_MIN: i64 = 1024;
/// Few enough that looking into slices without rows takes no time.
const SLICES_MAX: i64 = 4096;

/// A piece is full with so many rows or bytes of records.
const PIECE_ROWS: usize = 1024;
const PIECE_BYTES: usize = 256 << 10;
/// So many pieces wait for the caller, of each reader.
const PIECES_AHEAD: usize = 16;

/// Some rows that follow one another.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) rows: Vec<ReadRow>,
    /// Of the whole slice; zero until the piece that ends it.
    pub(super) tally: Tally,
    /// The newest row without content among them. It stands for its revision, not for a key: a backup restored with a
    /// raised revision ends in one (`etcdutl snapshot restore --bump-revision`).
    pub(super) filler: Option<Row>,
    /// The main revision of the last row; 0 if there is none.
    pub(super) revision: i64,
    bytes: usize,
    ends_slice: bool,
}

/// A row in memory.
pub(super) struct ReadRow {
    pub(super) row: Row,
    pub(super) record: Record,
    /// Of the record's key. This and the next are here so that whoever files the row need not fetch the record, which
    /// another processor has.
    pub(super) hash: u64,
    /// How many bytes of the record are its value.
    pub(super) value_len: u32,
}

/// What readers need to know.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) view: &'a ReadView,
    pub(super) hasher: &'a DefaultHashBuilder,
}

impl Reading<'_> {
    /// Calls `take` with all rows, in revision order, on this thread. `readers` other threads read ahead of it; with
    /// fewer than two it reads them itself.
    pub(super) fn run(self, readers: usize, take: &mut dyn FnMut(Piece)) -> Result<(), MvccError> {
        let slices = cut(self.view.revisions()?);
        if readers < 2 || slices.len() < 2 {
            let mut take = |piece| {
                take(piece);
                ControlFlow::Continue(())
            };
            return slices.into_iter().try_for_each(|slice| self.read(slice, &mut take).map(drop));
        }
        let slices = &slices;
        thread::scope(|scope| {
            let start = |nth: usize| {
                let (pieces, taken) = sync_channel(PIECES_AHEAD);
                scope.spawn(move || self.read_ahead(slices.iter().skip(nth).step_by(readers), &pieces));
                taken
            };
            let pipes: Vec<_> = (0..readers).map(start).collect();
            (0..slices.len()).try_for_each(|slice| take_slice(&pipes[slice % readers], take))
        })
    }

    fn read_ahead<'s>(
        self,
        slices: impl Iterator<Item = &'s Range<i64>>,
        pieces: &SyncSender<Result<Piece, MvccError>>,
    ) {
        for slice in slices {
            let mut hand_over = |piece| match pieces.send(Ok(piece)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            match self.read(slice.clone(), &mut hand_over) {
                Ok(ControlFlow::Continue(())) => {}
                // The other end has an error already.
                Ok(ControlFlow::Break(())) => return,
                Err(error) => return drop(pieces.send(Err(error))),
            }
        }
    }

    /// Hands over the rows of one slice, with a last piece that ends it.
    fn read(
        self,
        slice: Range<i64>,
        hand_over: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, MvccError> {
        let mut piece = Piece::default();
        let mut damaged = None;
        let tally = self.view.scan(Revision::first(slice.start), Revision::first(slice.end), &mut |row, bytes| {
            if !piece.push(row, bytes, self.hasher) {
                damaged = Some(row);
                return ControlFlow::Break(());
            }
            if piece.rows.len() < PIECE_ROWS && piece.bytes < PIECE_BYTES {
                return ControlFlow::Continue(());
            }
            hand_over(std::mem::take(&mut piece))
        })?;
        if let Some(row) = damaged {
            return Err(self.view.damaged(not_a_record(row)).into());
        }
        (piece.tally, piece.ends_slice) = (tally, true);
        Ok(hand_over(piece))
    }
}

fn take_slice(pieces: &Receiver<Result<Piece, MvccError>>, take: &mut dyn FnMut(Piece)) -> Result<(), MvccError> {
    loop {
        let piece = pieces.recv().expect("a reader ends its slices, or says why not")?;
        let ends_slice = piece.ends_slice;
        take(piece);
        if ends_slice {
            return Ok(());
        }
    }
}

impl Piece {
    /// Takes in a row that is newer than all before. Returns whether it was one.
    fn push(&mut self, row: RowKey, bytes: &[u8], hasher: &DefaultHashBuilder) -> bool {
        self.revision = row.revision.main;
        if bytes.is_empty() {
            self.filler = Some(Row::put(row.revision, 0));
            return true;
        }
        let Some(record) = Record::from_stored(bytes) else { return false };
        let row = if row.tombstone { Row::tombstone(row.revision) } else { Row::put(row.revision, bytes.len()) };
        let hash = hasher.hash_one(record.key());
        let value_len = value_field_len(&record) as u32;
        self.rows.push(ReadRow { row, record, hash, value_len });
        self.bytes += bytes.len();
        true
    }
}

/// Cuts a range of main revisions into slices.
fn cut(revisions: Range<i64>) -> Vec<Range<i64>> {
    let width = SLICE_REVISIONS_MIN.max((revisions.end - revisions.start) / SLICES_MAX + 1);
    let starts = revisions.clone().step_by(width as usize);
    starts.map(|start| start..revisions.end.min(start.saturating_add(width))).collect()
}
