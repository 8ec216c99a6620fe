//! The bytes of a segment: its header, frames, and the records in them. `docs/wal.md` shows them one by one.
//!
//! Pure encoding: nothing here does I/O. All numbers are little-endian. Every length is checked against the bytes
//! that are really there before anything is made of it.

use types::{ClusterId, EntryKind, HardState, Index, LogEntry, MemberId, Term};

use crate::WalMeta;

/// What the kernel writes at a time. Segments are whole pages, and writes cover whole pages where they can.
pub(crate) const PAGE: u64 = 4096;
/// What the disk writes whole or not at all. Frames start at its multiples, so that no two share one.
pub(crate) const SECTOR: u64 = 512;
/// Where the first frame of a segment lies; the header has the page before it to itself.
pub(crate) const FIRST_FRAME: u64 = PAGE;

pub(crate) const FORMAT_VERSION: u32 = 1;
pub(crate) const SEGMENT_HEADER_LEN: usize = 128;
pub(crate) const FRAME_HEADER_LEN: usize = 48;
pub(crate) const ENTRY_HEADER_LEN: usize = 24;
pub(crate) const HARD_STATE_LEN: usize = 32;

const SEGMENT_MAGIC: [u8; 8] = *b"QUORWAL\n";
const FRAME_MAGIC: [u8; 4] = *b"QWFR";
const FLAG_RESTART: u32 = 1;
const ENTRY_TAG: u8 = 1;
const HARD_STATE_TAG: u8 = 2;

/// What a segment starts with: all that is needed to go on without the segments before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) meta: WalMeta,
    pub(crate) sequence: u64,
    /// The log starts anew here, after `previous`: whatever earlier segments hold is void.
    pub(crate) restart: bool,
    /// Bytes of the whole file.
    pub(crate) size: u64,
    /// The newest entry before this segment.
    pub(crate) previous_index: Index,
    pub(crate) previous_term: Term,
    pub(crate) hard_state: HardState,
    /// Where the segment before ended; 0 if there is none.
    pub(crate) previous_end: u64,
    /// The checksum of the last frame (or the header) of the segment before.
    pub(crate) previous_crc: u32,
}

/// Why bytes are not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    NotASegment,
    Version(u32),
    Checksum,
}

impl SegmentHeader {
    /// The header's bytes and its checksum, which is where the segment's chain starts.
    pub(crate) fn encode(&self) -> ([u8; SEGMENT_HEADER_LEN], u32) {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        put_u32(&mut bytes, 8, FORMAT_VERSION);
        put_u32(&mut bytes, 12, if self.restart { FLAG_RESTART } else { 0 });
        put_u64(&mut bytes, 16, self.sequence);
        put_u64(&mut bytes, 24, self.meta.cluster.0);
        put_u64(&mut bytes, 32, self.meta.member.0);
        put_u64(&mut bytes, 40, self.size);
        put_u64(&mut bytes, 48, self.previous_index.0);
        put_u64(&mut bytes, 56, self.previous_term.0);
        put_u64(&mut bytes, 64, self.hard_state.term.0);
        put_u64(&mut bytes, 72, self.hard_state.vote.0);
        put_u64(&mut bytes, 80, self.hard_state.commit.0);
        put_u64(&mut bytes, 88, self.previous_end);
        put_u32(&mut bytes, 96, self.previous_crc);
        let crc = crc32c::crc32c(&bytes[..124]);
        put_u32(&mut bytes, 124, crc);
        (bytes, crc)
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_LEN]) -> Result<(SegmentHeader, u32), HeaderFault> {
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(HeaderFault::NotASegment);
        }
        let crc = get_u32(bytes, 124);
        if crc32c::crc32c(&bytes[..124]) != crc {
            return Err(HeaderFault::Checksum);
        }
        match get_u32(bytes, 8) {
            FORMAT_VERSION => {}
            other => return Err(HeaderFault::Version(other)),
        }
        let header = SegmentHeader {
            restart: get_u32(bytes, 12) & FLAG_RESTART != 0,
            sequence: get_u64(bytes, 16),
            meta: WalMeta { cluster: ClusterId(get_u64(bytes, 24)), member: MemberId(get_u64(bytes, 32)) },
            size: get_u64(bytes, 40),
            previous_index: Index(get_u64(bytes, 48)),
            previous_term: Term(get_u64(bytes, 56)),
            hard_state: HardState {
                term: Term(get_u64(bytes, 64)),
                vote: MemberId(get_u64(bytes, 72)),
                commit: Index(get_u64(bytes, 80)),
            },
            previous_end: get_u64(bytes, 88),
            previous_crc: get_u32(bytes, 96),
        };
        Ok((header, crc))
    }
}

