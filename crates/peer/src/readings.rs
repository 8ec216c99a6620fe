//! Streams to read: the transport's thread dials them, and others read them, where what they bring is waited for.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::frames::StreamKind;

type Reading = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All streams of one transport.
pub struct Streams {
    /// What leaders send to be stored.
    pub appends: Readings,
    pub messages: Readings,
}

/// Streams to be read on one thread. Until it runs they wait, and this member is deaf to them.
pub struct Readings(UnboundedReceiver<Reading>);

/// Where streams are handed over.
pub(crate) struct Readers {
    appends: Reader,
    messages: Reader,
}

pub(crate) struct Reader(UnboundedSender<Reading>);

impl Readers {
    pub(crate) fn new() -> (Readers, Streams) {
        let (append_sender, append_receiver) = unbounded_channel();
        let (message_sender, message_receiver) = unbounded_channel();
        let readers = Readers { appends: Reader(append_sender), messages: Reader(message_sender) };
        (readers, Streams { appends: Readings(append_receiver), messages: Readings(message_receiver) })
    }

    pub(crate) fn of(&self, kind: StreamKind) -> &Reader {
        match kind {
            StreamKind::Append => &self.appends,
            StreamKind::Message => &self.messages,
        }
    }
}

impl Reader {
    /// Has `reading` done. `None` if its thread has ended. Dropped, it ends there too.
    pub(crate) async fn run<T: Send + 'static>(&self, reading: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (mut tell, told) = oneshot::channel();
        let reading = async move {
            tokio::select! {
                biased;
                () = tell.closed() => {}
                end = reading => drop(tell.send(end)),
            }
        };
        self.0.send(Box::pin(reading)).ok()?;
        told.await.ok()
    }
}

impl Readings {
    /// Reads on the calling thread, inside its `LocalSet` on a runtime with time and I/O. Dropped, it ends the streams.
    pub async fn run(mut self) -> Infallible {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                reading = self.0.recv() => match reading {
                    Some(reading) => drop(running.spawn_local(reading)),
                    // The transport is gone, and nobody waits for what is still read.
                    None => pending().await,
                },
                Some(ended) = running.join_next() => {
                    if let Err(error) = ended {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
    }
}
