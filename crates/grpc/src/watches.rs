//! The worker's watch hub and what drives it: publications, the clock, history, and the streams' tasks.
//!
//! Everything here runs on the worker's thread. The apply thread only nudges the driver; history is read on threads
//! that may block.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use env::{Clock, Monotonic};
use hashbrown::HashMap;
use mvcc::View;
use server::{Handle, LargeReads, read_history};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};
use watch::{CreateRequest, HistoryError, HistoryLoad, Hub, HubOptions, Message, Next, StreamId};

use crate::meters::WorkerMeters;

/// The watch streams of one worker.
pub(crate) struct Watches {
    hub: RefCell<Hub>,
    /// The tasks of the streams, from when they first waited for output.
    wakers: RefCell<HashMap<StreamId, Waker>>,
    /// Told when the hub's next tick may have moved.
    tick_moved: Notify,
    view: View,
    large_reads: LargeReads,
    clock: Arc<dyn Clock>,
    meters: Rc<WorkerMeters>,
}

impl Watches {
    /// Sets up the hub and spawns its driver on the worker's `LocalSet`.
    pub(crate) fn start(
        handle: &Handle,
        clock: Arc<dyn Clock>,
        options: HubOptions,
        meters: Rc<WorkerMeters>,
    ) -> Rc<Watches> {
        let published = Arc::new(Notify::new());
        let bell = published.clone();
        let hub = Hub::new(handle.event_log().clone(), options, move || bell.notify_one());
        let watches = Rc::new(Watches {
            hub: RefCell::new(hub),
            wakers: RefCell::default(),
            tick_moved: Notify::new(),
            view: handle.view().clone(),
            large_reads: handle.large_reads().clone(),
            clock,
            meters,
        });
        tokio::task::spawn_local(drive(Rc::downgrade(&watches), published));
        watches
    }

    /// Opens a stream without watchers.
    pub(crate) fn open(self: &Rc<Self>) -> WatchStream {
        let id = self.with_hub(Hub::open_stream);
        WatchStream { watches: self.clone(), id }
    }

    /// As [`Watches::act`], and notes what the hub holds then.
    fn with_hub<T>(&self, act: impl FnOnce(&mut Hub) -> T) -> T {
        let result = self.act(act);
        self.note_counts();
        result
    }

    fn note_counts(&self) {
        self.meters.set_watch(self.hub.borrow().counts());
    }

    /// Does something with the hub, then wakes whoever has something to do by it.
    fn act<T>(&self, act: impl FnOnce(&mut Hub) -> T) -> T {
        let mut ready = Vec::new();
        let result = {
            let mut hub = self.hub.borrow_mut();
            let result = act(&mut hub);
            hub.take_ready(&mut ready);
            result
        };
        if !ready.is_empty() {
            // Being woken, a task is put in line and no more.
            let wakers = self.wakers.borrow();
            ready.iter().filter_map(|stream| wakers.get(stream)).for_each(Waker::wake_by_ref);
        }
        result
    }

    fn start_load(self: &Rc<Self>, load: HistoryLoad) {
        let (watches, view, large_reads) = (Rc::downgrade(self), self.view.clone(), self.large_reads.clone());
        tokio::task::spawn_local(async move {
            let ticket = load.ticket;
            let loaded = large_reads.run(move || read_history(&view, &load)).await;
            let loaded = loaded.unwrap_or_else(|error| Err(HistoryError::Failed(error.to_string())));
            if let Some(watches) = watches.upgrade() {
                watches.with_hub(|hub| hub.history_loaded(ticket, loaded));
            }
        });
    }
}

/// Lets the hub take in what is published and what the clock says, until the worker is gone.
async fn drive(watches: Weak<Watches>, published: Arc<Notify>) {
    loop {
        let Some(tick) = watches.upgrade().map(|watches| watches.until_tick()) else { return };
        let tick_moved = async {
            match watches.upgrade() {
                Some(watches) => watches.tick_moved.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = published.notified() => {}
            () = tick => {}
            () = tick_moved => continue,
        }
        let Some(watches) = watches.upgrade() else { return };
        let now = watches.clock.now();
        watches.with_hub(|hub| {
            hub.advance();
            hub.tick(now);
        });
    }
}

impl Watches {
    /// Resolves when the hub's next tick is due.
    fn until_tick(&self) -> impl Future<Output = ()> + use<> {
        let now = self.clock.now();
        let timer: Option<Sleep> = self.hub.borrow().next_tick().map(|due: Monotonic| sleep(due.since(now)));
        async move {
            match timer {
                Some(timer) => timer.await,
                None => std::future::pending().await,
            }
        }
    }
}

/// One stream of the hub; dropping it closes the stream.
pub(crate) struct WatchStream {
    watches: Rc<Watches>,
    id: StreamId,
}

impl WatchStream {
    pub(crate) fn create(&self, request: &CreateRequest) {
        let now = self.watches.clock.now();
        self.watches.with_hub(|hub| hub.create(self.id, request, now));
        if request.progress_notify {
            self.watches.tick_moved.notify_one();
        }
    }

    pub(crate) fn cancel(&self, watch_id: i64) {
        self.watches.with_hub(|hub| hub.cancel(self.id, watch_id));
    }

    pub(crate) fn request_progress(&self) {
        self.watches.with_hub(|hub| hub.request_progress(self.id));
    }

    /// Whether requests should wait until output is read.
    pub(crate) fn is_congested(&self) -> bool {
        self.watches.hub.borrow().is_congested(self.id)
    }

    /// The next message for the client.
    pub(crate) fn poll_message(&self, context: &mut Context<'_>) -> Poll<Message> {
        loop {
            let next = self.watches.act(|hub| hub.next_message(self.id));
            match next {
                Next::Message(message) => return Poll::Ready(message),
                Next::Load(load) => self.watches.start_load(load),
                Next::Idle => {
                    self.watches.note_counts();
                    let mut wakers = self.watches.wakers.borrow_mut();
                    if !wakers.get(&self.id).is_some_and(|waker| waker.will_wake(context.waker())) {
                        wakers.insert(self.id, context.waker().clone());
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// To be called by whoever stops before there is no further message.
    pub(crate) fn note_counts(&self) {
        self.watches.note_counts();
    }

    /// As [`WatchStream::poll_message`].
    pub(crate) async fn next_message(&self) -> Message {
        poll_fn(|context| self.poll_message(context)).await
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let _waker = self.watches.wakers.borrow_mut().remove(&self.id);
        self.watches.with_hub(|hub| hub.close_stream(self.id));
    }
}