/// What a frame starts with. Its own checksum covers all of it, and through `payload_crc` the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The segment the frame was written for: tells it from what a recycled file still holds.
    pub(crate) sequence: u64,
    /// Where in the segment the frame was written.
    pub(crate) offset: u64,
    /// All of the segment before this offset was durable when the frame was written.
    pub(crate) durable_end: u64,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    /// The checksum of the frame before, or of the segment header: the chain.
    pub(crate) previous_crc: u32,
}

impl FrameHeader {
    /// The header's bytes, and its checksum for the next frame's `previous_crc`.
    pub(crate) fn encode(&self) -> ([u8; FRAME_HEADER_LEN], u32) {
        let mut bytes = [0; FRAME_HEADER_LEN];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        put_u64(&mut bytes, 8, self.sequence);
        put_u64(&mut bytes, 16, self.offset);
        put_u64(&mut bytes, 24, self.durable_end);
        put_u32(&mut bytes, 32, self.payload_len);
        put_u32(&mut bytes, 36, self.payload_crc);
        put_u32(&mut bytes, 40, self.previous_crc);
        let crc = crc32c::crc32c(&bytes[8..]);
        put_u32(&mut bytes, 4, crc);
        (bytes, crc)
    }

    /// Reads a header; `None` if these bytes are none, or are damaged.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_LEN]) -> Option<(FrameHeader, u32)> {
        if bytes[..4] != FRAME_MAGIC {
            return None;
        }
        let crc = get_u32(bytes, 4);
        if crc32c::crc32c(&bytes[8..]) != crc {
            return None;
        }
        let header = FrameHeader {
            sequence: get_u64(bytes, 8),
            offset: get_u64(bytes, 16),
            durable_end: get_u64(bytes, 24),
            payload_len: get_u32(bytes, 32),
            payload_crc: get_u32(bytes, 36),
            previous_crc: get_u32(bytes, 40),
        };
        Some((header, crc))
    }

    /// Where the next frame starts.
    pub(crate) fn end(&self) -> u64 {
        (self.offset + FRAME_HEADER_LEN as u64 + u64::from(self.payload_len)).next_multiple_of(SECTOR)
    }
}

/// Whether these first bytes of a sector pretend to be a frame of segment `sequence`, sound or not.
pub(crate) fn claims_to_be_frame(bytes: &[u8; FRAME_HEADER_LEN], sequence: u64) -> bool {
    bytes[..4] == FRAME_MAGIC && get_u64(bytes, 8) == sequence
}

/// Appends an entry record.
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) {
    let mut header = [0; ENTRY_HEADER_LEN];
    header[0] = ENTRY_TAG;
    header[1] = entry.kind as u8;
    put_u32(&mut header, 4, u32::try_from(entry.data.len()).expect("append checks the size"));
    put_u64(&mut header, 8, entry.term.0);
    put_u64(&mut header, 16, entry.index.0);
    out.extend_from_slice(&header);
    out.extend_from_slice(&entry.data);
}

/// Appends a hard state record.
pub(crate) fn put_hard_state(out: &mut Vec<u8>, state: HardState) {
    let mut record = [0; HARD_STATE_LEN];
    record[0] = HARD_STATE_TAG;
    put_u64(&mut record, 8, state.term.0);
    put_u64(&mut record, 16, state.vote.0);
    put_u64(&mut record, 24, state.commit.0);
    out.extend_from_slice(&record);
}

/// One record of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalRecord<'a> {
    Entry { term: Term, index: Index, kind: EntryKind, data: &'a [u8] },
    HardState(HardState),
}

