//! How many rows a table holds, and the sum of their seals.
//!
//! redb checks the checksums of its pages only when it repairs a file. A page that is sound in itself but not the newest
//! (a write was lost, or went elsewhere) would pass. So every table's tally is kept in another table, in the same
//! transactions: what a reader of the whole table finds must come to the same.

use std::ops::AddAssign;

use crate::seal::seal_of;

/// Of a table, or of a part of one; parts add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub(crate) rows: u64,
    /// Wraps.
    pub(crate) seals: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, sealed: &[u8]) {
        self.rows += 1;
        self.seals = self.seals.wrapping_add(seal_of(sealed).into());
    }

    pub(crate) fn subtract(&mut self, sealed: &[u8]) {
        self.rows = self.rows.saturating_sub(1);
        self.seals = self.seals.wrapping_sub(seal_of(sealed).into());
    }

    pub(crate) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.rows.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seals.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Tally> {
        let (rows, seals) = bytes.split_first_chunk::<8>()?;
        Some(Tally { rows: u64::from_be_bytes(*rows), seals: u64::from_be_bytes(seals.try_into().ok()?) })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, part: Tally) {
        self.rows += part.rows;
        self.seals = self.seals.wrapping_add(part.seals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_read_back() {
        let tally = Tally { rows: 3, seals: 1 << 40 };
        assert_eq!(tally.encode(), *b"\0\0\0\0\0\0\0\x03\0\0\x01\0\0\0\0\0");
        assert_eq!(Tally::decode(&tally.encode()), Some(tally));
        assert_eq!(Tally::decode(&tally.encode()[1..]), None);
    }

    #[test]
    fn what_was_added_and_taken_away_leaves_no_trace() {
        let (one, other) = (*b"value\x01\0\0\0", *b"value\xff\xff\xff\xff");
        let mut tally = Tally::default();
        tally.add(&one);
        let before = tally;
        tally.add(&other);
        assert_eq!(tally, Tally { rows: 2, seals: 1 << 32 });
        tally.subtract(&other);
        assert_eq!(tally, before);
    }
}
