//! Members with a real transport and nothing behind it: what reaches them is recorded.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, SystemClock};
use parking_lot::Mutex;
use peer::{
    Afterwards, Host, Outbox, PeerError, PeerRequest, PeerResponse, Readings, Receiver, Settings, SnapshotChunks,
    SnapshotSink, SnapshotSource, SnapshotWriter, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, LocalSet};
use types::{ClusterId, EntryKind, Index, LogEntry, MemberId, Message, MessageKind, SnapshotMeta, Term};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
/// Nothing here takes long; this is for a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a runtime such as a transport's thread has.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(PATIENCE, test).await.expect("the test ends in time") };
    LocalSet::new().block_on(&runtime, limited);
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Unreachable(MemberId),
    Gone(MemberId),
    SnapshotSent(MemberId, bool),
    Removed,
}

type Answerer = dyn Fn(&PeerRequest) -> Result<PeerResponse, PeerError>;

/// What reached a member.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) messages: Arc<Mutex<Vec<Message>>>,
    pub(crate) batches: Arc<AtomicUsize>,
    pub(crate) events: RefCell<Vec<Event>>,
    changed: Arc<Notify>,
    pub(crate) answerer: RefCell<Option<Box<Answerer>>>,
}

impl Record {
    /// Waits until something holds of what was recorded.
    pub(crate) async fn until(&self, holds: impl Fn(&Record) -> bool) {
        while !holds(self) {
            self.changed.notified().await;
        }
    }

    /// The messages so far.
    pub(crate) fn taken(&self) -> Vec<Message> {
        std::mem::take(&mut *self.messages.lock())
    }

    pub(crate) async fn until_received(&self, count: usize) {
        self.until(|record| record.messages.lock().len() >= count).await;
    }

    pub(crate) async fn until_event(&self, event: &Event) {
        self.until(|record| record.events.borrow().contains(event)).await;
    }

    fn note(&self, event: Event) {
        self.events.borrow_mut().push(event);
        self.changed.notify_one();
    }
}

struct RecordingReceiver {
    messages: Arc<Mutex<Vec<Message>>>,
    batches: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl Receiver for RecordingReceiver {
    fn receive(&self, messages: Vec<Message>) -> Option<Afterwards> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.messages.lock().extend(messages);
        self.changed.notify_one();
        None
    }
}

pub(crate) struct RecordingHost(Rc<Record>);

impl Host for RecordingHost {
    fn unreachable(&self, peer: MemberId) {
        self.0.note(Event::Unreachable(peer));
    }

    fn gone(&self, peer: MemberId) {
        self.0.note(Event::Gone(peer));
    }

    fn snapshot_sent(&self, peer: MemberId, accepted: bool) {
        self.0.note(Event::SnapshotSent(peer, accepted));
    }

    fn removed(&self) {
        self.0.note(Event::Removed);
    }

    fn answer(&self, request: PeerRequest) -> impl Future<Output = Result<PeerResponse, PeerError>> + 'static {
        let answer = match &*self.0.answerer.borrow() {
            Some(answerer) => answerer(&request),
            None => Err(PeerError::Other("nobody answers".to_owned())),
        };
        async move { answer }
    }
}

/// A member with a transport that serves.
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) address: SocketAddr,
    pub(crate) outbox: Outbox,
    pub(crate) record: Rc<Record>,
    serving: AbortHandle,
}

pub(crate) struct Setup {
    pub(crate) cluster: ClusterId,
    pub(crate) version: &'static str,
    pub(crate) queue_bytes_max: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) probe_interval: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) source: Arc<dyn SnapshotSource>,
    pub(crate) sink: Arc<dyn SnapshotSink>,
    /// Port 0 is any.
    pub(crate) address: SocketAddr,
    /// When streams of appends begin to be read.
    pub(crate) appends_read: Option<Arc<Notify>>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            cluster: CLUSTER,
            version: "3.5.30",
            queue_bytes_max: 64 << 20,
            clock: Arc::new(SystemClock::default()),
            probe_interval: Duration::from_secs(4),
            read_timeout: Duration::from_secs(5),
            source: Arc::new(NoSnapshots),
            sink: Arc::new(NoSnapshots),
            address: "127.0.0.1:0".parse().unwrap(),
            appends_read: None,
        }
    }
}

async fn read(streams: Readings, begin: Option<Arc<Notify>>) -> Infallible {
    if let Some(begin) = begin {
        begin.notified().await;
    }
    streams.run().await
}

impl Member {
    pub(crate) fn start(id: u64) -> Member {
        Member::start_with(id, Setup::default())
    }

