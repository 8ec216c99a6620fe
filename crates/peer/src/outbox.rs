//! The way out, as every thread sees it: messages go onto a stream's lane, and from there to the network, on the sender's own thread;
//! those for which no stream is there wait here until the transport's thread takes all of them.
//!
//! Invariants
//! - `send` never waits for a peer or for another sender's write, and for no longer than a few lines of a lock's other holders.
//! - A peer's messages overtake none of its own that still wait here.
//! - What waits for one peer, here and beyond, is bounded in messages and in bytes; more is dropped and reported.
//! - The transport's thread is woken once for all that comes until it looks.
//! - Nothing waits for a member that is unknown, removed, or this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use env::{Clock, Monotonic};
use metrics::{Counter, Histogram, Reading, names};
use parking_lot::Mutex;
use tokio::sync::Notify;
use types::{MemberId, Message, MessageKind};

use crate::frames::StreamKind;
use crate::lane::Lane;
use crate::readings::Readers;
use crate::settings::{QUEUE_MESSAGES_MAX, REMOTES_MAX, Settings};
use crate::transfers::{TransferFigures, Transfers};

/// Sends messages to peers and says which peers there are. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Outbox(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    state: Mutex<State>,
    woken: Notify,
    refused: AtomicU64,
    pub(crate) readers: Readers,
}

struct State {
    /// What no lane took: posts, snapshots, and what was sent after them until they are on their way.
    waiting: Vec<Queued>,
    /// Peers, and members that wrote to us before we knew them as such.
    targets: BTreeMap<MemberId, Arc<Target>>,
    roster: Arc<Roster>,
    /// Peers to which messages were lost since the transport last looked.
    lost: BTreeSet<MemberId>,
    is_woken: bool,
}

/// Who is in the cluster.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Rises with every change.
    pub(crate) number: u64,
    /// The others and where they are reached.
    pub(crate) peers: BTreeMap<MemberId, Vec<String>>,
    pub(crate) removed: BTreeSet<MemberId>,
    /// Where those are reached that are not known as members yet. Messages to them are posted.
    pub(crate) remotes: BTreeMap<MemberId, Vec<String>>,
}

/// A message on its way to a peer. Counted as waiting for as long as it lives.
pub(crate) struct Queued {
    message: Message,
    target: Arc<Target>,
    bytes: usize,
}

/// One peer: its lanes, and what is counted for it.
pub(crate) struct Target {
    append: Lane,
    message: Lane,
    /// Messages of the outbox that are not on a way of their own yet.
    unrouted: AtomicUsize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    send_failures: AtomicU64,
    receive_failures: AtomicU64,
    dropped: AtomicU64,
    streams: AtomicUsize,
    /// Nanoseconds on the monotonic clock, plus one; 0 while inactive.
    active_since: AtomicU64,
    /// What the last probe found, in nanoseconds, plus one; 0 before there was one.
    round_trip: AtomicU64,
    clock_drift: AtomicU64,
    round_trips: Histogram,
    lost_touch: Counter,
    pub(crate) snapshots_sent: Transfers,
    pub(crate) snapshots_received: Transfers,
}

impl Default for Target {
    fn default() -> Target {
        Target {
            append: Lane::default(),
            message: Lane::default(),
            unrouted: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            send_failures: AtomicU64::new(0),
            receive_failures: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            active_since: AtomicU64::new(0),
            round_trip: AtomicU64::new(0),
            clock_drift: AtomicU64::new(0),
            round_trips: Histogram::new(names::PEER_ROUND_TRIP.buckets()),
            lost_touch: Counter::new(),
            snapshots_sent: Transfers::out(),
            snapshots_received: Transfers::inward(),
        }
    }
}

