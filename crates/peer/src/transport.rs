//! The whole: made with its outbox, served on a thread of its own.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use env::Clock;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::connection::{self, Patience, PatientStream};
use crate::host::{Host, Receiver, SnapshotSink, SnapshotSource};
use crate::inbound::{self, Reply};
use crate::outbox::Outbox;
use crate::port::Port;
use crate::readings::{Readers, Streams};
use crate::settings::{IO_TIMEOUT, Settings};
use crate::stream_writer::{self, StreamEnded};
use crate::tasks::Tasks;

/// Header bytes of one request.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Out of descriptors, say: accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The part of the transport that its thread runs.
pub struct Transport {
    outbox: Outbox,
}

impl Transport {
    /// A transport without peers; say who they are by [`Outbox::set_members`], now or later.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> (Transport, Streams) {
        let (readers, streams) = Readers::new();
        (Transport { outbox: Outbox::new(settings, clock, readers) }, streams)
    }

    /// The way to send.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Serves `listeners` and all links, inside a `LocalSet` on a current-thread runtime with time and I/O. Does not end by itself: dropped, it closes
    /// every connection.
    ///
    /// # Errors
    /// If a listener cannot be taken over.
    pub async fn serve<H: Host>(
        self,
        listeners: Vec<StdTcpListener>,
        host: Rc<H>,
        receiver: Arc<dyn Receiver>,
        source: Arc<dyn SnapshotSource>,
        sink: Arc<dyn SnapshotSink>,
    ) -> io::Result<Infallible> {
        let tasks = Tasks::default();
        let _guard = tasks.guard();
        let port = Port::new(self.outbox.0.clone(), host, receiver, source, sink, tasks.clone());
        for listener in listeners {
            listener.set_nonblocking(true)?;
            tasks.spawn(accept(port.clone(), TcpListener::from_std(listener)?));
        }
        // A task of its own: the set's other tasks wake it without a turn through the runtime, which would ask the kernel for
        // events between a message's arrival and its answer.
        let mut dispatcher = JoinSet::new();
        dispatcher.spawn_local(async move { port.dispatch().await });
        match dispatcher.join_next().await.expect("one task was spawned") {
            Ok(never) => match never {},
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

async fn accept<H: Host>(port: Rc<Port<H>>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if port.connections.get() >= port.shared.settings.connections_max => {
                port.shared.count_refused();
                drop(stream);
            }
            Ok((stream, from)) => {
                port.connections.set(port.connections.get() + 1);
                let owner = port.clone();
                port.tasks.spawn(async move {
                    if let Err(error) = serve(&owner, stream).await {
                        owner.shared.count_refused();
                        tracing::debug!(%from, error = &*error, "connection ended");
                    }
                    owner.connections.set(owner.connections.get() - 1);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "connections of peers cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<H: Host>(port: &Rc<Port<H>>, stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
    let patience = Patience { read: None, write: Some(port.shared.settings.write_timeout) };
    connection::set_up(&stream)?;
    let stream = PatientStream::of(stream, patience);
    let opening = Cell::new(None);
    let service = service_fn(|request| async {
        match inbound::reply(port, request).await {
            Reply::Answer(answer) => Ok::<_, Infallible>(answer),
            Reply::Stream(stream) => {
                opening.set(Some(stream));
                pending().await
            }
        }
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .header_read_timeout(IO_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let opening = poll_fn(|cx| match (Pin::new(&mut connection).poll(cx), opening.take()) {
        (Poll::Ready(ended), _) => Poll::Ready(ended.map(|()| None)),
        (Poll::Pending, Some(opening)) => Poll::Ready(Ok(Some(opening))),
        (Poll::Pending, None) => Poll::Pending,
    });
    let Some(opening) = opening.await? else { return Ok(()) };
    // Until here HTTP has written nothing of its answer to this request: the connection is the stream's alone.
    let parts = connection.into_parts();
    if !parts.read_buf.is_empty() {
        return Err(StreamEnded::Garbage.into());
    }
    Err(stream_writer::serve(port.shared.clone(), opening, parts.io.into_inner().into_inner()).await.into())
}
