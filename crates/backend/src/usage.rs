//! What the `key` table holds, and what that takes.
//!
//! redb can only tell by walking the file. So both are kept beside the rows, in the same transactions: the tally is exact,
//! the bytes are reckoned from the sizes.

use crate::tally::Tally;

/// Rows of the `key` table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) tally: Tally,
    /// Bytes of file pages, reckoned.
    pub(crate) bytes: u64,
}

impl Usage {
    pub(crate) fn add(&mut self, key_len: usize, sealed: &[u8]) {
        self.tally.add(sealed);
        self.bytes += page_share(key_len + sealed.len());
    }

    pub(crate) fn subtract(&mut self, key_len: usize, sealed: &[u8]) {
        self.tally.subtract(sealed);
        self.bytes = self.bytes.saturating_sub(page_share(key_len + sealed.len()));
    }

    pub(crate) fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.tally.encode());
        bytes[16..].copy_from_slice(&self.bytes.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Usage> {
        let (tally, bytes) = bytes.split_first_chunk::<16>()?;
        Some(Usage { tally: Tally::decode(tally)?, bytes: u64::from_be_bytes(bytes.try_into().ok()?) })
    }
}

const PAGE: usize = 4096;
const LEAF_HEADER: usize = 4;
/// Two end offsets.
const ENTRY_OVERHEAD: usize = 8;

/// What a row costs of the pages it shares; a row larger than a page has a run of pages, a power of two, to itself.
fn page_share(row_len: usize) -> u64 {
    let entry = row_len + ENTRY_OVERHEAD;
    let rows_a_page = (PAGE - LEAF_HEADER) / entry;
    let share = if rows_a_page > 0 { PAGE.div_ceil(rows_a_page) } else { (entry + LEAF_HEADER).next_power_of_two() };
    share as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_back() {
        let usage = Usage { tally: Tally { rows: 3, seals: 5 }, bytes: 1 << 40 };
        assert_eq!(usage.encode(), *b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x05\0\0\x01\0\0\0\0\0");
        assert_eq!(Usage::decode(&usage.encode()), Some(usage));
        assert_eq!(Usage::decode(&usage.encode()[1..]), None);
    }

    #[test]
    fn rows_share_pages_or_have_runs_of_them() {
        assert_eq!(page_share(4084), 4096);
        assert_eq!(page_share(4085), 8192);
        assert_eq!(page_share(338), 373);
        assert_eq!(page_share(20_000), 32_768);
    }
}