/// Figures of one peer since it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Whether it is a member; if not, it wrote to this one and may become one.
    pub is_peer: bool,
    /// Whether it is in touch, and how often it was lost out of touch.
    pub is_active: bool,
    pub lost_touch: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub send_failures: u64,
    pub receive_failures: u64,
    /// Messages that found no room, or whose connection was lost.
    pub dropped: u64,
    /// Streams to the peer that it holds open; two when all is well.
    pub streams: usize,
    pub waiting_messages: usize,
    pub waiting_bytes: usize,
    /// How long the last probe was under way, and how far the peer's wall clock was from this member's.
    pub round_trip: Option<Duration>,
    pub clock_drift: Option<Duration>,
    /// Of all probes.
    pub round_trips: Reading,
    pub snapshots_sent: TransferFigures,
    pub snapshots_received: TransferFigures,
}

/// What the transport found when it looked.
pub(crate) struct Taken {
    pub(crate) messages: Vec<Queued>,
    pub(crate) lost: BTreeSet<MemberId>,
}

impl Outbox {
    pub(crate) fn new(settings: Settings, clock: Arc<dyn Clock>, readers: Readers) -> Outbox {
        let state = State {
            waiting: Vec::new(),
            targets: BTreeMap::new(),
            roster: Arc::default(),
            lost: BTreeSet::new(),
            is_woken: false,
        };
        Outbox(Arc::new(Shared {
            settings,
            clock,
            state: Mutex::new(state),
            woken: Notify::new(),
            refused: AtomicU64::new(0),
            readers,
        }))
    }

    /// Sends each message to the peer it names. Those to members that are unknown or removed vanish, and so do those that
    /// find no room, which is reported as [`crate::Host::unreachable`].
    pub fn send(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let admitted = self.0.admit(messages);
        let mut unrouted = Vec::new();
        let mut written: Vec<Arc<Target>> = Vec::new();
        for queued in admitted {
            let target = queued.target.clone();
            match target.push_in_turn(queued) {
                Some(queued) => unrouted.push(queued),
                None if written.iter().any(|other| Arc::ptr_eq(other, &target)) => {}
                None => written.push(target),
            }
        }
        // Once for each of them, so that what goes to one peer goes in one piece.
        for target in written {
            target.write();
        }
        if !unrouted.is_empty() {
            self.0.change(|state| state.waiting.append(&mut unrouted));
        }
    }

    /// Says who the members are and where they are reached. This member itself may be among them. Who is no peer any
    /// more is disconnected; `removed` are refused for good.
    pub fn set_members(&self, members: &[(MemberId, Vec<String>)], removed: BTreeSet<MemberId>) {
        let own = self.0.settings.member;
        self.0.change(|state| {
            let others = members.iter().filter(|(id, _)| *id != own && *id != MemberId(0) && !removed.contains(id));
            let peers: BTreeMap<_, _> = others.cloned().collect();
            let mut remotes = state.roster.remotes.clone();
            remotes.retain(|id, _| !peers.contains_key(id) && !removed.contains(id));
            state.set_roster(peers, remotes, removed);
        });
    }

    /// Since when the peer has been in touch without a failure.
    pub fn active_since(&self, peer: MemberId) -> Option<Monotonic> {
        let state = self.0.state.lock();
        let nanoseconds = state.targets.get(&peer)?.active_since.load(Ordering::Relaxed);
        nanoseconds.checked_sub(1).map(|since| Monotonic(Duration::from_nanos(since)))
    }

    /// What was counted for a peer.
    pub fn figures(&self, peer: MemberId) -> Option<Figures> {
        let state = self.0.state.lock();
        Some(state.targets.get(&peer)?.figures(state.roster.peers.contains_key(&peer)))
    }

    /// What was counted for every peer.
    pub fn all_figures(&self) -> Vec<(MemberId, Figures)> {
        // Who sends messages waits for the lock: memory is asked for without it.
        let count = self.0.state.lock().targets.len();
        let mut targets = Vec::with_capacity(count);
        {
            let state = self.0.state.lock();
            let is_peer = |id| state.roster.peers.contains_key(id);
            targets.extend(state.targets.iter().map(|(id, target)| (*id, is_peer(id), target.clone())));
        }
        targets.into_iter().map(|(id, is_peer, target)| (id, target.figures(is_peer))).collect()
    }

