//! Connections: TCP with limits on how long a read or write may wait, and one HTTP exchange after the other on top.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::body::RequestBody;
use crate::client::ClientError;
use crate::peer_url::PeerUrl;

/// After so long without traffic the kernel looks whether the other side still is there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long a connection waits for one read and for one write; for ever if `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    pub(crate) read: Option<Duration>,
    pub(crate) write: Option<Duration>,
}

/// A client's connection. Its work is done only inside [`Connection::drive`], by whoever waits for something from it.
pub(crate) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    driver: Driver,
    pub(crate) idle_since: Instant,
}

/// The connection's own work.
pub(crate) struct Driver(Option<Pin<Box<Http>>>);

type Http = http1::Connection<TokioIo<PatientStream>, RequestBody>;

impl Connection {
    /// # Errors
    /// [`ClientError::Unreachable`] if it does not come about in time.
    pub(crate) async fn open(
        url: &PeerUrl,
        dial_timeout: Duration,
        patience: Patience,
    ) -> Result<Connection, ClientError> {
        let connect = TcpStream::connect((url.host.as_str(), url.port));
        let connected = match timeout(dial_timeout, connect).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        };
        let unreachable = |source| ClientError::Unreachable { address: url.authority(), source };
        let stream = connected.and_then(PatientStream::of(patience)).map_err(unreachable)?;
        let mut builder = http1::Builder::new();
        builder.title_case_headers(true);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| url.failed(error))?;
        Ok(Connection { sender, driver: Driver(Some(Box::pin(driver))), idle_since: Instant::now() })
    }

    /// Whether the other side still takes requests.
    pub(crate) async fn is_ready(&mut self) -> bool {
        let ready = self.sender.ready();
        self.driver.drive(ready).await.is_ok()
    }

    /// Sends a request and returns the answer's head.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the connection fails first.
    pub(crate) async fn exchange(
        &mut self,
        url: &PeerUrl,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        let answer = self.sender.send_request(request);
        self.driver.drive(answer).await.map_err(|error| url.failed(error))
    }

    /// Does the connection's work while `future` waits for something of it.
    pub(crate) async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        self.driver.drive(future).await
    }

    pub(crate) fn driver(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

impl Driver {
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Does what can be done now. How it ended, who waits for an answer or a body learns there.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.0
            && driver.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
    }
}

impl PeerUrl {
    pub(crate) fn failed(&self, error: hyper::Error) -> ClientError {
        ClientError::Unreachable { address: self.authority(), source: io::Error::other(error) }
    }
}

/// A TCP connection whose reads and writes fail when they wait too long.
pub(crate) struct PatientStream {
    stream: TcpStream,
    read: Wait,
    write: Wait,
}

/// How long something has waited.
pub(crate) struct Wait {
    limit: Option<Duration>,
    deadline: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl PatientStream {
    /// Sets up a connection: frames leave at once, and a vanished peer is noticed.
    pub(crate) fn of(patience: Patience) -> impl FnOnce(TcpStream) -> io::Result<PatientStream> {
        move |stream| {
            stream.set_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            Ok(PatientStream { stream, read: Wait::new(patience.read), write: Wait::new(patience.write) })
        }
    }

    /// The connection by itself, as it is set up, without limits.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// While a request still goes out, the wait for its answer has not begun.
    fn written(&mut self, outcome: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.is_waiting &= outcome.is_pending();
        self.write.watch(outcome, cx)
    }
}

impl Wait {
    pub(crate) fn new(limit: Option<Duration>) -> Wait {
        Wait { limit, deadline: None, is_waiting: false }
    }

    /// Hands on what the stream said, or an error if it has said "not yet" for too long.
    pub(crate) fn watch<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(limit) = self.limit else {
            return outcome;
        };
        if outcome.is_ready() {
            self.is_waiting = false;
            return outcome;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            let at = Instant::now() + limit;
            match &mut self.deadline {
                Some(deadline) => deadline.as_mut().reset(at),
                None => self.deadline = Some(Box::pin(sleep_until(at))),
            }
        }
        let deadline = self.deadline.as_mut().expect("a wait has a deadline");
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.read.watch(outcome, cx)
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(outcome, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.written(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
