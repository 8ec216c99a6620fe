//! What was appended and not yet written: frames in one contiguous buffer, laid out as they will lie on disk.
//!
//! A frame's header is filled in when its place is known ([`Batch::seal`]); until then a batch can go to any segment,
//! which is what lets a full disk leave it intact.
//!
//! Invariants
//! - Frames lie one after the other, each padded with zeros to a whole sector.
//! - In front of the first frame lie the bytes that already precede it in its page on disk (`carried`).
//! - The entries of one frame ascend without gap; overwriting starts a new frame.
//! - A frame holds at most `payload_len_max` bytes of records, or else exactly one.

use types::{HardState, Index, LogEntry, Term};

use crate::format::{
    ENTRY_HEADER_LEN, FRAME_HEADER_LEN, FrameHeader, HARD_STATE_LEN, SECTOR, put_entry, put_hard_state,
};

/// The buffer shrinks to this much room after a larger batch.
const BYTES_KEPT: usize = 4 << 20;

/// What a frame holds, for the books kept when it has been written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frame {
    /// Where in the buffer its header starts.
    pub(crate) start: usize,
    payload_len: usize,
    pub(crate) first: Index,
    pub(crate) entry_count: u64,
    pub(crate) last_term: Term,
    pub(crate) hard_state: Option<HardState>,
}

impl Frame {
    /// Bytes on disk, padding included.
    pub(crate) fn len(&self) -> u64 {
        (FRAME_HEADER_LEN as u64 + self.payload_len as u64).next_multiple_of(SECTOR)
    }
}

/// Where frames are to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
    pub(crate) previous_crc: u32,
}

pub(crate) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// Whether the last frame can take more.
    open: bool,
    payload_len_max: usize,
}

impl Batch {
    /// An empty batch after `carried`, the start of the page that the next frame goes into.
    pub(crate) fn new(carried: Vec<u8>, payload_len_max: usize) -> Batch {
        Batch { bytes: carried, frames: Vec::new(), open: false, payload_len_max }
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Bytes the frames take on disk.
    pub(crate) fn len(&self) -> u64 {
        self.frames.iter().map(Frame::len).sum()
    }

    pub(crate) fn push_entry(&mut self, entry: &LogEntry) {
        let continues = self
            .frames
            .last()
            .is_none_or(|frame| frame.entry_count == 0 || entry.index.0 == frame.first.0 + frame.entry_count);
        self.open &= continues;
        let frame = self.frame_for(ENTRY_HEADER_LEN + entry.data.len());
        if frame.entry_count == 0 {
            frame.first = entry.index;
        }
        frame.entry_count += 1;
        frame.last_term = entry.term;
        put_entry(&mut self.bytes, entry);
    }

    pub(crate) fn push_hard_state(&mut self, state: HardState) {
        self.frame_for(HARD_STATE_LEN).hard_state = Some(state);
        put_hard_state(&mut self.bytes, state);
    }

    /// A frame without records: it says that what lies before it is durable.
    pub(crate) fn push_mark(&mut self) {
        self.open = false;
        self.frame_for(0);
    }

    /// The frame that the next `record_len` bytes go to.
    fn frame_for(&mut self, record_len: usize) -> &mut Frame {
        if !self.open || self.frames.last().is_some_and(|frame| !frame.has_room(record_len, self.payload_len_max)) {
            self.close();
            self.frames.push(Frame { start: self.bytes.len(), ..Frame::default() });
            self.bytes.extend_from_slice(&[0; FRAME_HEADER_LEN]);
            self.open = true;
        }
        let frame = self.frames.last_mut().expect("a frame was just opened if there was none");
        frame.payload_len += record_len;
        frame
    }

    /// Ends the open frame, so that the buffer is whole sectors.
    pub(crate) fn close(&mut self) {
        self.open = false;
        if let Some(frame) = self.frames.last() {
            self.bytes.resize(frame.start + frame.len() as usize, 0);
        }
    }

    /// Fills in the headers of `frames` (of a closed batch) for the place they go to; returns the last one's checksum.
    pub(crate) fn seal(&mut self, frames: std::ops::Range<usize>, place: Place) -> u32 {
        let (mut offset, mut previous_crc) = (place.offset, place.previous_crc);
        for frame in &self.frames[frames] {
            let payload = frame.start + FRAME_HEADER_LEN..frame.start + FRAME_HEADER_LEN + frame.payload_len;
            let header = FrameHeader {
                sequence: place.sequence,
                offset,
                durable_end: place.offset,
                payload_len: u32::try_from(frame.payload_len).expect("append checks the size"),
                payload_crc: crc32c::crc32c(&self.bytes[payload.clone()]),
                previous_crc,
            };
            let (bytes, crc) = header.encode();
            self.bytes[frame.start..payload.start].copy_from_slice(&bytes);
            offset += frame.len();
            previous_crc = crc;
        }
        previous_crc
    }

    /// The bytes to write so that frames `frames` follow `carried_len` bytes of their page: from the page's start,
    /// filled up with zeros to `len_max` bytes or the page's end if no other frames follow in the buffer.
    pub(crate) fn pages(&mut self, frames: std::ops::Range<usize>, carried_len: usize, page: usize) -> &[u8] {
        let start = self.frames[frames.start].start - carried_len;
        match self.frames.get(frames.end) {
            Some(next) => &self.bytes[start..next.start],
            None => {
                let end = start + (self.bytes.len() - start).next_multiple_of(page);
                self.bytes.resize(end, 0);
                &self.bytes[start..]
            }
        }
    }

    /// Forgets the first `count` frames, which have been written, but for the last `carried_len` bytes of them.
    pub(crate) fn forget(&mut self, count: usize, carried_len: usize) {
        let closed_len = self.frames.last().map_or(self.bytes.len(), |frame| frame.start + frame.len() as usize);
        self.bytes.truncate(closed_len);
        let kept = self.frames.get(count).map_or(closed_len, |frame| frame.start) - carried_len;
        self.bytes.copy_within(kept.., 0);
        self.bytes.truncate(closed_len - kept);
        self.frames.drain(..count);
        for frame in &mut self.frames {
            frame.start -= kept;
        }
        self.bytes.shrink_to(BYTES_KEPT);
    }

    /// Forgets everything, as if nothing had been appended; the next frame starts a page.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.open = false;
    }
}

impl Frame {
    fn has_room(&self, record_len: usize, payload_len_max: usize) -> bool {
        self.payload_len == 0 || self.payload_len + record_len <= payload_len_max
    }
}
