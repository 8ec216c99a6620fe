//! Reading the log back, and telling a write that never finished from damage.
//!
//! The log's end is where the chain of frames breaks. What was cut by a crash is the last thing that was written and
//! was acknowledged to nobody; so the break is an end only if nothing proves that more had been durable:
//! - no later segment exists (each says where the one before it ended),
//! - no later frame of this segment says that the log was durable past the break,
//! - the log reaches the greatest commit index it has recorded, and the index the caller knows to have been durable.
//!
//! Anything else is damage, and nothing on the disk is changed.

use bytes::Bytes;
use types::{HardState, Index, LogEntry, Term};

use crate::format::{
    FIRST_FRAME, FRAME_HEADER_LEN, FrameHeader, HeaderFault, PAGE, Records, SEGMENT_HEADER_LEN, SegmentHeader,
    WalRecord,
};
use crate::log_index::{LogIndex, Slot};
use crate::scan::{READ_ALL_BYTES, SegmentReader};
use crate::segment::{Directory, Segment};
use crate::{TornTail, WalError, WalMeta};

/// All that reading the segments tells.
pub(crate) struct Recovery {
    pub(crate) meta: WalMeta,
    /// Segments that a restart of the log has made void, oldest first.
    pub(crate) void: Vec<Segment>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) index: LogIndex,
    pub(crate) last_term: Term,
    pub(crate) terms: Vec<(Index, Term)>,
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) tail: Tail,
    pub(crate) torn_tail: Option<TornTail>,
}

/// Where the last segment's chain of frames ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) offset: u64,
    pub(crate) crc: u32,
    /// Of the last sync that has left frames: all before it is known to be durable.
    pub(crate) durable_end: u64,
}

/// Reads the segments with the ascending numbers `sequences`.
pub(crate) fn recover(
    directory: &Directory,
    sequences: &[u64],
    durable: Index,
    load_from: Index,
) -> Result<Recovery, WalError> {
    let mut segments = Vec::with_capacity(sequences.len());
    for &sequence in sequences {
        segments.push(open_segment(directory, sequence)?);
    }
    require_whole_row(directory, &segments)?;
    let start = segments.iter().rposition(|(_, header, _)| header.restart).unwrap_or(0);
    let void = segments.drain(..start).map(|(segment, ..)| segment).collect();

    let (first_segment, first_header, first_crc) = &segments[0];
    let mut replay = Replay {
        index: LogIndex::after(first_header.previous_index),
        last_term: first_header.previous_term,
        terms: vec![(first_header.previous_index, first_header.previous_term)],
        hard_state: first_header.hard_state,
        commit_max: first_header.hard_state.commit,
        entries: Vec::new(),
        load_from,
        tail: Tail { offset: FIRST_FRAME, crc: *first_crc, durable_end: FIRST_FRAME },
    };
    replay.read(first_segment)?;
    for pair in segments.windows(2) {
        let [(segment, ..), (_, next, next_crc)] = pair else { unreachable!("windows of two") };
        replay.require_end(segment, next)?;
        replay.hard_state = next.hard_state;
        replay.commit_max = replay.commit_max.max(next.hard_state.commit);
        replay.tail = Tail { offset: FIRST_FRAME, crc: *next_crc, durable_end: FIRST_FRAME };
        replay.read(&pair[1].0)?;
    }
    let (last_segment, last_header, _) = segments.last().expect("there is at least one segment");
    let torn_tail = replay.judge_end(last_segment, durable)?;
    Ok(Recovery {
        meta: last_header.meta,
        void,
        index: replay.index,
        last_term: replay.last_term,
        terms: replay.terms,
        hard_state: replay.hard_state,
        entries: replay.entries,
        tail: replay.tail,
        torn_tail,
        segments: segments.into_iter().map(|(segment, ..)| segment).collect(),
    })
}

fn open_segment(directory: &Directory, sequence: u64) -> Result<(Segment, SegmentHeader, u32), WalError> {
    let path = directory.segment_path(sequence);
    let open = directory.disk.open(&path, env::OpenMode::WriteDurably);
    let file = open.map_err(|error| WalError::io("open", &path, error))?;
    let size = file.len().map_err(|error| WalError::io("measure", &path, error))?;
    if size < FIRST_FRAME {
        return Err(WalError::damaged(&path, size, "the file ends before its header does"));
    }
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    file.read_at(&mut bytes, 0).map_err(|error| WalError::io("read", &path, error))?;
    let (header, crc) = SegmentHeader::decode(&bytes).map_err(|fault| match fault {
        HeaderFault::NotASegment => WalError::damaged(&path, 0, "it does not start as a log segment does"),
        HeaderFault::Checksum => WalError::damaged(&path, 0, "the header's checksum is wrong"),
        HeaderFault::Version(found) => {
            WalError::NewerFormat { path: path.clone(), found, known: crate::format::FORMAT_VERSION }
        }
    })?;
    if header.sequence != sequence {
        let what = format!("it is segment {:016x} under another name", header.sequence);
        return Err(WalError::damaged(&path, 16, what));
    }
    if size < header.size || header.size % PAGE != 0 || header.size < FIRST_FRAME + PAGE {
        return Err(WalError::damaged(&path, size, format!("the file should have {} bytes", header.size)));
    }
    if header.previous_index.0 == u64::MAX {
        return Err(WalError::damaged(&path, 48, "no entry can follow the index it states"));
    }
    Ok((Segment { sequence, path, file, size: header.size }, header, crc))
}

