//! Snapshots of the state between members: on their way out, and on their way in until they are installed.

use std::io;
use std::sync::Arc;

use backend::{Backend, Export, Import, Options, Table};
use bytes::Bytes;
use env::Disk;
use membership::rows;
use parking_lot::Mutex;
use peer::{SnapshotChunks, SnapshotSink, SnapshotSource, SnapshotWriter};
use types::{Message, SnapshotMeta};

use crate::backend_thread::CommitBell;
use crate::fate::Fate;
use crate::layout::Layout;

/// Where snapshots for others come from.
pub(crate) struct Departures {
    pub(crate) backend: Backend,
    pub(crate) bell: Arc<CommitBell>,
    pub(crate) fate: Arc<Fate>,
}

struct Departing(Export);

impl SnapshotSource for Departures {
    /// What is sent is the newest commit that holds what was announced.
    fn open(&self, meta: &SnapshotMeta) -> io::Result<Box<dyn SnapshotChunks + Send>> {
        while self.backend.applied().0 < meta.index {
            self.bell.wait_commit(&self.fate);
            if self.fate.is_stopped() {
                return Err(io::Error::other("the member stops"));
            }
        }
        Ok(Box::new(Departing(self.backend.export())))
    }
}

impl SnapshotChunks for Departing {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.0.next_chunk().map_err(io::Error::other)?.map(Bytes::from))
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

enum Arrival {
    None,
    /// On disk, and not yet given to raft.
    Whole(SnapshotMeta),
    /// Given to raft.
    Installing,
}

struct Arriving {
    import: Import,
    arrivals: Arc<Arrivals>,
}

/// What the transport is given.
pub(crate) struct ArrivalSink(pub(crate) Arc<Arrivals>);

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
        let arrivals = &self.0;
        if !matches!(*arrivals.state.lock(), Arrival::None) {
            return Err(io::Error::other("an earlier snapshot is being installed"));
        }
        let import = Import::create(arrivals.disk.clone(), &arrivals.layout.state, Options::default());
        let index = message.snapshot.as_ref().map(|meta| meta.index.0);
        tracing::info!(from = %message.from, index, "a snapshot is coming in");
        Ok(Box::new(Arriving { import: import.map_err(io::Error::other)?, arrivals: arrivals.clone() }))
    }
}

impl SnapshotWriter for Arriving {
    fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.import.write(&bytes).map_err(io::Error::other)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let Arriving { import, arrivals } = *self;
        import.finish().map_err(io::Error::other)?;
        let meta = arrivals.meta()?;
        tracing::info!(index = meta.index.0, term = meta.term.0, "the snapshot is here");
        *arrivals.state.lock() = Arrival::Whole(meta);
        Ok(())
    }
}
