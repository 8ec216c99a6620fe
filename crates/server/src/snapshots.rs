//! Snapshots of the state between members: on their way out, and on their way in until they are installed.

use std::io;
use std::sync::Arc;

use backend::{Backend, Export, Import, Options, Table};
use bytes::Bytes;
use env::{Clock, Disk, Monotonic};
use membership::rows;
use parking_lot::Mutex;
use peer::{SnapshotChunks, SnapshotSink, SnapshotSource, SnapshotWriter};
use types::{Message, SnapshotMeta};

use crate::backend_thread::CommitBell;
use crate::fate::Fate;
use crate::layout::Layout;
use crate::shared::Board;

/// Where snapshots for others come from.
pub(crate) struct Departures {
    pub(crate) backend: Backend,
    pub(crate) bell: Arc<CommitBell>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Arc<dyn Clock>,
}

struct Departing {
    export: Export,
    begun_at: Monotonic,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
}

impl SnapshotSource for Departures {
    /// What is sent is the newest commit that holds what was announced.
    fn open(&self, meta: &SnapshotMeta) -> io::Result<Box<dyn SnapshotChunks + Send>> {
        while self.backend.applied().0 < meta.index {
            self.bell.wait_commit(&self.fate);
            if self.fate.is_stopped() {
                return Err(io::Error::other("the member stops"));
            }
        }
        self.board.figures.departing.increment();
        let (board, clock) = (self.board.clone(), self.clock.clone());
        Ok(Box::new(Departing { export: self.backend.export(), begun_at: clock.now(), board, clock }))
    }
}

impl SnapshotChunks for Departing {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let chunk = self.export.next_chunk().map_err(io::Error::other)?.map(Bytes::from);
        if chunk.is_none() {
            self.board.figures.departed.observe(self.clock.now().since(self.begun_at));
        }
        Ok(chunk)
    }
}

impl Drop for Departing {
    fn drop(&mut self) {
        self.board.figures.departing.subtract(1);
    }
}

/// Where snapshots from others go. One at a time, from its first byte until it is installed or found to be of no use: the
/// file that is being installed must not be replaced by the next.
pub(crate) struct Arrivals {
    disk: Arc<dyn Disk>,
    layout: Layout,
    backend: Backend,
    state: Mutex<Arrival>,
}

#[derive(Debug, PartialEq, Eq)]
enum Arrival {
    None,
    /// Bytes come.
    Arriving,
    /// On disk, and not yet given to raft.
    Whole(SnapshotMeta),
    /// Given to raft.
    Installing,
}

struct Arriving {
    /// Gone once it is finished.
    import: Option<Import>,
    arrivals: Arc<Arrivals>,
    begun_at: Monotonic,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
}

/// What the transport is given.
pub(crate) struct ArrivalSink {
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Arrivals {
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, backend: Backend) -> Arrivals {
        Arrivals { disk, layout, backend, state: Mutex::new(Arrival::None) }
    }

    /// What has arrived, on its way to raft.
    pub(crate) fn hand_over(&self) -> Option<SnapshotMeta> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, Arrival::Installing) {
            Arrival::Whole(meta) => Some(meta),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Raft had no use for it, or it is installed: the next may come.
    pub(crate) fn done(&self) {
        *self.state.lock() = Arrival::None;
    }

    /// What the received state says it reflects.
    fn meta(&self) -> io::Result<SnapshotMeta> {
        let received = self.backend.open_received().map_err(io::Error::other)?;
        let (index, term) = received.view().applied();
        let state = received.view().get(Table::Meta, rows::CONF_STATE).map_err(io::Error::other)?;
        let state = state.ok_or_else(|| io::Error::other("the snapshot has no configuration"))?;
        let state = rows::parse_conf_state(&state).map_err(io::Error::other)?;
        Ok(SnapshotMeta { index, term, voters: state.voters, learners: state.learners })
    }
}

