//! The bytes of one simulated file, sparse and cheap to copy, and which of its blocks take space.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The unit in which bytes are shared between copies and space is counted.
pub(super) const BLOCK: u64 = 4096;

type Block = Arc<[u8; BLOCK as usize]>;

/// A file's length and bytes. Blocks that are not held read as zero; bytes past `len` are zero in every block held.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) len: u64,
    blocks: BTreeMap<u64, Block>,
}

impl Content {
    /// Fills `buf` from `offset`; the caller has checked that it lies within `len`.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) {
        for (block, within, piece) in pieces(offset, buf.len() as u64) {
            match self.blocks.get(&block) {
                Some(bytes) => buf[piece].copy_from_slice(&bytes[within]),
                None => buf[piece].fill(0),
            }
        }
    }

    /// Writes `data`, growing the file if need be.
    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        for (block, within, piece) in pieces(offset, data.len() as u64) {
            let held = self.blocks.entry(block).or_insert_with(|| Arc::new([0; BLOCK as usize]));
            Arc::make_mut(held)[within].copy_from_slice(&data[piece]);
        }
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Writes `len` zeros, growing the file if need be.
    pub(super) fn write_zeros(&mut self, offset: u64, len: u64) {
        self.zero(offset..offset + len);
        self.len = self.len.max(offset + len);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.zero(len..self.len.next_multiple_of(BLOCK));
        }
        self.len = len;
    }

    /// Takes every block that `range` touches from `other`, and its length if that is greater.
    pub(super) fn adopt(&mut self, other: &Content, range: Range<u64>) {
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            match other.blocks.get(&block) {
                Some(bytes) => self.blocks.insert(block, Arc::clone(bytes)),
                None => self.blocks.remove(&block),
            };
        }
        self.len = self.len.max(other.len);
    }

    fn zero(&mut self, range: Range<u64>) {
        let touched: Vec<u64> =
            self.blocks.range(range.start / BLOCK..range.end.div_ceil(BLOCK)).map(|(&block, _)| block).collect();
        for block in touched {
            let start = range.start.saturating_sub(block * BLOCK);
            let end = (range.end - block * BLOCK).min(BLOCK);
            if start == 0 && end == BLOCK {
                self.blocks.remove(&block);
            } else if let Some(bytes) = self.blocks.get_mut(&block) {
                Arc::make_mut(bytes)[start as usize..end as usize].fill(0);
            }
        }
    }
}

/// Cuts `len` bytes from `offset` at block borders: block number, range within the block, range within the data.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (block, start) = (at / BLOCK, at % BLOCK);
        let stop = (BLOCK).min(start + end - at);
        let piece = (at - offset) as usize..(at - offset + stop - start) as usize;
        at += stop - start;
        Some((block, start as usize..stop as usize, piece))
    })
}

/// A set of block numbers as sorted ranges that neither touch nor overlap.
#[derive(Clone, Default)]
pub(super) struct Extents(Vec<Range<u64>>);

impl Extents {
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    pub(super) fn contains(&self, block: u64) -> bool {
        self.0.iter().any(|range| range.contains(&block))
    }

    /// How many blocks of `blocks` are not in the set.
    pub(super) fn missing(&self, blocks: &Range<u64>) -> u64 {
        let present: u64 =
            self.0.iter().map(|held| held.end.min(blocks.end).saturating_sub(held.start.max(blocks.start))).sum();
        (blocks.end - blocks.start) - present
    }

    pub(super) fn insert(&mut self, mut blocks: Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        self.0.retain(|held| {
            let apart = held.end < blocks.start || held.start > blocks.end;
            if !apart {
                blocks = held.start.min(blocks.start)..held.end.max(blocks.end);
            }
            apart
        });
        let at = self.0.partition_point(|held| held.start < blocks.start);
        self.0.insert(at, blocks);
    }

    /// Drops every block from `first` on.
    pub(super) fn truncate(&mut self, first: u64) {
        self.0.retain(|held| held.start < first);
        if let Some(last) = self.0.last_mut() {
            last.end = last.end.min(first);
        }
    }
}

/// The blocks that `len` bytes from `offset` touch.
pub(super) fn blocks_of(offset: u64, len: u64) -> Range<u64> {
    offset / BLOCK..(offset + len).div_ceil(BLOCK)
}
