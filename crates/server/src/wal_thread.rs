//! The log's thread: writes and syncs whatever waits, all of it at once.

use std::sync::Arc;
use std::time::Duration;

use types::{HardState, Index, LogEntry};
use wal::{Spare, Wal, WalError};

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
    /// The state on disk no longer needs entries before this one.
    Release(Index),
    /// A spare segment that was asked for, or why there is none.
    Spare(Result<Spare, WalError>),
    Stop,
}

/// How long to wait before a full disk is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A log that is idle for so long is marked as durable, so that later damage cannot be taken for a torn write.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct WalThread {
    pub(crate) wal: Wal,
    pub(crate) segment_size_bytes: u64,
    pub(crate) inbox: Arc<Inbox<ToWal>>,
    pub(crate) consensus: Arc<Stepper>,
    pub(crate) board: Arc<Board>,
    pub(crate) fate: Arc<Fate>,
}

impl WalThread {
    pub(crate) fn run(mut self) {
        if let Err(error) = self.serve() {
            self.fate.fail(format!("log: {error}"));
        }
    }

    fn serve(&mut self) -> Result<(), WalError> {
        let mut items = Vec::new();
        let (mut stopping, mut is_marked, mut spare_is_made) = (false, true, false);
        while !stopping {
            if !spare_is_made && self.needs_spare() {
                spare_is_made = true;
                self.make_spare();
            }
            self.inbox.take_all(&mut items, (!is_marked).then_some(IDLE_INTERVAL));
            let is_idle = items.is_empty();
            let mut last_number = None;
            let mut release = None;
            for item in items.drain(..) {
                match item {
                    ToWal::Persist { number, entries, hard_state } => {
                        self.wal.append(&entries, hard_state)?;
                        last_number = Some(number);
                    }
                    ToWal::Release(index) => release = Some(index),
                    ToWal::Spare(made) => {
                        spare_is_made = false;
                        self.take_spare(made)?;
                    }
                    ToWal::Stop => stopping = true,
                }
            }
            if let Some(number) = last_number {
                if !self.sync_when_there_is_space()? {
                    return Ok(());
                }
                self.consensus.send(ToConsensus::Persisted(number));
                is_marked = false;
            }
            if let Some(index) = release {
                self.wal.release_before(index)?;
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
        }
        Ok(())
    }

    /// A full disk is waited out: nothing was acknowledged, and what is buffered stays buffered. Returns whether all
    /// is on disk; if not, the member was asked to stop meanwhile.
    fn sync_when_there_is_space(&mut self) -> Result<bool, WalError> {
        loop {
            match self.wal.sync() {
                Ok(()) => return Ok(true),
                Err(WalError::NoSpace { .. }) if self.board.is_stopped() => {
                    tracing::warn!("the disk is full: what did not get into the log was acknowledged to nobody");
                    return Ok(false);
                }
                Err(WalError::NoSpace { .. }) => {
                    self.board.set_wal_is_full(true);
                    self.fate.wait_stopped(RETRY_INTERVAL);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Not before half of the segment is used: by then the one before it has most likely been let go of and serves as
    /// the next, and nothing need be filled.
    fn needs_spare(&self) -> bool {
        let space = self.wal.space();
        !space.spare_ready && space.bytes_left_in_segment < self.segment_size_bytes / 2
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
