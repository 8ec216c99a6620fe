//! The log's thread: writes and syncs whatever waits, all of it at once. And that of its reader, for members that are behind.
//!
//! What leaders send to be stored it reads itself, so that an entry on its way to the log crosses no other thread. While the disk keeps it
//! waiting it reads nothing; heartbeats come by another stream, and are read by another thread.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use env::Clock;
use peer::Readings;
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, yield_now};
use tokio::time::sleep;
use types::{HardState, Index, LogEntry, SnapshotMeta};
use wal::{Reader, Spare, Wal, WalError};

use crate::apply_queue::ApplyQueue;
use crate::apply_thread::ToApply;
use crate::fate::Fate;
use crate::inbox::Inbox;
use crate::shared::Board;
use crate::stepper::{Stepper, ToConsensus};

pub(crate) enum ToWal {
    /// To be on disk before consensus hears of `number`.
    Persist {
        number: u64,
        entries: Vec<LogEntry>,
        hard_state: Option<HardState>,
    },
    /// The log begins anew after a snapshot, whose state lies on disk. Then the state is put in its place, and consensus
    /// hears of `number`.
    Restore {
        number: u64,
        snapshot: SnapshotMeta,
        entries: Vec<LogEntry>,
        hard_state: Option<HardState>,
    },
    /// Entries that consensus needs back.
    Fetch {
        from: Index,
        to: Index,
        limit_bytes: u64,
    },
    /// The state on disk no longer needs entries before `before`, and no member in touch those before `needed`, which is
    /// not above it.
    Release {
        before: Index,
        needed: Index,
    },
    /// A spare segment that was asked for, or why there is none.
    Spare(Result<Spare, WalError>),
    Stop,
}

/// How long to wait before a full disk is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// On a full disk the backend needs room more than the log does: its commits free what the log keeps for it. One spare
/// stays, for without room in the log nothing could be deleted any more.
const SPARES_WHEN_FULL: usize = 1;
/// The log keeps no more segments than these for members that are behind.
const SEGMENTS_FOR_OTHERS_MAX: usize = 16;
/// A log that is idle for so long is marked as durable, so that later damage cannot be taken for a torn write.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct WalThread {
    pub(crate) wal: Wal,
    pub(crate) inbox: Arc<Inbox<ToWal>>,
    pub(crate) readers: Arc<Inbox<ToWalReader>>,
    pub(crate) consensus: Arc<Stepper>,
    pub(crate) apply: Arc<ApplyQueue>,
    pub(crate) board: Arc<Board>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What the log's thread waits for.
struct Attention {
    runtime: Runtime,
    tasks: LocalSet,
    /// Reads what leaders send.
    reading: Pin<Box<dyn Future<Output = Infallible>>>,
}

impl Attention {
    fn new(reading: impl Future<Output = Infallible> + 'static) -> io::Result<Attention> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Attention { runtime, tasks: LocalSet::new(), reading: Box::pin(reading) })
    }

    /// As [`Inbox::take_all`]. What is read meanwhile may come there, and be taken at once.
    fn take_all(&mut self, inbox: &Inbox<ToWal>, into: &mut Vec<ToWal>, timeout: Option<Duration>) {
        let reading = &mut self.reading;
        let filled = async {
            if !inbox.is_empty() {
                // What was sent while the disk worked is read, however much else there is to do.
                yield_now().await;
            }
            poll_fn(|context| inbox.poll_filled(context)).await;
        };
        self.tasks.block_on(&self.runtime, async {
            tokio::select! {
                never = reading => match never {},
                () = filled => {}
                () = sleep(timeout.unwrap_or_default()), if timeout.is_some() => {}
            }
        });
        inbox.take_all(into, Some(Duration::ZERO));
    }
}

