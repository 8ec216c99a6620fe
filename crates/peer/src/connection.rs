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
pub(crate) struct Connection<S: AsyncRead + AsyncWrite = PatientStream> {
    sender: http1::SendRequest<RequestBody>,
    driver: Driver<S>,
    pub(crate) idle_since: Instant,
}

/// The connection's own work.
struct Driver<S: AsyncRead + AsyncWrite>(Option<Box<Http<S>>>);

type Http<S> = http1::Connection<TokioIo<S>, RequestBody>;

impl Connection {
    /// # Errors
    /// [`ClientError::Unreachable`] if it does not come about in time.
    pub(crate) async fn open(
        url: &PeerUrl,
        dial_timeout: Duration,
        patience: Patience,
    ) -> Result<Connection, ClientError> {
        Connection::over(PatientStream::of(connect(url, dial_timeout).await?, patience), url).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// HTTP over a stream that leads to `url`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the stream is of no use.
    pub(crate) async fn over(stream: S, url: &PeerUrl) -> Result<Connection<S>, ClientError> {
        let mut builder = http1::Builder::new();
        builder.title_case_headers(true);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| url.failed(error))?;
        Ok(Connection { sender, driver: Driver(Some(Box::new(driver))), idle_since: Instant::now() })
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

    /// The stream without HTTP. `None` if it has ended, or if HTTP has read beyond the last answer.
    pub(crate) fn into_stream(self) -> Option<S> {
        let parts = self.driver.0?.into_parts();
        parts.read_buf.is_empty().then(|| parts.io.into_inner())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Does what can be done now. How it ended, who waits for an answer or a body learns there.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.0
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.0 = None;
        }
    }
}

impl PeerUrl {
    pub(crate) fn failed(&self, error: hyper::Error) -> ClientError {
        self.unreachable(io::Error::other(error))
    }

    pub(crate) fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Unreachable { address: self.authority(), source }
    }
}

/// Opens a connection that is set up.
///
/// # Errors
/// [`ClientError::Unreachable`] if it does not come about in time.
pub(crate) async fn connect(url: &PeerUrl, dial_timeout: Duration) -> Result<TcpStream, ClientError> {
    let connected = match timeout(dial_timeout, TcpStream::connect((url.host.as_str(), url.port))).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    };
    let set_up = connected.and_then(|stream| set_up(&stream).map(|()| stream));
    set_up.map_err(|error| url.unreachable(error))
}

/// Sets up a connection: frames leave at once, and a vanished peer is noticed.
pub(crate) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
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
    pub(crate) fn of(stream: TcpStream, patience: Patience) -> PatientStream {
        PatientStream { stream, read: Wait::new(patience.read), write: Wait::new(patience.write) }
    }

    /// The connection by itself, without limits.
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
