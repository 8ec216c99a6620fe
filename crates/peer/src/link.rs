//! What this member's end of the way to one peer holds: the lanes of its streams, what waits to be posted, its addresses.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use tokio::task::AbortHandle;
use types::{MemberId, MessageKind};

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
    append: Lane,
    message: Lane,
    pub(crate) posts: RefCell<VecDeque<Queued>>,
    pub(crate) post_workers: Cell<usize>,
    pub(crate) idle_connections: RefCell<Vec<(String, Connection)>>,
    pub(crate) is_sending_snapshot: Cell<bool>,
    tasks: RefCell<Vec<AbortHandle>>,
}

/// What waits for one stream, while one is attached.
#[derive(Default)]
pub(crate) struct Lane {
    queue: RefCell<VecDeque<Queued>>,
    /// Which of the streams that ever were holds the lane; 0 if none does.
    attached: Cell<u64>,
    last: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// How a message leaves.
pub(crate) enum Way {
    Stream(StreamKind),
    Post,
}

impl Link {
    pub(crate) fn new(id: MemberId, target: Arc<Target>, urls: Vec<String>, is_remote: bool) -> Link {
        Link {
            id,
            target,
            rotation: RefCell::new(Rotation::new(urls)),
            is_remote,
            append: Lane::default(),
            message: Lane::default(),
            posts: RefCell::default(),
            post_workers: Cell::new(0),
            idle_connections: RefCell::default(),
            is_sending_snapshot: Cell::new(false),
            tasks: RefCell::default(),
        }
    }

    pub(crate) fn lane(&self, kind: StreamKind) -> &Lane {
        match kind {
            StreamKind::Append => &self.append,
            StreamKind::Message => &self.message,
        }
    }

    /// Appends have a stream to themselves, as long as there is one.
    pub(crate) fn way(&self, kind: MessageKind) -> Way {
        if kind == MessageKind::Append && self.append.is_attached() {
            return Way::Stream(StreamKind::Append);
        }
        if self.message.is_attached() {
            return Way::Stream(StreamKind::Message);
        }
        Way::Post
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
            self.lane(kind).close();
        }
        self.posts.take();
        self.idle_connections.take();
    }
}

impl Lane {
    fn is_attached(&self) -> bool {
        self.attached.get() != 0
    }

    /// A new stream takes the lane; the one before it, if any, ends.
    pub(crate) fn attach(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.attached.set(self.last.get());
        self.wake();
        self.last.get()
    }

    /// Whether the lane still is this stream's.
    pub(crate) fn is_held_by(&self, stream: u64) -> bool {
        self.attached.get() == stream
    }

    /// The stream is lost, and with it what waited for it: so many messages. `None` if the lane was not its own any more.
    pub(crate) fn detach(&self, stream: u64) -> Option<usize> {
        if !self.is_held_by(stream) {
            return None;
        }
        self.attached.set(0);
        Some(self.queue.take().len())
    }

    pub(crate) fn push(&self, queued: Queued) {
        self.queue.borrow_mut().push_back(queued);
    }

    pub(crate) fn pop(&self) -> Option<Queued> {
        self.queue.borrow_mut().pop_front()
    }

    /// Wakes the stream if there is something for it.
    pub(crate) fn wake_if_waiting(&self) {
        if !self.queue.borrow().is_empty() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_later(&self, waker: &Waker) {
        let mut current = self.waker.borrow_mut();
        match &mut *current {
            Some(current) => current.clone_from(waker),
            None => *current = Some(waker.clone()),
        }
    }

    fn close(&self) {
        self.attached.set(0);
        self.queue.take();
        self.wake();
    }
}
