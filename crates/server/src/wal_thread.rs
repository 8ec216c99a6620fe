//! The log's thread: writes and syncs whatever waits, all of it at once.

use std::sync::Arc;
use std::time::Duration;

use types::{HardState, Index, LogEntry};
use wal::{Wal, WalError};

use crate::consensus_thread::ToConsensus;
use crate::fate::Fate;
use crate::inbox::Inbox;
use crate::shared::Board;

pub(crate) enum ToWal {
    /// To be on disk before consensus hears of `number`.
    Persist {
        number: u64,
        entries: Vec<LogEntry>,
        hard_state: Option<HardState>,
    },
    /// The state on disk no longer needs entries before this one.
    Release(Index),
    Stop,
}

/// How long to wait before a full disk is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) struct WalThread {
    pub(crate) wal: Wal,
    pub(crate) inbox: Arc<Inbox<ToWal>>,
    pub(crate) consensus: Arc<Inbox<ToConsensus>>,
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
        let mut stopping = false;
        while !stopping {
            // With a spare segment at hand there is nothing to do unasked.
            let timeout = (!self.wal.space().spare_ready).then_some(RETRY_INTERVAL);
            self.inbox.take_all(&mut items, timeout);
            let mut last_number = None;
            let mut release = None;
            for item in items.drain(..) {
                match item {
                    ToWal::Persist { number, entries, hard_state } => {
                        self.wal.append(&entries, hard_state)?;
                        last_number = Some(number);
                    }
                    ToWal::Release(index) => release = Some(index),
                    ToWal::Stop => stopping = true,
                }
            }
            if let Some(number) = last_number {
                self.sync_when_there_is_space()?;
                self.consensus.send(ToConsensus::Persisted(number));
            }
            if let Some(index) = release {
                self.wal.release_before(index)?;
            }
            if !stopping && !self.wal.space().spare_ready {
                self.prepare_spare()?;
            }
        }
        Ok(())
    }

    /// A full disk is waited out: nothing was acknowledged, and what is buffered stays buffered.
    fn sync_when_there_is_space(&mut self) -> Result<(), WalError> {
        loop {
            match self.wal.sync() {
                Err(WalError::NoSpace { .. }) if !self.board.is_stopped() => {
                    self.board.set_wal_is_full(true);
                    self.fate.wait_stopped(RETRY_INTERVAL);
                }
                other => return other,
            }
        }
    }

    fn prepare_spare(&mut self) -> Result<(), WalError> {
        match self.wal.prepare_spare() {
            Ok(()) => self.board.set_wal_is_full(false),
            Err(WalError::NoSpace { .. }) => self.board.set_wal_is_full(true),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
