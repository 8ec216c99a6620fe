//! Writing the state out, piece by piece, as whoever sends it asks for it.

use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use redb::TableHandle;
use types::{Index, RowKey, Term};

use super::format::{self, BLOCK_BYTES, Header, Kind};
use crate::error::BackendError;
use crate::read_view::{ReadView, require};
use crate::table::{KEY, Table};
use crate::tally::Tally;

/// The state of one commit as a stream of bytes. Holds one piece at a time, and no lock; as long as it is there, space that
/// later commits free is not used again.
pub struct Export {
    view: Arc<ReadView>,
    next: Next,
    /// Of what the table at hand has given so far.
    tally: Tally,
    /// Of the tables that are through: `key`, then the small ones.
    tallies: Vec<Tally>,
    /// Of everything so far.
    checksum: u32,
}

enum Next {
    Header,
    /// The rows after this one.
    Rows(Option<RowKey>),
    /// Values of the small table with this number, after this key.
    Values(usize, Option<Vec<u8>>),
    End,
    Nothing,
}

impl Export {
    pub(super) fn new(view: Arc<ReadView>) -> Export {
        Export { view, next: Next::Header, tally: Tally::default(), tallies: Vec::new(), checksum: 0 }
    }

    /// The log entry whose state this is.
    pub fn applied(&self) -> (Index, Term) {
        self.view.applied()
    }

    /// What is sent; its small tables say who is a member at that entry.
    pub fn view(&self) -> &Arc<ReadView> {
        &self.view
    }

    /// About how many bytes will come in all.
    pub fn bytes_estimated(&self) -> u64 {
        self.view.usage().bytes
    }

    /// The next piece: some 256 KiB, or one row that is larger. `None` at the end.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`]; [`BackendError::NoSpace`] if the file had to be opened again
    /// because the disk is full. The stream is to be given up then.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, BackendError> {
        loop {
            let made = match mem::replace(&mut self.next, Next::Nothing) {
                Next::Header => {
                    self.next = Next::Rows(None);
                    Ok(Some(Header { applied: self.view.applied(), digest: self.view.digest() }.encode()))
                }
                Next::Rows(last) => self.rows(last),
                Next::Values(number, last) => self.values(number, last.as_deref()),
                Next::End => Ok(Some(block(Kind::End, &format::encode_tallies(&self.tallies)))),
                Next::Nothing => return Ok(None),
            };
            if let Some(mut chunk) = made.map_err(|error| self.view.file().explain(error))? {
                self.checksum = crc32c::crc32c_append(self.checksum, &chunk);
                let checksum = self.checksum.to_be_bytes();
                chunk.extend_from_slice(&checksum);
                self.checksum = crc32c::crc32c_append(self.checksum, &checksum);
                return Ok(Some(chunk));
            }
        }
    }

    fn rows(&mut self, mut last: Option<RowKey>) -> Result<Option<Vec<u8>>, redb::Error> {
        let mut chunk = block_head(Kind::Rows);
        let start = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = self.view.rows_within((start, Bound::Unbounded))?;
        while chunk.len() < BLOCK_BYTES {
            let Some(row) = rows.next()? else { break };
            format::put_row(&mut chunk, row.row.encode().as_ref(), row.sealed());
            self.tally.add(row.sealed());
            last = Some(row.row);
        }
        drop(rows);
        if chunk.len() > format::BLOCK_HEAD_LEN {
            self.next = Next::Rows(last);
            return Ok(Some(with_len(chunk)));
        }
        self.end_table(self.view.usage().tally, KEY.name())?;
        self.next = Next::Values(0, None);
        Ok(None)
    }

    fn values(&mut self, number: usize, last: Option<&[u8]>) -> Result<Option<Vec<u8>>, redb::Error> {
        let Some(&table) = Table::ALL.get(number) else {
            self.next = Next::End;
            return Ok(None);
        };
        let values = self.view.some_values(table, last, BLOCK_BYTES, &mut self.tally)?;
        let Some((last, _)) = values.last() else {
            self.end_table(self.view.tally(table)?, table.name())?;
            self.next = Next::Values(number + 1, None);
            return Ok(None);
        };
        self.next = Next::Values(number, Some(last.clone()));
        let mut chunk = block_head(Kind::Values(table));
        for (key, sealed) in &values {
            format::put_row(&mut chunk, key, sealed);
        }
        Ok(Some(with_len(chunk)))
    }

    /// What was read of a table is what was written, or nothing more is sent.
    fn end_table(&mut self, written: Tally, name: &str) -> Result<(), redb::Error> {
        let found = mem::take(&mut self.tally);
        require(found, written, name)?;
        self.tallies.push(found);
        Ok(())
    }
}

fn block(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut block = block_head(kind);
    block.extend_from_slice(payload);
    with_len(block)
}

/// A block without payload, and without its length, which [`with_len`] fills in.
fn block_head(kind: Kind) -> Vec<u8> {
    vec![kind.number(), 0, 0, 0, 0]
}

fn with_len(mut block: Vec<u8>) -> Vec<u8> {
    let len = (block.len() - format::BLOCK_HEAD_LEN) as u32;
    block[1..format::BLOCK_HEAD_LEN].copy_from_slice(&len.to_be_bytes());
    block
}
