//! The log itself: append, sync, read back, release.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use env::Disk;
use types::{HardState, Index, LogEntry, MemberId, Term};

use crate::batch::{Batch, Frame, Place};
use crate::format::{ENTRY_HEADER_LEN, FIRST_FRAME, FRAME_HEADER_LEN, PAGE, SECTOR, SegmentHeader};
use crate::log_index::{LogIndex, Slot};
use crate::reader::{Reader, Released};
use crate::recovery::{self, Recovery, Tail};
use crate::segment::{Directory, Segment, Spare, SpareMaker, parse_name};
use crate::{Recovered, Space, WalError, WalMeta, WalOptions};

/// Records are gathered into frames of this size: what must be read and checked to read one entry back.
const FRAME_PAYLOAD_BYTES: u64 = 64 << 10;
/// More spares than these are removed.
const SPARES_MAX: usize = 2;

/// The raft log of one member on disk. It has one writer: whoever owns this value.
pub struct Wal {
    directory: Directory,
    meta: WalMeta,
    /// Oldest first; the last one is written to. Never empty.
    segments: VecDeque<Segment>,
    spares: Vec<Spare>,
    /// Of what is durable.
    index: LogIndex,
    tail: Tail,
    durable_term: Term,
    durable_hard_state: HardState,
    /// Durable or in the batch.
    last: Index,
    hard_state: HardState,
    batch: Batch,
    released: Released,
    /// An I/O error was seen: nothing is known any more.
    stopped: bool,
    written_bytes: u64,
}

impl Wal {
    /// Whether `dir` holds a log.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, WalError> {
        match disk.list(dir) {
            Ok(entries) => Ok(entries.iter().any(|entry| matches!(parse_name(&entry.name), Some((_, "wal"))))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(WalError::io("list", dir, error)),
        }
    }