    /// Connections, requests and messages that were refused: garbage, wrong clusters, removed members.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl State {
    fn set_roster(
        &mut self,
        peers: BTreeMap<MemberId, Vec<String>>,
        remotes: BTreeMap<MemberId, Vec<String>>,
        removed: BTreeSet<MemberId>,
    ) {
        self.targets.retain(|id, _| peers.contains_key(id) || remotes.contains_key(id));
        for id in peers.keys().chain(remotes.keys()) {
            self.targets.entry(*id).or_default();
        }
        self.lost.retain(|id| self.targets.contains_key(id));
        self.roster = Arc::new(Roster { number: self.roster.number + 1, peers, removed, remotes });
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        let number = state.roster.number;
        change(&mut state);
        let is_news = !state.waiting.is_empty() || !state.lost.is_empty() || state.roster.number != number;
        let wake = is_news && !state.is_woken;
        state.is_woken |= is_news;
        drop(state);
        if wake {
            self.woken.notify_one();
        }
    }

    /// The messages to those that are peers, as far as there is room.
    fn admit(&self, messages: Vec<Message>) -> Vec<Queued> {
        let mut admitted = Vec::with_capacity(messages.len());
        self.change(|state| {
            for message in messages {
                let Some(target) = state.targets.get(&message.to) else {
                    continue;
                };
                let to = message.to;
                match Queued::new(message, target, self.settings.queue_bytes_max) {
                    Some(queued) => admitted.push(queued),
                    None => drop(state.lost.insert(to)),
                }
            }
        });
        admitted
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until there is something to take.
    pub(crate) async fn news(&self) {
        self.woken.notified().await;
    }

    /// Everything that came since the last time; `spare` is an empty vector for what comes next.
    pub(crate) fn take(&self, spare: Vec<Queued>) -> Taken {
        let mut state = self.state.lock();
        state.is_woken = false;
        Taken { messages: std::mem::replace(&mut state.waiting, spare), lost: std::mem::take(&mut state.lost) }
    }

    pub(crate) fn roster(&self) -> Arc<Roster> {
        self.state.lock().roster.clone()
    }

    pub(crate) fn target(&self, id: MemberId) -> Option<Arc<Target>> {
        self.state.lock().targets.get(&id).cloned()
    }

    /// Messages to this peer were lost beyond the outbox.
    pub(crate) fn report_lost(&self, peer: MemberId) {
        self.change(|state| {
            if state.targets.contains_key(&peer) {
                state.lost.insert(peer);
            }
        });
    }

    /// Remembers where a member is reached that is not known as one yet.
    pub(crate) fn add_remote(&self, id: MemberId, urls: Vec<String>) {
        self.change(|state| {
            let roster = state.roster.clone();
            let is_known = id == self.settings.member
                || roster.peers.contains_key(&id)
                || roster.removed.contains(&id)
                || roster.remotes.contains_key(&id);
            if is_known {
                return;
            }
            let mut remotes = roster.remotes.clone();
            if remotes.len() >= REMOTES_MAX {
                // Anyone can say anything. Who really joins comes again.
                remotes.pop_first();
            }
            remotes.insert(id, urls);
            state.set_roster(roster.peers.clone(), remotes, roster.removed.clone());
        });
    }
}

impl Queued {
    /// `None` if there is no room for it.
    fn new(message: Message, target: &Arc<Target>, bytes_max: usize) -> Option<Queued> {
        let bytes = size_bytes(&message);
        let (waiting, held) = (target.messages.load(Ordering::Relaxed), target.bytes.load(Ordering::Relaxed));
        // One message of any size has room, or it would never leave.
        if waiting >= QUEUE_MESSAGES_MAX || (waiting > 0 && held + bytes > bytes_max) {
            target.lost(1);
            return None;
        }
        target.messages.fetch_add(1, Ordering::Relaxed);
        target.bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(Queued { message, target: target.clone(), bytes })
    }

    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    /// What it is counted as; more than nothing.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// It became so many bytes on a stream.
    pub(crate) fn sent(&self, bytes: usize) {
        self.target.sent(bytes);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.target.messages.fetch_sub(1, Ordering::Relaxed);
        self.target.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Target {
    pub(crate) fn lane(&self, kind: StreamKind) -> &Lane {
        match kind {
            StreamKind::Append => &self.append,
            StreamKind::Message => &self.message,
        }
    }

    /// Puts a message onto its lane, unless others to this peer still wait in the outbox. Hands back what has to go another way; it is
    /// counted as waiting there, until [`Target::routed`].
    fn push_in_turn(&self, queued: Queued) -> Option<Queued> {
        let refused = match self.unrouted.load(Ordering::Acquire) {
            0 => self.push(queued)?,
            _ => queued,
        };
        self.unrouted.fetch_add(1, Ordering::Relaxed);
        Some(refused)
    }

    /// Puts a message onto its lane: appends have one to themselves, as long as it has a stream. Hands back what needs no stream, or has none.
    pub(crate) fn push(&self, queued: Queued) -> Option<Queued> {
        match queued.message.kind {
            MessageKind::Snapshot => Some(queued),
            MessageKind::Append => self.append.push(queued).and_then(|queued| self.message.push(queued)),
            _ => self.message.push(queued),
        }
    }

    /// A message of the outbox is on its way.
    pub(crate) fn routed(&self) {
        self.unrouted.fetch_sub(1, Ordering::Release);
    }

    /// Writes what was pushed. Never blocks.
    pub(crate) fn write(&self) {
        for kind in StreamKind::ALL {
            self.lane(kind).write();
        }
    }

    /// So many messages will never arrive.
    pub(crate) fn lost(&self, messages: usize) {
        self.dropped.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn stream_attached(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stream_detached(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn send_failed(&self) {
        self.send_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn receive_failed(&self) {
        self.receive_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// In touch. True if it was not before.
    pub(crate) fn activate(&self, now: Monotonic) -> bool {
        self.active_since.compare_exchange(0, after_zero(now.0), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Out of touch. True if it was not before.
    pub(crate) fn deactivate(&self) -> bool {
        let was_active = self.active_since.swap(0, Ordering::Relaxed) != 0;
        if was_active {
            self.lost_touch.increment();
        }
        was_active
    }

    /// The peer has answered a probe.
    pub(crate) fn probed(&self, round_trip: Duration, clock_drift: Duration) {
        self.round_trips.observe(round_trip);
        self.round_trip.store(after_zero(round_trip), Ordering::Relaxed);
        self.clock_drift.store(after_zero(clock_drift), Ordering::Relaxed);
    }

    fn figures(&self, is_peer: bool) -> Figures {
        let known =
            |nanoseconds: &AtomicU64| nanoseconds.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_nanos);
        Figures {
            is_peer,
            is_active: self.active_since.load(Ordering::Relaxed) != 0,
            lost_touch: self.lost_touch.get(),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            send_failures: self.send_failures.load(Ordering::Relaxed),
            receive_failures: self.receive_failures.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            streams: self.streams.load(Ordering::Relaxed),
            waiting_messages: self.messages.load(Ordering::Relaxed),
            waiting_bytes: self.bytes.load(Ordering::Relaxed),
            round_trip: known(&self.round_trip),
            clock_drift: known(&self.clock_drift),
            round_trips: self.round_trips.read(),
            snapshots_sent: self.snapshots_sent.figures(),
            snapshots_received: self.snapshots_received.figures(),
        }
    }
}

/// Nanoseconds, plus one, so that 0 can stand for nothing.
fn after_zero(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 1).saturating_add(1)
}

/// What a waiting message is counted as; about what it takes on the wire.
fn size_bytes(message: &Message) -> usize {
    let entries: usize = message.entries.iter().map(|entry| entry.data.len() + 32).sum();
    entries + message.context.len() + 64
}