    pub(crate) fn start_with(id: u64, setup: Setup) -> Member {
        let listener = TcpListener::bind(setup.address).unwrap();
        let address = listener.local_addr().unwrap();
        let id = MemberId(id);
        let settings = Settings {
            queue_bytes_max: setup.queue_bytes_max,
            probe_interval: setup.probe_interval,
            read_timeout: setup.read_timeout,
            ..Settings::new(setup.cluster, id, setup.version, vec![url(address)])
        };
        let (transport, streams) = Transport::new(settings, setup.clock);
        let outbox = transport.outbox();
        let record = Rc::new(Record::default());
        let host = Rc::new(RecordingHost(record.clone()));
        let receiver = Arc::new(RecordingReceiver {
            messages: record.messages.clone(),
            batches: record.batches.clone(),
            changed: record.changed.clone(),
        });
        let serving = tokio::task::spawn_local(async move {
            tokio::select! {
                served = transport.serve(vec![listener], host, receiver, setup.source, setup.sink) => drop(served.unwrap()),
                never = read(streams.appends, setup.appends_read) => match never {},
                never = streams.messages.run() => match never {},
            }
        });
        Member { id, address, outbox, record, serving: serving.abort_handle() }
    }

    /// Stops as a process that ends: all its connections close.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.serving.abort();
        while !self.serving.is_finished() {
            tokio::task::yield_now().await;
        }
        self.address
    }

    pub(crate) fn peer(&self) -> (MemberId, Vec<String>) {
        (self.id, vec![url(self.address)])
    }

    /// Sends one message, and again whenever it was lost, until the other has it: then streams or posts work.
    pub(crate) async fn reach(&self, other: &Member) {
        let lost = Event::Unreachable(other.id);
        let probe = |member: &Message| member.kind == MessageKind::TimeoutNow;
        loop {
            self.record.events.borrow_mut().clear();
            self.outbox.send(vec![message(MessageKind::TimeoutNow, self.id, other.id)]);
            tokio::select! {
                () = other.record.until(|record| record.messages.lock().iter().any(probe)) => break,
                () = self.record.until_event(&lost) => {}
            }
        }
        other.record.messages.lock().retain(|message| !probe(message));
        self.record.events.borrow_mut().clear();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Makes each a peer of the others.
pub(crate) fn join(members: &[&Member]) {
    let peers: Vec<_> = members.iter().map(|member| member.peer()).collect();
    for member in members {
        member.outbox.set_members(&peers, BTreeSet::new());
    }
}

/// Waits until both streams of every pair are there, so that messages take them and not posts.
pub(crate) async fn connected(members: &[&Member]) {
    for from in members {
        for to in members {
            if from.id != to.id {
                from.reach(to).await;
                from.streams_attached(to).await;
            }
        }
    }
}

impl Member {
    /// Both of the peer's streams hang on this member: then a batch of two kinds comes in two batches at most.
    async fn streams_attached(&self, to: &Member) {
        while self.outbox.figures(to.id).is_none_or(|figures| figures.streams < 2) {
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn message(kind: MessageKind, from: MemberId, to: MemberId) -> Message {
    Message { term: Term(1), ..Message::new(kind, from, to) }
}

pub(crate) fn entry(term: u64, index: u64, data: Bytes) -> LogEntry {
    LogEntry { term: Term(term), index: Index(index), kind: EntryKind::Normal, data }
}

pub(crate) fn append(from: MemberId, to: MemberId, previous: u64, entries: Vec<LogEntry>) -> Message {
    Message {
        log_term: Term(1),
        index: Index(previous),
        entries,
        commit: Index(previous),
        ..message(MessageKind::Append, from, to)
    }
}

pub(crate) fn snapshot(from: MemberId, to: MemberId, index: u64) -> Message {
    let meta = SnapshotMeta { index: Index(index), term: Term(1), voters: vec![from, to], learners: vec![] };
    Message { snapshot: Some(meta), ..message(MessageKind::Snapshot, from, to) }
}

/// Sends bytes and reads until the other side closes or `enough` holds of what came.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8], enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    drop(stream.write_all(bytes).await);
    let mut read = Vec::new();
    while !enough(&read) {
        match stream.read_buf(&mut read).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    read
}

/// A request in its bytes, with headers of which each ends its line.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// What a raft request says of its sender.
pub(crate) fn identity(from: MemberId) -> String {
    format!(
        "X-Server-From: {from}\r\nX-Server-Version: 3.5.30\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: {CLUSTER}\r\n"
    )
}

/// An answer with its head in lines.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn short(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}

pub(crate) async fn ask(address: SocketAddr, request: &[u8]) -> Answer {
    let read = exchange(address, request, |_| false).await;
    let read = String::from_utf8(read).unwrap();
    let (head, body) = read.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {read:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

struct NoSnapshots;

impl SnapshotSource for NoSnapshots {
    fn open(&self, _meta: &SnapshotMeta) -> io::Result<Box<dyn SnapshotChunks + Send>> {
        Err(io::Error::other("there is no state"))
    }
}

impl SnapshotSink for NoSnapshots {
    fn begin(&self, _message: &Message) -> io::Result<Box<dyn SnapshotWriter + Send>> {
        Err(io::Error::other("there is no place"))
    }
}
