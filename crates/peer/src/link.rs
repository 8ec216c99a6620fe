//! What the transport's thread holds of the way to one peer: what waits to be posted, its addresses, its tasks. Its lanes, which every
//! thread writes to, are its target's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::AbortHandle;
use types::MemberId;

use crate::connection::Connection;
use crate::frames::StreamKind;
use crate::outbox::{Queued, Target};
use crate::peer_url::Rotation;

/// The way to one peer.
pub(crate) struct Link {
    pub(crate) id: MemberId,
    pub(crate) target: Arc<Target>,
    pub(crate) rotation: RefCell<Rotation>,
    /// It wrote to us and is not known as a member: messages to it are posted, no streams are dialled.
    pub(crate) is_remote: bool,
    pub(crate) posts: RefCell<VecDeque<Queued>>,
    pub(crate) post_workers: Cell<usize>,
    pub(crate) idle_connections: RefCell<Vec<(String, Connection)>>,
    pub(crate) is_sending_snapshot: Cell<bool>,
    tasks: RefCell<Vec<AbortHandle>>,
}

impl Link {
    pub(crate) fn new(id: MemberId, target: Arc<Target>, urls: Vec<String>, is_remote: bool) -> Link {
        Link {
            id,
            target,
            rotation: RefCell::new(Rotation::new(urls)),
            is_remote,
            posts: RefCell::default(),
            post_workers: Cell::new(0),
            idle_connections: RefCell::default(),
            is_sending_snapshot: Cell::new(false),
            tasks: RefCell::default(),
        }
    }

    /// A task that ends when the peer goes.
    pub(crate) fn keep(&self, task: AbortHandle) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Ends everything to and from the peer.
    pub(crate) fn close(&self) {
        for task in self.tasks.take() {
            task.abort();
        }
        for kind in StreamKind::ALL {
            self.target.lane(kind).close();
        }
        self.posts.take();
        self.idle_connections.take();
    }
}
