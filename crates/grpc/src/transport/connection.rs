//! One HTTP/2 connection: drives the library, starts a task per call, keeps the client to the rules.
//!
//! The connection's task and the tasks of its calls share one thread. A call that answers wakes the connection's task,
//! which the scheduler puts behind all calls woken before: so when it runs, the answers of that turn are all there and
//! leave in one write (see [`super::socket`]). Calls that are answered
//! while they are started leave in that same turn.
//!
//! What one connection does wrong ends that connection and nothing else.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::budget::{Account, Budget, Charge};
use super::keepalive::Keepalive;
use super::ping_policy::PingPolicy;
use super::socket::Socket;

/// How much of a request body a client may send ahead, per call and per connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Header block of one request, decoded.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;

/// Calls taken in one turn; then other connections get theirs.
const CALLS_PER_TURN: usize = 64;

/// Calls cancelled before we even saw them: more than a client gives up on at once, fewer than a flood.
const UNSEEN_RESETS_MAX: usize = 256;

/// By how much the calls a client cancels may outnumber what it lets us send. No client that wants answers comes near.
const RESETS_MAX: u64 = 10_000;

/// Calls that were answered before the client had sent all of its request, remembered for a second: what still comes
/// for more than these is an error that ends the connection.
const ANSWERED_EARLY_MAX: usize = 1024;

/// Once so much waits for the client, its further calls wait too.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// How long what was said last may take to leave once a connection has ended.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// What small request frames may cost in bookkeeping. The library's own default ends connections that carry thousands
/// of small requests at once.
const SMALL_FRAMES_BUDGET_BYTES: usize = 16 << 20;

/// The rules of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Calls open at once.
    pub(crate) streams_max: u32,
    /// What the calls of all connections may hold.
    pub(crate) budget: Arc<Budget>,
    /// For the opening of a connection, and for the headers of a call from their first byte to the last.
    pub(crate) opening_timeout: Duration,
    /// A client may not ping more often.
    pub(crate) ping_min_time: Duration,
    /// After so long without a byte, we ping.
    pub(crate) keepalive_interval: Duration,
    /// So long after our ping without a byte, we hang up.
    pub(crate) keepalive_timeout: Duration,
}

/// A call as it comes in.
pub(crate) struct Incoming {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    pub(crate) charge: Charge,
}