/// Checks that no segment is missing between others, and that all are of one log.
fn require_whole_row(directory: &Directory, segments: &[(Segment, SegmentHeader, u32)]) -> Result<(), WalError> {
    for pair in segments.windows(2) {
        let [(segment, header, _), (next_segment, next, _)] = pair else { unreachable!("windows of two") };
        if segment.sequence + 1 != next_segment.sequence {
            return Err(WalError::damaged(&directory.segment_path(segment.sequence + 1), 0, "the file is missing"));
        }
        if header.meta != next.meta {
            return Err(WalError::damaged(&next_segment.path, 24, "it belongs to another member or cluster"));
        }
    }
    Ok(())
}

/// The state of the log while its frames are read in order.
struct Replay {
    index: LogIndex,
    last_term: Term,
    /// See [`crate::Recovered::terms`].
    terms: Vec<(Index, Term)>,
    hard_state: HardState,
    commit_max: Index,
    entries: Vec<LogEntry>,
    load_from: Index,
    tail: Tail,
}

impl Replay {
    /// Reads frames from `self.tail` as far as the chain goes.
    fn read(&mut self, segment: &Segment) -> Result<(), WalError> {
        let mut reader = SegmentReader::new(segment, READ_ALL_BYTES);
        while let Some(frame) = reader.frame_at(self.tail.offset)? {
            if frame.header.previous_crc != self.tail.crc {
                break;
            }
            let payload = reader.payload(&frame.header)?;
            self.read_records(segment, &frame.header, payload)?;
            self.tail = Tail { offset: frame.header.end(), crc: frame.crc, durable_end: frame.header.durable_end };
        }
        Ok(())
    }

    fn read_records(&mut self, segment: &Segment, frame: &FrameHeader, payload: &[u8]) -> Result<(), WalError> {
        let offset = frame.offset + FRAME_HEADER_LEN as u64;
        let mut run: Option<(Index, u64)> = None;
        for record in Records::new(payload) {
            let record =
                record.map_err(|fault| WalError::damaged(&segment.path, offset + fault.at as u64, fault.what))?;
            match record {
                WalRecord::HardState(state) => {
                    self.hard_state = state;
                    self.commit_max = self.commit_max.max(state.commit);
                }
                WalRecord::Entry { term, index, kind, data } => {
                    let wanted = run.map_or(index, |(first, count)| Index(first.0 + count));
                    let newest = run.map_or(self.index.last(), |_| Index(wanted.0 - 1));
                    if index != wanted || index.0 == 0 || index.0 == u64::MAX || index.0 > newest.0 + 1 {
                        let what = format!("entry {index} follows entry {newest}");
                        return Err(WalError::damaged(&segment.path, offset, what));
                    }
                    run = Some(run.map_or((index, 1), |(first, count)| (first, count + 1)));
                    self.last_term = term;
                    self.drop_overwritten(index);
                    if self.terms.last().is_none_or(|&(_, newest)| newest != term) {
                        self.terms.push((index, term));
                    }
                    if index >= self.load_from {
                        self.entries.push(LogEntry { term, index, kind, data: Bytes::copy_from_slice(data) });
                    }
                }
            }
        }
        if let Some((first, count)) = run {
            self.index.place(Slot { first, sequence: segment.sequence, offset: frame.offset }, count);
        }
        Ok(())
    }

    fn drop_overwritten(&mut self, from: Index) {
        if let Some(oldest) = self.entries.first() {
            self.entries.truncate(from.0.saturating_sub(oldest.index.0) as usize);
        }
        while self.terms.pop_if(|(first, _)| *first >= from).is_some() {}
    }

    /// Checks that the chain of `segment` reached the end that its successor states.
    fn require_end(&self, segment: &Segment, next: &SegmentHeader) -> Result<(), WalError> {
        let reached = self.tail.offset == next.previous_end && self.tail.crc == next.previous_crc;
        if !reached || self.index.last() != next.previous_index {
            let what = format!("the log breaks off here, but went on to byte {} once", next.previous_end);
            return Err(WalError::damaged(&segment.path, self.tail.offset, what));
        }
        Ok(())
    }

    /// Decides whether the place where the chain breaks is the log's end.
    fn judge_end(&self, segment: &Segment, durable: Index) -> Result<Option<TornTail>, WalError> {
        let (offset, last) = (self.tail.offset, self.index.last());
        let mut reader = SegmentReader::new(segment, READ_ALL_BYTES);
        if let Some(proof) = reader.proof_of_durability(offset)? {
            let what =
                format!("the log breaks off here, but was durable up to this point when byte {proof} was written");
            return Err(WalError::damaged(&segment.path, offset, what));
        }
        if last < self.commit_max {
            let what = format!("the log ends with entry {last}, but entry {} was committed", self.commit_max);
            return Err(WalError::damaged(&segment.path, offset, what));
        }
        if last < durable {
            let what = format!("the log ends with entry {last}, but entry {durable} had been applied");
            return Err(WalError::damaged(&segment.path, offset, what));
        }
        let bytes = reader.remains_at(offset, self.tail.crc, PAGE)?;
        Ok((bytes > 0).then(|| TornTail { path: segment.path.clone(), offset, bytes }))
    }
}
