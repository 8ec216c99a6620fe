//! Reading a segment frame by frame, believing nothing.

use crate::WalError;
use crate::format::{FRAME_HEADER_LEN, FrameHeader, SECTOR, claims_to_be_frame};
use crate::segment::Segment;

/// How much to read at a time when all of a segment is wanted.
pub(crate) const READ_ALL_BYTES: u64 = 256 << 10;
/// How much when a few entries are: a frame of the usual greatest size.
pub(crate) const READ_SOME_BYTES: u64 = 66 << 10;

/// A window on a segment's bytes that moves forward.
pub(crate) struct SegmentReader<'a> {
    segment: &'a Segment,
    read_bytes: u64,
    window: Vec<u8>,
    window_offset: u64,
}

/// A frame whose header and payload are sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoundFrame {
    pub(crate) header: FrameHeader,
    /// The header's checksum, which the next frame repeats.
    pub(crate) crc: u32,
}

impl<'a> SegmentReader<'a> {
    /// A reader that asks the disk for at least `read_bytes` at a time.
    pub(crate) fn new(segment: &'a Segment, read_bytes: u64) -> SegmentReader<'a> {
        SegmentReader { segment, read_bytes, window: Vec::new(), window_offset: 0 }
    }

    pub(crate) fn segment(&self) -> &'a Segment {
        self.segment
    }

    /// `len` bytes from `offset`; the caller has checked that the segment has them.
    pub(crate) fn bytes(&mut self, offset: u64, len: u64) -> Result<&[u8], WalError> {
        let window_end = self.window_offset + self.window.len() as u64;
        if offset < self.window_offset || offset + len > window_end {
            let wanted = len.max(self.read_bytes).min(self.segment.size - offset);
            self.window.resize(wanted as usize, 0);
            // Should reading fail, the window holds nothing.
            self.window_offset = u64::MAX;
            self.segment
                .file
                .read_at(&mut self.window, offset)
                .map_err(|error| WalError::io("read", &self.segment.path, error))?;
            self.window_offset = offset;
        }
        let start = (offset - self.window_offset) as usize;
        Ok(&self.window[start..start + len as usize])
    }

    /// The frame header at `offset` if there is one, written for this place and not longer than the segment.
    pub(crate) fn header_at(&mut self, offset: u64) -> Result<Option<SoundFrame>, WalError> {
        let Some(bytes) = self.header_bytes(offset)? else { return Ok(None) };
        let Some((header, crc)) = FrameHeader::decode(&bytes) else { return Ok(None) };
        let in_place = header.sequence == self.segment.sequence
            && header.offset == offset
            && header.durable_end <= offset
            && header.end() <= self.segment.size;
        Ok(in_place.then_some(SoundFrame { header, crc }))
    }

    /// The frame at `offset` if header and payload are sound, wherever it chains to.
    pub(crate) fn frame_at(&mut self, offset: u64) -> Result<Option<SoundFrame>, WalError> {
        let Some(found) = self.header_at(offset)? else { return Ok(None) };
        let sound = crc32c::crc32c(self.payload(&found.header)?) == found.header.payload_crc;
        Ok(sound.then_some(found))
    }

    pub(crate) fn payload(&mut self, header: &FrameHeader) -> Result<&[u8], WalError> {
        self.bytes(header.offset + FRAME_HEADER_LEN as u64, u64::from(header.payload_len))
    }

    /// The first offset after `offset` where a frame says that all before it, and so `offset` too, was durable.
    pub(crate) fn proof_of_durability(&mut self, offset: u64) -> Result<Option<u64>, WalError> {
        let mut at = offset + SECTOR;
        while at < self.segment.size {
            if let Some(found) = self.header_at(at)?
                && found.header.durable_end > offset
            {
                return Ok(Some(at));
            }
            at += SECTOR;
        }
        Ok(None)
    }

    /// How many bytes at `offset`, where the chain that has come to `previous_crc` breaks, are the remains of its next
    /// frame; 0 if nothing says so.
    ///
    /// A frame is written with zeros up to the end of its page, so what follows it there is not zero only if more was
    /// written. At the start of a page, a recycled file may hold anything old, and earlier crashes may have left
    /// frames of this segment: only a header that belongs here tells.
    pub(crate) fn remains_at(&mut self, offset: u64, previous_crc: u32, page: u64) -> Result<u64, WalError> {
        let found = self.header_at(offset)?;
        if let Some(found) = found
            && found.header.previous_crc == previous_crc
        {
            return Ok(found.header.end() - offset);
        }
        let Some(bytes) = self.header_bytes(offset)? else { return Ok(0) };
        let broken_header = found.is_none() && claims_to_be_frame(&bytes, self.segment.sequence);
        let within_page = !offset.is_multiple_of(page);
        let blank = self.bytes(offset, SECTOR)?.iter().all(|&byte| byte == 0);
        Ok(if broken_header || (within_page && !blank) { SECTOR } else { 0 })
    }

    fn header_bytes(&mut self, offset: u64) -> Result<Option<[u8; FRAME_HEADER_LEN]>, WalError> {
        if offset + SECTOR > self.segment.size {
            return Ok(None);
        }
        let bytes = self.bytes(offset, FRAME_HEADER_LEN as u64)?;
        Ok(bytes.first_chunk().copied())
    }
}