/// Why a connection ended out of order.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The peer broke the protocol, or said that we did.
    #[error("http/2 protocol")]
    Protocol(#[from] h2::Error),
    #[error("connection lost")]
    Lost(#[from] io::Error),
    #[error("{0}")]
    Abuse(&'static str),
}

/// Serves HTTP/2 on `io` until it ends: `start` is called for every call and spawns its task. When `stopped`
/// resolves, calls that run may finish and no new ones are taken.
///
/// # Errors
/// Whatever ended the connection, if it did not end in order.
pub(crate) async fn serve<S, F>(
    io: S,
    settings: Settings,
    stopped: impl Future<Output = ()>,
    start: F,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(Incoming),
{
    let socket = Socket::new(io);
    let handshake = library(&settings).handshake::<_, Bytes>(socket.clone());
    let Ok(handshake) = timeout(settings.opening_timeout, handshake).await else {
        return Ok(());
    };
    let mut http2 = handshake?;
    let pings = http2.ping_pong().expect("taken once");
    let mut connection = Connection {
        http2,
        socket: socket.clone(),
        start,
        opening_timeout: settings.opening_timeout,
        owed: None,
        keepalive: Keepalive::new(pings, settings.keepalive_interval, settings.keepalive_timeout),
        ping_policy: PingPolicy::new(settings.ping_min_time),
        account: Account::open(&settings.budget),
        answers_seen: 0,
        held_back: VecDeque::new(),
        last_stream: 0,
        stopping: false,
        ended: None,
    };
    let mut stopped = std::pin::pin!(stopped);
    let ended = poll_fn(|context| connection.poll(stopped.as_mut(), context)).await;
    // What is held back may still have to leave, but nobody waits for a client that does not read.
    let drained = timeout(FAREWELL_TIMEOUT, poll_fn(|context| socket.poll_drain(context))).await;
    ended.and(drained.unwrap_or(Ok(())).map_err(ConnectionError::from))
}

fn library(settings: &Settings) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_concurrent_reset_streams(ANSWERED_EARLY_MAX)
        .data_frame_budget(SMALL_FRAMES_BUDGET_BYTES);
    builder
}

struct Connection<S, F> {
    http2: h2::server::Connection<Socket<S>, Bytes>,
    socket: Socket<S>,
    start: F,
    keepalive: Keepalive,
    ping_policy: PingPolicy,
    account: Account,
    answers_seen: u64,
    /// Calls of a client that does not take the answers to others.
    held_back: VecDeque<Incoming>,
    last_stream: u32,
    stopping: bool,
    opening_timeout: Duration,
    /// What the client has to finish saying, and until when.
    owed: Option<(u64, Pin<Box<Sleep>>)>,
    /// How it ended.
    ended: Option<Result<(), ConnectionError>>,
}

impl<S, F> Connection<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(Incoming),
{
    /// One turn: takes in all that came, frames all that is to go, writes once.
    fn poll(
        &mut self,
        stopped: Pin<&mut impl Future<Output = ()>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        if !self.stopping && stopped.poll(context).is_ready() {
            self.stopping = true;
            self.http2.graceful_shutdown();
        }
        self.accept_all(context);
        self.start_held_back();
        if self.ended.is_none()
            && let Some(abuse) = self.find_abuse()
        {
            self.socket.push(&goaway(self.last_stream, abuse));
            self.ended = Some(Err(ConnectionError::Abuse(abuse)));
        }
        if let Some(ended) = self.ended.take() {
            return Poll::Ready(ended);
        }
        if self.poll_late(context).is_ready() || self.keepalive.poll_given_up(self.socket.reads(), context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.socket.poll_drain(context)) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Ready if the client's settings, or the rest of a call's headers, have not come in time. A connection stands still
    /// until they do: not even a ping can be answered in between.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(part) = self.socket.owed() else {
            self.owed = None;
            return Poll::Pending;
        };
        let since = self.owed.take().filter(|(timed, _)| *timed == part);
        let (_, timer) = self.owed.insert(since.unwrap_or_else(|| (part, Box::pin(sleep(self.opening_timeout)))));
        timer.as_mut().poll(context)
    }

    fn accept_all(&mut self, context: &mut Context<'_>) {
        for _ in 0..CALLS_PER_TURN {
            let Poll::Ready(accepted) = self.http2.poll_accept(context) else { return };
            match accepted {
                Some(Ok((request, respond))) => {
                    self.last_stream = respond.stream_id().as_u32();
                    let charge = self.account.charge_call();
                    let incoming = Incoming { request, respond, charge };
                    if self.held_back.is_empty() && self.has_room() {
                        (self.start)(incoming);
                    } else {
                        self.hold_back(incoming);
                    }
                }
                Some(Err(error)) => {
                    self.ended = Some(Err(error.into()));
                    return;
                }
                None => {
                    self.ended = Some(Ok(()));
                    return;
                }
            }
        }
        context.waker().wake_by_ref();
    }

    fn has_room(&self) -> bool {
        self.account.waiting_bytes() < WAITING_BYTES_MAX
    }

    /// Keeps a call, headers and all, until the client has taken answers.
    fn hold_back(&mut self, mut incoming: Incoming) {
        incoming.charge.add(headers_bytes(incoming.request.headers()));
        if self.account.has_room() {
            self.held_back.push_back(incoming);
        } else {
            // Says that nothing was done: clients may try again.
            incoming.respond.send_reset(Reason::REFUSED_STREAM);
        }
    }

    fn start_held_back(&mut self) {
        while self.has_room()
            && let Some(incoming) = self.held_back.pop_front()
        {
            (self.start)(incoming);
        }
    }

    fn find_abuse(&mut self) -> Option<&'static str> {
        let answers = self.socket.answers();
        if self.socket.resets() > answers + RESETS_MAX {
            return Some("too_many_resets");
        }
        let pings = self.socket.take_pings();
        if pings == 0 {
            return None;
        }
        if std::mem::replace(&mut self.answers_seen, answers) != answers {
            self.ping_policy.forgive();
        }
        let (now, calls_open) = (Instant::now(), self.http2.has_streams());
        (0..pings).any(|_| self.ping_policy.ping(now, calls_open)).then_some("too_many_pings")
    }
}

/// About how much memory headers take.
fn headers_bytes(headers: &HeaderMap) -> usize {
    const ENTRY_BYTES: usize = 128;
    headers.iter().map(|(name, value)| ENTRY_BYTES + name.as_str().len() + value.len()).sum()
}

/// The GOAWAY frame that tells a client why it is sent away. The library cannot send the text, which is what clients
/// go by.
fn goaway(last_stream: u32, text: &'static str) -> Vec<u8> {
    const GOAWAY: u8 = 7;
    let mut frame = vec![0, 0, 8 + text.len() as u8, GOAWAY, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes());
    frame.extend(text.as_bytes());
    frame
}