impl WalThread {
    pub(crate) fn run(mut self, appends: Readings) {
        let ended = match Attention::new(appends.run()) {
            Ok(attention) => self.serve(attention).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = ended {
            self.fate.fail(format!("log: {error}"));
        }
    }

    fn serve(&mut self, mut attention: Attention) -> Result<(), WalError> {
        let mut items = Vec::new();
        let (mut stopping, mut is_marked, mut spare_is_made) = (false, true, false);
        while !stopping {
            if !spare_is_made && self.needs_spare() {
                spare_is_made = true;
                self.make_spare();
            }
            attention.take_all(&self.inbox, &mut items, (!is_marked).then_some(IDLE_INTERVAL));
            let is_idle = items.is_empty();
            self.board.log_work.begin(self.clock.now());
            let mut last_number = None;
            // How long it took to put together what waits to be synced.
            let mut unsynced = None;
            let mut release = None;
            for item in items.drain(..) {
                match item {
                    ToWal::Persist { number, entries, hard_state } => {
                        *unsynced.get_or_insert(Duration::ZERO) += self.append(&entries, hard_state)?;
                        last_number = Some(number);
                    }
                    ToWal::Restore { number, snapshot, entries, hard_state } => {
                        if !self.restart_when_there_is_space(&snapshot)? {
                            return Ok(());
                        }
                        let took = self.append(&entries, hard_state)?;
                        if !self.sync_measured(took)? {
                            return Ok(());
                        }
                        unsynced = None;
                        self.apply.send(ToApply::Restore(snapshot));
                        last_number = Some(number);
                    }
                    ToWal::Fetch { from, to, limit_bytes } => self.fetch(from, to, limit_bytes)?,
                    ToWal::Release { before, needed } => release = Some(self.releasable(before, needed)),
                    ToWal::Spare(made) => {
                        spare_is_made = false;
                        self.take_spare(made)?;
                    }
                    ToWal::Stop => stopping = true,
                }
            }
            if let Some(took) = unsynced
                && !self.sync_measured(took)?
            {
                return Ok(());
            }
            if let Some(number) = last_number {
                self.consensus.send(ToConsensus::Persisted(number));
                is_marked = false;
            }
            if let Some(index) = release {
                let first = self.wal.first();
                self.wal.release_before(index)?;
                if self.wal.first() > first {
                    self.consensus.send(ToConsensus::LogReleased(self.wal.first()));
                }
                if self.board.disk_is_full() {
                    self.wal.keep_spares(SPARES_WHEN_FULL)?;
                }
            }
            if self.board.wal_is_full() && !self.needs_spare() {
                // A segment was let go of, and is the next one.
                self.board.set_wal_is_full(false);
            }
            if (is_idle || stopping) && !is_marked {
                is_marked = true;
                self.wal.mark_durable()?;
                self.sync_when_there_is_space()?;
            }
            self.board.log_work.end();
        }
        Ok(())
    }

    /// Returns how long it took.
    fn append(&mut self, entries: &[LogEntry], hard_state: Option<HardState>) -> Result<Duration, WalError> {
        let begun_at = self.clock.now();
        self.wal.append(entries, hard_state)?;
        Ok(self.clock.now().since(begun_at))
    }

    /// As [`WalThread::sync_when_there_is_space`], of what took so long to put together.
    fn sync_measured(&mut self, append_took: Duration) -> Result<bool, WalError> {
        self.board.figures.wal_write.observe(append_took);
        let (clock, board) = (self.clock.clone(), self.board.clone());
        let is_done = self.when_there_is_space(|wal| {
            // A wait for space is no time that the disk took.
            let begun_at = clock.now();
            wal.sync()?;
            board.figures.wal_fsync.observe(clock.now().since(begun_at));
            Ok(())
        })?;
        self.board.figures.wal_bytes.set(self.wal.written_bytes());
        Ok(is_done)
    }

    /// Others' needs are heeded up to a bound.
    fn releasable(&self, before: Index, needed: Index) -> Index {
        if self.wal.segment_count() > SEGMENTS_FOR_OTHERS_MAX { before } else { needed }
    }

    /// Reading takes a while; nobody's write waits for it.
    fn fetch(&self, from: Index, to: Index, limit_bytes: u64) -> Result<(), WalError> {
        match self.wal.reader(from, to, limit_bytes as usize) {
            Ok(reader) => self.readers.send(ToWalReader::Read { from, reader }),
            Err(WalError::NotHeld { .. }) => {
                self.consensus.send(ToConsensus::Fetched { from, entries: Vec::new() });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn sync_when_there_is_space(&mut self) -> Result<bool, WalError> {
        self.when_there_is_space(Wal::sync)
    }

    fn restart_when_there_is_space(&mut self, snapshot: &SnapshotMeta) -> Result<bool, WalError> {
        self.when_there_is_space(|wal| wal.restart_at(snapshot.index, snapshot.term))
    }

    /// A full disk is waited out: nothing was acknowledged, and what is buffered stays buffered. Returns whether it is
    /// done; if not, the member was asked to stop meanwhile.
    fn when_there_is_space(
        &mut self,
        mut write: impl FnMut(&mut Wal) -> Result<(), WalError>,
    ) -> Result<bool, WalError> {
        loop {
            match write(&mut self.wal) {
                Ok(()) => return Ok(true),
                Err(WalError::NoSpace { .. }) if self.board.is_stopped() => {
                    tracing::warn!("the disk is full: what did not get into the log was acknowledged to nobody");
                    return Ok(false);
                }
                Err(WalError::NoSpace { .. }) => {
                    self.board.set_wal_is_full(true);
                    self.release_while_full()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets some time pass, or less: what the backend's next commit lets the log go of is the very room it waits for.
    fn release_while_full(&mut self) -> Result<(), WalError> {
        let mut items = Vec::new();
        // The disk has answered.
        self.board.log_work.end();
        self.inbox.take_wanted(&mut items, RETRY_INTERVAL, |item| matches!(item, ToWal::Release { .. } | ToWal::Stop));
        self.board.log_work.begin(self.clock.now());
        for item in items {
            match item {
                ToWal::Release { before, .. } => drop(self.wal.release_before(before)?),
                // Seen again by whoever asks whether the member stops.
                other => self.inbox.send(other),
            }
        }
        Ok(())
    }

    /// Not before half of the segment is used: by then the one before it has most likely been let go of and serves as
    /// the next, and nothing need be filled.
    fn needs_spare(&self) -> bool {
        let space = self.wal.space();
        !space.spare_ready && space.bytes_left_in_segment < space.segment_bytes / 2
    }

    /// Filling a segment with zeros takes a while; nobody's write waits for it.
    fn make_spare(&self) {
        let (maker, inbox, fate) = (self.wal.spare_maker(), self.inbox.clone(), self.fate.clone());
        let wait = if self.board.wal_is_full() { RETRY_INTERVAL } else { Duration::ZERO };
        let make = move || {
            if !fate.wait_stopped(wait) {
                inbox.send(ToWal::Spare(maker.make()));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("wal-spare".into()).spawn(make) {
            self.fate.fail(format!("cannot start a thread: {error}"));
        }
    }

    fn take_spare(&mut self, made: Result<Spare, WalError>) -> Result<(), WalError> {
        match made {
            Ok(spare) => {
                self.wal.add_spare(spare);
                self.board.set_wal_is_full(false);
                Ok(())
            }
            Err(WalError::NoSpace { .. }) => {
                self.board.set_wal_is_full(true);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

pub(crate) enum ToWalReader {
    Read { from: Index, reader: Reader },
    Stop,
}

/// Reads back what consensus needs of the log.
pub(crate) struct WalReaderThread {
    pub(crate) inbox: Arc<Inbox<ToWalReader>>,
    pub(crate) consensus: Arc<Stepper>,
    pub(crate) fate: Arc<Fate>,
}

impl WalReaderThread {
    pub(crate) fn run(self) {
        let mut items = Vec::new();
        loop {
            self.inbox.take_all(&mut items, None);
            for item in items.drain(..) {
                let ToWalReader::Read { from, reader } = item else { return };
                let entries = match reader.read() {
                    Ok(entries) => entries,
                    // Consensus gets nothing, and sends a snapshot.
                    Err(WalError::Released { .. }) => Vec::new(),
                    Err(error) => return self.fate.fail(format!("log: {error}")),
                };
                self.consensus.send(ToConsensus::Fetched { from, entries });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use env::{Disk, Monotonic, SimDisk};
    use metrics::{Histogram, names};
    use parking_lot::Mutex;
    use types::{ClusterId, EntryKind, MemberId, Term};
    use wal::{WalMeta, WalOptions};

    use super::*;
    use crate::stepper::tests::single_voter;

    const SEGMENT_SIZE_BYTES: u64 = 16 << 10;

    fn entry(index: u64) -> LogEntry {
        LogEntry { term: Term(1), index: Index(index), kind: EntryKind::Normal, data: Bytes::from(vec![b'd'; 3500]) }
    }

    /// A log of two segments on a disk without room for a third. Returns the first entry it has no room for.
    fn on_full_disk(disk: &SimDisk) -> (WalThread, u64) {
        disk.create_dir_all(Path::new("member")).unwrap();
        let options = WalOptions { segment_size_bytes: SEGMENT_SIZE_BYTES };
        let meta = WalMeta { cluster: ClusterId(1), member: MemberId(1) };
        let mut wal = Wal::create(Arc::new(disk.clone()), Path::new("member/wal"), meta, options).unwrap();
        wal.prepare_spare().unwrap();
        disk.set_capacity(Some(disk.used_bytes()));
        let mut index = 1;
        while wal.space().spare_ready || wal.space().bytes_left_in_segment >= 4096 {
            wal.append(&[entry(index)], None).unwrap();
            wal.sync().unwrap();
            index += 1;
        }
        let parts = single_voter();
        let thread = WalThread {
            wal,
            inbox: parts.wal,
            readers: Arc::new(Inbox::new()),
            consensus: parts.stepper,
            apply: parts.apply,
            board: parts.board,
            fate: parts.fate,
            clock: Arc::new(env::SystemClock::default()),
        };
        (thread, index)
    }

    /// Nobody sends anything.
    fn alone() -> Attention {
        Attention::new(std::future::pending()).unwrap()
    }

    #[test]
    fn what_leaders_send_is_read_however_much_there_is_to_write() {
        let reads = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = reads.clone();
        let mut attention = Attention::new(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        })
        .unwrap();
        let inbox = Inbox::new();
        for _ in 0..10 {
            let before = reads.get();
            inbox.send(ToWal::Stop);
            let mut items = vec![];
            attention.take_all(&inbox, &mut items, None);
            assert!(items.len() == 1 && reads.get() > before);
        }
        attention.take_all(&inbox, &mut vec![], Some(Duration::from_millis(1)));
    }

    fn spare_count(disk: &SimDisk) -> usize {
        let files = disk.list(Path::new("member/wal")).unwrap();
        files.iter().filter(|file| file.name.ends_with(".spare")).count()
    }

    #[test]
    fn a_full_disk_gets_all_spares_but_one_back() {
        for (is_full, spares) in [(false, 2), (true, 1)] {
            let disk = SimDisk::new();
            let (mut thread, mut next) = on_full_disk(&disk);
            disk.set_capacity(None);
            while disk.list(Path::new("member/wal")).unwrap().len() < 4 {
                thread.wal.append(&[entry(next)], None).unwrap();
                thread.wal.sync().unwrap();
                next += 1;
            }
            thread.board.set_backend_is_full(is_full);
            thread.inbox.send(ToWal::Release { before: Index(next), needed: Index(next) });
            thread.inbox.send(ToWal::Stop);
            thread.serve(alone()).unwrap();
            assert_eq!(spare_count(&disk), spares);
        }
    }

    fn fetched(thread: &WalThread, from: u64) -> Result<Vec<LogEntry>, WalError> {
        thread.fetch(Index(from), Index(from + 1), 0).unwrap();
        let mut items = vec![];
        thread.readers.take_all(&mut items, Some(Duration::ZERO));
        match items.pop() {
            Some(ToWalReader::Read { from: first, reader }) if first == Index(from) => reader.read(),
            _ => Ok(vec![]),
        }
    }

    #[test]
    fn the_log_reads_nothing_back_itself() {
        let (mut thread, next) = on_full_disk(&SimDisk::new());
        assert_eq!(fetched(&thread, 1).unwrap(), [entry(1)]);
        thread.wal.release_before(Index(next)).unwrap();
        assert_eq!(fetched(&thread, 1).unwrap(), [], "consensus is told at once");
        assert_eq!(fetched(&thread, next - 1).unwrap(), [entry(next - 1)]);
    }

    #[test]
    fn a_reader_that_meets_damage_stops_the_member() {
        let disk = SimDisk::new();
        let (thread, _) = on_full_disk(&disk);
        thread.fetch(Index(1), Index(2), 0).unwrap();
        thread.readers.send(ToWalReader::Stop);
        let files = disk.list(Path::new("member/wal")).unwrap();
        let first = files.iter().find(|file| file.name.ends_with("1.wal")).unwrap();
        let first = disk.open(&Path::new("member/wal").join(&first.name), env::OpenMode::Write).unwrap();
        first.write_at(&[0xee; 4096], 4096).unwrap();
        let (inbox, consensus, fate) = (thread.readers, thread.consensus, thread.fate.clone());
        WalReaderThread { inbox, consensus, fate }.run();
        assert!(thread.fate.failure().is_some_and(|failure| failure.contains("damaged")));
    }

    /// A second passes with everything that is done to the disk, and with every read that is handed on.
    struct Worked {
        disk: SimDisk,
        readers: Arc<Inbox<ToWalReader>>,
        handed_on: Mutex<Vec<ToWalReader>>,
    }

    impl Clock for Worked {
        fn now(&self) -> Monotonic {
            let (mut handed_on, mut items) = (self.handed_on.lock(), vec![]);
            self.readers.take_all(&mut items, Some(Duration::ZERO));
            handed_on.append(&mut items);
            Monotonic(Duration::from_secs((self.disk.operation_count() + handed_on.len()) as u64))
        }

        fn wall(&self) -> Duration {
            self.now().0
        }
    }

    #[test]
    fn of_a_write_the_putting_together_is_counted_and_every_sync() {
        let disk = SimDisk::new();
        let (mut thread, next) = on_full_disk(&disk);
        disk.set_capacity(None);
        disk.record();
        thread.clock = Arc::new(Worked { disk, readers: thread.readers.clone(), handed_on: Mutex::default() });
        let snapshot = SnapshotMeta { index: Index(next + 9), term: Term(1), ..SnapshotMeta::default() };
        let persist = |number, index| ToWal::Persist { number, entries: vec![entry(index)], hard_state: None };
        for item in [
            persist(1, next),
            ToWal::Restore { number: 2, snapshot, entries: vec![entry(next + 10)], hard_state: None },
            ToWal::Fetch { from: Index(next + 10), to: Index(next + 11), limit_bytes: 0 },
            persist(3, next + 11),
            ToWal::Stop,
        ] {
            thread.inbox.send(item);
        }
        thread.serve(alone()).unwrap();
        let expected = Histogram::new(names::WAL_WRITE.buckets());
        expected.observe_equal(Duration::ZERO, 2);
        let figures = &thread.board.figures;
        assert_eq!(figures.wal_write.read(), expected.read(), "no write, no fetch, no new segment");
        let expected = Histogram::new(names::WAL_FSYNC.buckets());
        // A sync writes, and makes that durable: two operations.
        expected.observe_equal(Duration::from_secs(2), 2);
        assert_eq!(figures.wal_fsync.read(), expected.read(), "the restored log's, and that of what came after it");
    }

    /// If it did not, it would wait for ever here.
    #[test]
    fn a_log_that_waits_for_room_takes_what_it_is_let_go_of() {
        let (mut thread, next) = on_full_disk(&SimDisk::new());
        thread.wal.append(&[entry(next)], None).unwrap();
        assert!(matches!(thread.wal.sync(), Err(WalError::NoSpace { .. })));
        thread.inbox.send(ToWal::Persist { number: 2, entries: vec![entry(next + 1)], hard_state: None });
        thread.inbox.send(ToWal::Release { before: Index(next), needed: Index(next) });
        assert!(thread.sync_when_there_is_space().unwrap(), "the first segment is room enough");
        assert_eq!(thread.wal.read(Index(next), Index(next + 1), 0).unwrap(), [entry(next)]);
        let mut later = vec![];
        thread.inbox.take_all(&mut later, None);
        assert!(matches!(later[..], [ToWal::Persist { number: 2, .. }]), "what came meanwhile has its turn later");
    }

    #[test]
    fn a_log_that_waits_for_room_ends_with_the_member() {
        let (mut thread, next) = on_full_disk(&SimDisk::new());
        thread.wal.append(&[entry(next)], None).unwrap();
        let (inbox, fate) = (thread.inbox.clone(), thread.fate.clone());
        let waiting = std::thread::spawn(move || thread.sync_when_there_is_space());
        fate.stop();
        inbox.send(ToWal::Stop);
        assert!(!waiting.join().unwrap().unwrap());
    }
}