/// A payload whose checksum is right has a record that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordFault {
    /// Where in the payload.
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// The records of a payload, in order. Ends after the first fault.
pub(crate) struct Records<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Records<'a> {
        Records { payload, at: 0 }
    }

    fn parse(rest: &'a [u8]) -> Result<(WalRecord<'a>, usize), &'static str> {
        match rest[0] {
            ENTRY_TAG => {
                let header: &[u8; ENTRY_HEADER_LEN] = rest.first_chunk().ok_or("the record is cut short")?;
                let end = ENTRY_HEADER_LEN as u64 + u64::from(get_u32(header, 4));
                if end > rest.len() as u64 {
                    return Err("the entry is longer than its frame");
                }
                let record = WalRecord::Entry {
                    term: Term(get_u64(header, 8)),
                    index: Index(get_u64(header, 16)),
                    kind: EntryKind::from_number(header[1]).ok_or("the entry is of an unknown kind")?,
                    data: &rest[ENTRY_HEADER_LEN..end as usize],
                };
                Ok((record, end as usize))
            }
            HARD_STATE_TAG => {
                let record: &[u8; HARD_STATE_LEN] = rest.first_chunk().ok_or("the record is cut short")?;
                let state = HardState {
                    term: Term(get_u64(record, 8)),
                    vote: MemberId(get_u64(record, 16)),
                    commit: Index(get_u64(record, 24)),
                };
                Ok((WalRecord::HardState(state), HARD_STATE_LEN))
            }
            _ => Err("the record is of an unknown type"),
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<WalRecord<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.payload.len() {
            return None;
        }
        let at = self.at;
        match Records::parse(&self.payload[at..]) {
            Ok((record, len)) => {
                self.at += len;
                Some(Ok(record))
            }
            Err(what) => {
                self.at = self.payload.len();
                Some(Err(RecordFault { at, what }))
            }
        }
    }
}

fn put_u32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hard_state() -> impl Strategy<Value = HardState> {
        any::<(u64, u64, u64)>().prop_map(|(term, vote, commit)| HardState {
            term: Term(term),
            vote: MemberId(vote),
            commit: Index(commit),
        })
    }

    proptest! {
        #[test]
        fn segment_headers_round_trip_and_notice_any_flipped_bit(
            numbers in any::<[u64; 8]>(), crc in any::<u32>(), restart in any::<bool>(), hard_state in hard_state(),
            bit in 0..SEGMENT_HEADER_LEN * 8,
        ) {
            let header = SegmentHeader {
                meta: WalMeta { cluster: ClusterId(numbers[0]), member: MemberId(numbers[1]) },
                sequence: numbers[2], restart, size: numbers[3], previous_index: Index(numbers[4]),
                previous_term: Term(numbers[5]), hard_state, previous_end: numbers[6], previous_crc: crc,
            };
            let (mut bytes, crc) = header.encode();
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok((header, crc)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
        }

        #[test]
        fn frame_headers_round_trip_and_notice_any_flipped_bit(
            numbers in any::<[u64; 3]>(), words in any::<[u32; 3]>(), bit in 0..FRAME_HEADER_LEN * 8,
        ) {
            let header = FrameHeader {
                sequence: numbers[0], offset: numbers[1], durable_end: numbers[2],
                payload_len: words[0], payload_crc: words[1], previous_crc: words[2],
            };
            let (mut bytes, crc) = header.encode();
            prop_assert_eq!(FrameHeader::decode(&bytes), Some((header, crc)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FrameHeader::decode(&bytes), None);
        }

        #[test]
        fn records_round_trip(
            entries in prop::collection::vec((any::<u64>(), any::<u64>(), 0..3_u8, any::<Vec<u8>>()), 0..8),
            state in hard_state(),
        ) {
            let entries: Vec<LogEntry> = entries.into_iter().map(|(term, index, kind, data)| LogEntry {
                term: Term(term), index: Index(index), kind: EntryKind::from_number(kind).unwrap(), data: data.into(),
            }).collect();
            let mut payload = Vec::new();
            for entry in &entries {
                put_entry(&mut payload, entry);
            }
            put_hard_state(&mut payload, state);
            let mut records = Records::new(&payload);
            for entry in &entries {
                let want = WalRecord::Entry {
                    term: entry.term, index: entry.index, kind: entry.kind, data: &entry.data,
                };
                prop_assert_eq!(records.next(), Some(Ok(want)));
            }
            prop_assert_eq!(records.next(), Some(Ok(WalRecord::HardState(state))));
            prop_assert_eq!(records.next(), None);
        }

        #[test]
        fn any_payload_is_read_without_panic(payload in any::<Vec<u8>>()) {
            let _ = Records::new(&payload).count();
        }
    }

    #[test]
    fn an_entry_that_claims_four_gigabytes_is_a_fault() {
        let mut payload = vec![0; ENTRY_HEADER_LEN];
        payload[0] = ENTRY_TAG;
        payload[4..8].fill(0xff);
        let fault = RecordFault { at: 0, what: "the entry is longer than its frame" };
        assert_eq!(Records::new(&payload).collect::<Vec<_>>(), [Err(fault)]);
    }
}