impl SnapshotSink for ArrivalSink {
    fn begin(&self, message: &Message) -> io::Result<Box<dyn SnapshotWriter + Send>> {
        let arrivals = &self.arrivals;
        {
            let mut state = arrivals.state.lock();
            if matches!(*state, Arrival::Arriving | Arrival::Installing) {
                return Err(io::Error::other("an earlier snapshot is being received or installed"));
            }
            // One that raft never got is replaced.
            *state = Arrival::Arriving;
        }
        let (board, clock) = (self.board.clone(), self.clock.clone());
        let mut arriving = Arriving { import: None, arrivals: arrivals.clone(), begun_at: clock.now(), board, clock };
        let (disk, path) = (&arrivals.disk, &arrivals.layout.state);
        // What an earlier one left behind when the disk failed would be in the way for ever.
        Backend::discard_unfinished(disk.as_ref(), path).map_err(io::Error::other)?;
        let import = Import::create(disk.clone(), path, Options::default()).map_err(io::Error::other)?;
        arriving.import = Some(import);
        let index = message.snapshot.as_ref().map(|meta| meta.index.0);
        tracing::info!(from = %message.from, index, "a snapshot is coming in");
        Ok(Box::new(arriving))
    }
}

impl SnapshotWriter for Arriving {
    fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let import = self.import.as_mut().expect("it is taken only at the end");
        import.write(&bytes).map_err(io::Error::other)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let import = self.import.take().expect("it is taken only here");
        let came_at = self.clock.now();
        import.finish().map_err(io::Error::other)?;
        let (figures, saved_at) = (&self.board.figures, self.clock.now());
        figures.arrival_synced.observe(saved_at.since(came_at));
        figures.arrived.observe(saved_at.since(self.begun_at));
        let meta = self.arrivals.meta()?;
        tracing::info!(index = meta.index.0, term = meta.term.0, "the snapshot is here");
        *self.arrivals.state.lock() = Arrival::Whole(meta);
        Ok(())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        // Its file goes before the next may come.
        drop(self.import.take());
        let mut state = self.arrivals.state.lock();
        if *state == Arrival::Arriving {
            *state = Arrival::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use env::{DiskOperation, Fault, SimDisk};
    use types::{MemberId, MessageKind};

    use super::*;

    fn arrivals(disk: &SimDisk) -> ArrivalSink {
        disk.create_dir_all(Path::new("data")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let layout = Layout::new(Path::new("data"), None);
        let backend = Backend::open(disk.clone(), &layout.state, Options::default()).unwrap();
        let arrivals = Arc::new(Arrivals::new(disk, layout, backend));
        ArrivalSink { arrivals, board: Arc::default(), clock: Arc::new(env::SystemClock::default()) }
    }

    fn begin(sink: &ArrivalSink) -> io::Result<Box<dyn SnapshotWriter + Send>> {
        sink.begin(&Message::new(MessageKind::Snapshot, MemberId(1), MemberId(2)))
    }

    #[test]
    fn one_comes_in_at_a_time_and_one_that_breaks_off_leaves_room_for_the_next() {
        let sink = arrivals(&SimDisk::new());
        let first = begin(&sink).unwrap();
        assert!(begin(&sink).is_err());
        drop(first);
        let mut second = begin(&sink).unwrap();
        assert!(second.write(Bytes::from_static(b"this is no state, by far")).is_err() || second.finish().is_err());
        drop(begin(&sink).unwrap());
    }

    #[test]
    fn what_a_failing_disk_leaves_behind_is_in_nobodys_way() {
        let disk = SimDisk::new();
        let sink = arrivals(&disk);
        // The file of one that breaks off cannot be removed.
        let first = begin(&sink).unwrap();
        disk.inject(Fault {
            operation: Some(DiskOperation::Remove),
            path_contains: "received".into(),
            skip: 0,
            times: 1,
            error: io::ErrorKind::Other,
        });
        drop(first);
        drop(begin(&sink).expect("the next one removes it"));
    }
}
