//! How the member ends: asked to, or because something broke that must not be worked around.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::shared::Board;

pub(crate) struct Fate {
    state: Mutex<State>,
    ended: Condvar,
    board: Arc<Board>,
    /// Tells network workers, whose tasks cannot wait on a condition variable.
    signal: tokio::sync::watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    removed: bool,
    failure: Option<String>,
}

impl Fate {
    pub(crate) fn new(board: Arc<Board>) -> Fate {
        Fate { state: Mutex::default(), ended: Condvar::new(), board, signal: tokio::sync::watch::Sender::new(false) }
    }

    /// The member cannot go on. The first reason counts, for others follow from it.
    pub(crate) fn fail(&self, reason: String) {
        let mut state = self.state.lock();
        if state.failure.is_none() {
            tracing::error!(reason, "the member stops");
            state.failure = Some(reason);
        }
        drop(state);
        self.stop();
    }

    /// The member belongs to the cluster no longer.
    pub(crate) fn remove(&self) {
        let first = !std::mem::replace(&mut self.state.lock().removed, true);
        if first {
            tracing::warn!(
                "this member was removed from the cluster and stops; its data directory is of no use any more"
            );
        }
        self.stop();
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.state.lock().removed
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.board.stop();
        self.signal.send_replace(true);
        self.ended.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.state.lock().failure.clone()
    }

    /// Waits until the member stops, at most `timeout`; returns whether it has stopped.
    pub(crate) fn wait_stopped(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stopped {
            self.ended.wait_for(&mut state, timeout);
        }
        state.stopped
    }

    pub(crate) fn subscribe(&self) -> tokio::sync::watch::Receiver<bool> {
        self.signal.subscribe()
    }
}