    /// Makes an empty log in `dir`, durably; `dir` is made if need be. After a crash on the way [`Wal::exists`] says
    /// no and `create` may be called again, or it says yes and the empty log is whole.
    ///
    /// # Errors
    /// [`WalError::NoSpace`]; [`WalError::Io`], also if there is a log already.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, meta: WalMeta, options: WalOptions) -> Result<Wal, WalError> {
        let directory = Directory::new(disk, dir, options.segment_size());
        directory.create()?;
        let mut listing = directory.list()?;
        if !listing.segments.is_empty() {
            return Err(WalError::io("create a log in", dir, io::ErrorKind::AlreadyExists.into()));
        }
        directory.tidy(&listing.useless)?;
        let header = SegmentHeader {
            meta,
            sequence: 1,
            restart: false,
            size: directory.segment_size(),
            previous_index: Index(0),
            previous_term: Term(0),
            hard_state: HardState::default(),
            previous_end: 0,
            previous_crc: 0,
        };
        let spare = match listing.spares.pop() {
            Some(spare) => spare,
            None => directory.make_spare(directory.segment_size())?,
        };
        let (segment, crc) = directory.begin(&spare, header)?;
        Ok(Wal {
            batch: Batch::new(Vec::new(), payload_len_max(directory.segment_size())),
            directory,
            meta,
            segments: VecDeque::from([segment]),
            spares: listing.spares,
            index: LogIndex::after(Index(0)),
            tail: Tail { offset: FIRST_FRAME, crc, durable_end: FIRST_FRAME },
            durable_term: Term(0),
            durable_hard_state: HardState::default(),
            last: Index(0),
            hard_state: HardState::default(),
            released: Released::default(),
            stopped: false,
            written_bytes: 0,
        })
    }

    /// Reads the log in `dir`, and gives back what it holds, entries from `load_from` on only.
    ///
    /// `durable` is an index that the caller knows to have been durable, such as the one its applied state reflects
    /// (0 if nothing is known): a log that ends before it is damaged. What an unfinished last write has left is cut
    /// off. When this returns, everything it gives back is durable, and will be told from a torn write ever after.
    ///
    /// # Errors
    /// [`WalError::Damaged`] and [`WalError::NewerFormat`], with nothing changed on the disk; [`WalError::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
        durable: Index,
        load_from: Index,
    ) -> Result<(Wal, Recovered), WalError> {
        let directory = Directory::new(disk, dir, options.segment_size());
        let listing = directory.list()?;
        if listing.segments.is_empty() {
            return Err(WalError::io("find a log in", dir, io::ErrorKind::NotFound.into()));
        }
        let Recovery { meta, void, segments, index, last_term, terms, hard_state, entries, tail, torn_tail } =
            recovery::recover(&directory, &listing.segments, durable, load_from)?;
        directory.tidy(&listing.useless)?;
        let mut wal = Wal {
            batch: Batch::new(Vec::new(), payload_len_max(directory.segment_size())),
            directory,
            meta,
            segments: segments.into(),
            spares: listing.spares,
            last: index.last(),
            index,
            tail,
            durable_term: last_term,
            durable_hard_state: hard_state,
            hard_state,
            released: Released::default(),
            stopped: false,
            written_bytes: 0,
        };
        wal.confirm_tail()?;
        // Reading it cached it in large pieces, and each batch would dirty a whole one.
        wal.current().file.forget_cached();
        for segment in &void {
            wal.retire(segment)?;
        }
        wal.drop_spares(SPARES_MAX)?;
        let recovered = Recovered {
            meta,
            hard_state,
            first: wal.index.first(),
            last: wal.index.last(),
            last_term,
            terms,
            entries,
            torn_tail,
        };
        Ok((wal, recovered))
    }

    /// Appends entries, then the hard state, to what the next [`Wal::sync`] writes. An entry whose index is not
    /// greater than the last one's replaces it and all after it.
    ///
    /// # Errors
    /// [`WalError::OutOfOrder`] if there would be a gap, a committed entry would be replaced, or the commit index
    /// would lie beyond the log; [`WalError::TooLarge`]; [`WalError::Stopped`]. Nothing was appended then.
    pub fn append(&mut self, entries: &[LogEntry], hard_state: Option<HardState>) -> Result<(), WalError> {
        self.require_running()?;
        self.check_order(entries, hard_state)?;
        // A new term or vote goes before the entries, so that a torn write never leaves entries of a term that the
        // member does not know; a new commit index after them, so that it never points beyond the log.
        if let Some(state) = hard_state
            && (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote)
        {
            let commit = if entries.is_empty() { state.commit } else { self.hard_state.commit };
            self.push_hard_state(HardState { commit, ..state });
        }
        for entry in entries {
            self.batch.push_entry(entry);
            self.last = entry.index;
        }
        if let Some(state) = hard_state
            && state != self.hard_state
        {
            self.push_hard_state(state);
        }
        Ok(())
    }

    /// Makes all that was appended durable: one durable write, unless a segment ends meanwhile.
    ///
    /// # Errors
    /// [`WalError::NoSpace`]: what is not durable yet stays appended; free space and call again.
    /// [`WalError::Io`]: the log has stopped, and nothing is known about what was appended.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.require_running()?;
        let result = self.write_batch();
        self.stop_on_io_error(result)
    }

    /// Takes segments that hold only entries before `index` out of the log; returns how many. They become spares.
    ///
    /// # Errors
    /// [`WalError::Io`]: the log has stopped.
    pub fn release_before(&mut self, index: Index) -> Result<usize, WalError> {
        self.require_running()?;
        let mut released = 0;
        while self.segments.len() > 1 && self.index.first_after(self.segments[0].sequence) <= index {
            self.release_oldest()?;
            released += 1;
        }
        Ok(released)
    }

    /// Starts the log anew after `index`, which has `term`: the next entry is `index.next()`. Durable on return. All
    /// entries are gone, appended ones too; an appended hard state counts, with the commit index raised to `index`.
    ///
    /// # Errors
    /// [`WalError::OutOfOrder`] if the commit index lies beyond `index`; [`WalError::NoSpace`]: the log is as it was. [`WalError::Io`]: the log has stopped.
    pub fn restart_at(&mut self, index: Index, term: Term) -> Result<(), WalError> {
        self.require_running()?;
        if index < self.hard_state.commit || index.0 == u64::MAX {
            let what = format!("a restart after entry {index} would lose committed entries");
            return Err(WalError::OutOfOrder { what });
        }
        let mut hard_state = HardState { commit: index, ..self.hard_state };
        if hard_state.term < term {
            hard_state = HardState { term, vote: MemberId(0), commit: index };
        }
        let header = SegmentHeader {
            restart: true,
            previous_index: index,
            previous_term: term,
            hard_state,
            ..self.next_header()
        };
        let result = self.begin_segment(header, self.directory.short_size());
        self.stop_on_io_error(result)?;
        self.batch.clear();
        self.index = LogIndex::after(index);
        self.last = index;
        self.durable_term = term;
        self.durable_hard_state = hard_state;
        self.hard_state = hard_state;
        while self.segments.len() > 1 {
            self.release_oldest()?;
        }
        Ok(())
    }

    /// Reads entries `from..to_exclusive` back, as of the last sync: as many as have at most `max_bytes` of data
    /// together, or fewer, but at least one if there is one.
    ///
    /// # Errors
    /// [`WalError::NotHeld`] if `from` was released; [`WalError::Damaged`]; [`WalError::Io`]; [`WalError::Stopped`].
    pub fn read(&self, from: Index, to_exclusive: Index, max_bytes: usize) -> Result<Vec<LogEntry>, WalError> {
        self.reader(from, to_exclusive, max_bytes)?.read()
    }

    /// What [`Wal::read`] does, to be done on another thread while the log goes on. Cheap: it reads nothing yet.
    ///
    /// # Errors
    /// [`WalError::NotHeld`] if `from` was released; [`WalError::Stopped`].
    pub fn reader(&self, from: Index, to_exclusive: Index, max_bytes: usize) -> Result<Reader, WalError> {
        self.require_running()?;
        let end = to_exclusive.min(self.index.last().next());
        if from < self.index.first() && from < end {
            return Err(WalError::NotHeld { index: from, first: self.index.first() });
        }
        let segment = |sequence| self.segment(sequence).clone();
        Ok(Reader::new(&self.index, segment, (from, end), max_bytes, self.released.clone()))
    }

    /// The oldest entry held; the one after the last if there is none.
    pub fn first(&self) -> Index {
        self.index.first()
    }

    /// The last entry appended, synced or not.
    pub fn last(&self) -> Index {
        self.last
    }

    /// How many segments hold entries or are being written to; spares do not count.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// How many bytes were written for what was appended, since the log was opened.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// How much room there is without making a file.
    pub fn space(&self) -> Space {
        let segment_bytes = self.current().size;
        let left = segment_bytes - self.tail.offset;
        Space {
            segment_bytes,
            bytes_left_in_segment: left.saturating_sub(self.batch.len()),
            spare_ready: !self.spares.is_empty(),
        }
    }

    /// Makes the next segment's file ahead of need, if there is none. It takes a while: see [`Wal::spare_maker`].
    ///
    /// # Errors
    /// [`WalError::NoSpace`]: all is as it was. [`WalError::Io`]: the log has stopped.
    pub fn prepare_spare(&mut self) -> Result<(), WalError> {
        self.require_running()?;
        if self.spares.is_empty() {
            let made = self.directory.make_spare(self.directory.segment_size());
            let spare = self.stop_on_io_error(made)?;
            self.spares.push(spare);
        }
        Ok(())
    }

    /// For preparing a spare on another thread; its result comes back by [`Wal::add_spare`].
    pub fn spare_maker(&self) -> SpareMaker {
        self.directory.spare_maker()
    }

    /// Takes a spare that this log's [`SpareMaker`] made.
    pub fn add_spare(&mut self, spare: Spare) {
        self.spares.push(spare);
    }

    /// Removes spares until no more than `count` are left.
    ///
    /// # Errors
    /// [`WalError::Io`]: the log has stopped.
    pub fn keep_spares(&mut self, count: usize) -> Result<(), WalError> {
        self.require_running()?;
        let removed = self.drop_spares(count);
        self.stop_on_io_error(removed)
    }

    /// Appends a frame without content, so that once synced all before it can be told from a torn write even if it is
    /// damaged later. Worth a sync when the log falls idle or is closed; [`Wal::open`] does the same.
    ///
    /// # Errors
    /// [`WalError::Stopped`].
    pub fn mark_durable(&mut self) -> Result<(), WalError> {
        self.require_running()?;
        self.batch.push_mark();
        Ok(())
    }

    fn require_running(&self) -> Result<(), WalError> {
        if self.stopped { Err(WalError::Stopped) } else { Ok(()) }
    }

    fn stop_on_io_error<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        self.stopped |= matches!(result, Err(WalError::Io { .. }));
        result
    }

    fn current(&self) -> &Segment {
        self.segments.back().expect("there is always a segment")
    }

    fn check_order(&self, entries: &[LogEntry], hard_state: Option<HardState>) -> Result<(), WalError> {
        let refuse = |what| Err(WalError::OutOfOrder { what });
        let size_max = self.directory.segment_size() - FIRST_FRAME - (FRAME_HEADER_LEN + ENTRY_HEADER_LEN) as u64;
        let mut last = self.last;
        for entry in entries {
            if entry.index > last.next() || entry.index.0 == u64::MAX {
                return refuse(format!("entry {} does not follow entry {last}", entry.index));
            }
            if entry.index <= self.hard_state.commit {
                return refuse(format!("entry {} would replace a committed one", entry.index));
            }
            let size = entry.data.len() as u64;
            if size > size_max {
                return Err(WalError::TooLarge { index: entry.index, size, size_max });
            }
            last = entry.index;
        }
        match hard_state {
            Some(state) if state.commit > last => {
                refuse(format!("commit index {} lies beyond entry {last}, the last one", state.commit))
            }
            _ => Ok(()),
        }
    }

    fn push_hard_state(&mut self, state: HardState) {
        self.batch.push_hard_state(state);
        self.hard_state = state;
    }

    fn write_batch(&mut self) -> Result<(), WalError> {
        self.batch.close();
        let mut written = 0;
        let result = loop {
            let frames = self.batch.frames();
            if written == frames.len() {
                break Ok(());
            }
            let fitting = written + count_fitting(&frames[written..], self.current().size - self.tail.offset);
            let step = if fitting == written { self.roll() } else { self.write_frames(written..fitting) };
            match step {
                Ok(()) => written = fitting,
                Err(error) => break Err(error),
            }
        };
        self.batch.forget(written, self.carried_len());
        result
    }

    /// How many bytes lie before the tail in its page.
    fn carried_len(&self) -> usize {
        (self.tail.offset % PAGE) as usize
    }

    /// Writes frames of the batch that fit into the segment, durably.
    ///
    /// Whole pages are written: only those can go past the kernel's cache, and in the cache it need not read a page of a
    /// recycled file first. That repeats the sectors of earlier frames in the first page with the bytes they have:
    /// whichever of old and new a crash leaves of a sector is the same, so what was durable stays so.
    fn write_frames(&mut self, frames: std::ops::Range<usize>) -> Result<(), WalError> {
        let carried_len = self.carried_len();
        let segment = self.segments.back().expect("there is always a segment");
        let place = Place { sequence: segment.sequence, offset: self.tail.offset, previous_crc: self.tail.crc };
        let crc = self.batch.seal(frames.clone(), place);
        let bytes = self.batch.pages(frames.clone(), carried_len, PAGE as usize);
        let offset = place.offset - carried_len as u64;
        let written = segment.file.write_durably(bytes, offset);
        written.map_err(|error| WalError::space_or_io("write", &segment.path, error))?;
        self.written_bytes += bytes.len() as u64;

        let mut at = place.offset;
        for frame in &self.batch.frames()[frames] {
            if frame.entry_count > 0 {
                let slot = Slot { first: frame.first, sequence: place.sequence, offset: at };
                self.index.place(slot, frame.entry_count);
                self.durable_term = frame.last_term;
            }
            self.durable_hard_state = frame.hard_state.unwrap_or(self.durable_hard_state);
            at += frame.len();
        }
        self.tail = Tail { offset: at, crc, durable_end: place.offset };
        Ok(())
    }

    /// The header of a segment that continues the log where it durably ends.
    fn next_header(&self) -> SegmentHeader {
        SegmentHeader {
            meta: self.meta,
            sequence: self.current().sequence + 1,
            restart: false,
            size: self.directory.segment_size(),
            previous_index: self.index.last(),
            previous_term: self.durable_term,
            hard_state: self.durable_hard_state,
            previous_end: self.tail.offset,
            previous_crc: self.tail.crc,
        }
    }

    fn roll(&mut self) -> Result<(), WalError> {
        self.begin_segment(self.next_header(), self.directory.segment_size())
    }

    /// Begins a segment in a spare, one of `size` bytes if there is none yet.
    fn begin_segment(&mut self, header: SegmentHeader, size: u64) -> Result<(), WalError> {
        if self.spares.is_empty() {
            self.spares.push(self.directory.make_spare(size)?);
        }
        let spare = self.spares.last().expect("a spare was made if there was none");
        let (segment, crc) = self.directory.begin(spare, header)?;
        self.spares.pop();
        self.segments.push_back(segment);
        self.tail = Tail { offset: FIRST_FRAME, crc, durable_end: FIRST_FRAME };
        Ok(())
    }

    fn release_oldest(&mut self) -> Result<(), WalError> {
        let segment = self.segments.pop_front().expect("there is always a segment");
        self.index.release(segment.sequence);
        self.retire(&segment)
    }

    fn retire(&mut self, segment: &Segment) -> Result<(), WalError> {
        self.released.note(segment.sequence);
        let released = self.directory.release(segment, self.spares.len() < SPARES_MAX);
        let spare = self.stop_on_io_error(released)?;
        self.spares.extend(spare);
        Ok(())
    }

    fn drop_spares(&mut self, count: usize) -> Result<(), WalError> {
        while self.spares.len() > count {
            let spare = self.spares.pop().expect("there are more than enough");
            self.directory.remove_spare(&spare)?;
        }
        Ok(())
    }

    /// Makes what was just read from the last segment durable, and then says so in a mark.
    ///
    /// The process before us may have been killed between its write and its sync, or after a sync that failed: the
    /// bytes were read, but from memory. What was written since the last sync known to be good is written again, so
    /// that our own sync covers it. The mark comes in a sync of its own, because it vouches for what lies before it.
    /// It also breaks the chain to whatever a torn write has left behind it.
    fn confirm_tail(&mut self) -> Result<(), WalError> {
        let Tail { offset, durable_end, .. } = self.tail;
        let segment = self.current();
        let start = durable_end / PAGE * PAGE;
        let mut bytes = vec![0; (offset - start) as usize];
        segment.file.read_at(&mut bytes, start).map_err(|error| WalError::io("read", &segment.path, error))?;
        segment.file.write_at(&bytes, start).map_err(|error| WalError::space_or_io("write", &segment.path, error))?;
        segment.file.sync_data().map_err(|error| WalError::io("sync", &segment.path, error))?;
        if offset + SECTOR > segment.size {
            return Ok(());
        }
        let carried = bytes.split_off(bytes.len() - self.carried_len());
        self.batch = Batch::new(carried, payload_len_max(self.directory.segment_size()));
        self.batch.push_mark();
        self.write_batch()
    }

    fn segment(&self, sequence: u64) -> &Segment {
        let oldest = self.segments.front().expect("there is always a segment").sequence;
        &self.segments[(sequence - oldest) as usize]
    }
}

/// How many of `frames`, from the first, fit into `room` bytes.
fn count_fitting(frames: &[Frame], mut room: u64) -> usize {
    let fits = |frame: &&Frame| {
        let fits = frame.len() <= room;
        room = room.saturating_sub(frame.len());
        fits
    };
    frames.iter().take_while(fits).count()
}

fn payload_len_max(segment_size: u64) -> usize {
    FRAME_PAYLOAD_BYTES.min(segment_size - FIRST_FRAME - FRAME_HEADER_LEN as u64) as usize
}
