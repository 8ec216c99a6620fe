//! The stream's parts as bytes; `docs/snapshot.md` shows them. Integers are big-endian.

use types::{Index, Term};

use crate::table::Table;
use crate::tally::Tally;

pub(super) const MAGIC: &[u8; 8] = b"QSTATE\r\n";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_LEN: usize = 40;
/// Kind and length before a block's payload.
pub(super) const BLOCK_HEAD_LEN: usize = 5;
pub(super) const CHECKSUM_LEN: usize = 4;
/// Two lengths before every row.
const ROW_HEAD_LEN: usize = 8;
/// A block is full with so many bytes; one row may be larger.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// No row can be that large, for no log entry is.
pub(super) const BLOCK_BYTES_MAX: usize = 96 << 20;

const KIND_KEY: u8 = 0;
const KIND_END: u8 = 0xff;

/// What the stream is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) applied: (Index, Term),
    pub(super) digest: u64,
}

impl Header {
    pub(super) fn encode(self) -> Vec<u8> {
        let (Index(index), Term(term)) = self.applied;
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        for number in [index, term, self.digest] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out
    }

    /// Reads what follows magic and version.
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Header {
        let number = |at: usize| u64::from_be_bytes(*bytes[at..].first_chunk().expect("the header has 40 bytes"));
        Header { applied: (Index(number(12)), Term(number(20))), digest: number(28) }
    }
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Rows of table `key`.
    Rows,
    Values(Table),
    /// The tallies of all tables; nothing follows.
    End,
}

impl Kind {
    pub(super) fn number(self) -> u8 {
        match self {
            Kind::Rows => KIND_KEY,
            Kind::Values(table) => 1 + table as u8,
            Kind::End => KIND_END,
        }
    }

    pub(super) fn of(number: u8) -> Option<Kind> {
        match number {
            KIND_KEY => Some(Kind::Rows),
            KIND_END => Some(Kind::End),
            table => Table::ALL.get(usize::from(table) - 1).copied().map(Kind::Values),
        }
    }
}

/// Appends a row: both lengths, key, sealed value.
pub(super) fn put_row(out: &mut Vec<u8>, key: &[u8], sealed: &[u8]) {
    out.extend_from_slice(&(key.len() as u32).to_be_bytes());
    out.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(sealed);
}

/// Takes the first row off `payload`; `None` if it is cut short.
pub(super) fn take_row<'a>(payload: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (head, rest) = payload.split_at_checked(ROW_HEAD_LEN)?;
    let len = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().expect("the head has 8 bytes")) as usize;
    let (key, rest) = rest.split_at_checked(len(0))?;
    let (sealed, rest) = rest.split_at_checked(len(4))?;
    *payload = rest;
    Some((key, sealed))
}

/// The payload of the last block: the tally of `key`, then those of the small tables.
pub(super) fn encode_tallies(tallies: &[Tally]) -> Vec<u8> {
    tallies.iter().flat_map(|tally| tally.encode()).collect()
}

pub(super) fn decode_tallies(payload: &[u8]) -> Option<Vec<Tally>> {
    let (tallies, rest) = payload.as_chunks::<16>();
    let is_whole = rest.is_empty() && tallies.len() == 1 + Table::ALL.len();
    tallies
        .iter()
        .filter(|_| is_whole)
        .map(|tally| Tally::decode(tally))
        .collect::<Option<Vec<_>>>()
        .filter(|_| is_whole)
}
