//! The transport's thread: it owns the links, brings them what waits in the outbox, and keeps them in step with the roster.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use types::{MemberId, Message, MessageKind};

use crate::frames::StreamKind;
use crate::host::{Afterwards, Host, Receiver, SnapshotSink, SnapshotSource};
use crate::link::Link;
use crate::outbox::{Queued, Roster, Shared};
use crate::tasks::Tasks;
use crate::{posts, prober, snapshot_sender, stream_reader};

/// A batch of so many messages is kept as the place of the next one.
const SPARE_MESSAGES_MAX: usize = 4096;

/// How messages get to the member, whichever thread has read them.
pub(crate) struct Hearing {
    shared: Arc<Shared>,
    receiver: Arc<dyn Receiver>,
}

pub(crate) struct Heard {
    /// A removed member sent one of the messages.
    pub(crate) is_from_removed: bool,
    pub(crate) afterwards: Option<Afterwards>,
}

impl Hearing {
    /// Hands messages on, but for those that must not reach the member.
    pub(crate) fn hear(&self, mut messages: Vec<Message>) -> Heard {
        let own = self.shared.settings.member;
        let count = messages.len();
        let mut is_from_removed = false;
        if count > 0 {
            let roster = self.shared.roster();
            messages.retain(|message| {
                let is_removed = roster.removed.contains(&message.from);
                is_from_removed |= is_removed;
                message.to == own && message.from != MemberId(0) && message.from != own && !is_removed
            });
        }
        if messages.len() < count {
            self.shared.count_refused();
        }
        let afterwards = if messages.is_empty() { None } else { self.receiver.receive(messages) };
        Heard { is_from_removed, afterwards }
    }
}

pub(crate) struct Port<H> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) host: Rc<H>,
    pub(crate) hearing: Arc<Hearing>,
    pub(crate) source: Arc<dyn SnapshotSource>,
    pub(crate) sink: Arc<dyn SnapshotSink>,
    pub(crate) tasks: Tasks,
    /// Bytes of posted messages that are coming in.
    pub(crate) post_bytes: Cell<usize>,
    /// A snapshot is coming in: until its thread is done with it.
    pub(crate) is_receiving_snapshot: Arc<AtomicBool>,
    pub(crate) connections: Cell<usize>,
    links: RefCell<BTreeMap<MemberId, Rc<Link>>>,
    roster: RefCell<Arc<Roster>>,
}

impl<H: Host> Port<H> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        host: Rc<H>,
        receiver: Arc<dyn Receiver>,
        source: Arc<dyn SnapshotSource>,
        sink: Arc<dyn SnapshotSink>,
        tasks: Tasks,
    ) -> Rc<Port<H>> {
        let hearing = Arc::new(Hearing { shared: shared.clone(), receiver });
        Rc::new(Port {
            shared,
            host,
            hearing,
            source,
            sink,
            tasks,
            post_bytes: Cell::new(0),
            is_receiving_snapshot: Arc::default(),
            connections: Cell::new(0),
            links: RefCell::default(),
            roster: RefCell::default(),
        })
    }

    /// Carries what the outbox brings, for ever.
    pub(crate) async fn dispatch(self: &Rc<Self>) -> Infallible {
        let mut spare = Vec::new();
        loop {
            self.shared.news().await;
            let mut taken = self.shared.take(spare);
            // Read after the messages, so that it knows everyone they are for.
            self.sync();
            for queued in taken.messages.drain(..) {
                let target = queued.target().clone();
                self.route(queued);
                target.routed();
            }
            self.write_lanes();
            for peer in taken.lost {
                self.host.unreachable(peer);
            }
            spare = taken.messages;
            spare.shrink_to(SPARE_MESSAGES_MAX);
        }
    }

    /// Who is in the cluster, as of now.
    pub(crate) fn roster(self: &Rc<Self>) -> Arc<Roster> {
        self.sync();
        self.roster.borrow().clone()
    }

    /// The way to a peer, if it is one.
    pub(crate) fn link(self: &Rc<Self>, id: MemberId) -> Option<Rc<Link>> {
        self.sync();
        self.links.borrow().get(&id).cloned()
    }

    /// Hands on a message that did not come by a stream. False if a removed member sent it.
    pub(crate) fn deliver(&self, message: Message) -> bool {
        let heard = self.hearing.hear(vec![message]);
        if let Some(afterwards) = heard.afterwards {
            afterwards();
        }
        !heard.is_from_removed
    }

    /// Opens and closes links until they are those of the roster.
    fn sync(self: &Rc<Self>) {
        let roster = self.shared.roster();
        if self.roster.borrow().number == roster.number {
            return;
        }
        *self.roster.borrow_mut() = roster.clone();
        let mut links = self.links.borrow_mut();
        links.retain(|id, link| {
            let urls = if link.is_remote { roster.remotes.get(id) } else { roster.peers.get(id) };
            // Who went and came again in between is another peer to all threads that send.
            let is_same = self.shared.target(*id).is_some_and(|target| Arc::ptr_eq(&target, &link.target));
            let urls = urls.filter(|_| is_same);
            match urls {
                Some(urls) => link.rotation.borrow_mut().replace(urls),
                None => link.close(),
            }
            urls.is_some()
        });
        let peers = roster.peers.iter().map(|(id, urls)| (*id, urls, false));
        let remotes = roster.remotes.iter().map(|(id, urls)| (*id, urls, true));
        for (id, urls, is_remote) in peers.chain(remotes) {
            // The roster may have changed once more; then it is looked at once more.
            let Some(target) = self.shared.target(id) else { continue };
            if links.contains_key(&id) {
                continue;
            }
            let link = Rc::new(Link::new(id, target, urls.clone(), is_remote));
            links.insert(id, link.clone());
            if !is_remote {
                link.keep(self.tasks.spawn(prober::run(self.clone(), link.clone())));
                for kind in StreamKind::ALL {
                    let reader = stream_reader::read(self.clone(), link.clone(), kind);
                    link.keep(self.tasks.spawn(reader));
                }
            }
        }
    }

    fn route(self: &Rc<Self>, queued: Queued) {
        let Some(link) = self.links.borrow().get(&queued.message().to).cloned() else {
            return;
        };
        if queued.message().kind == MessageKind::Snapshot {
            return snapshot_sender::start(self, &link, queued.message().clone());
        }
        // A stream may have come since it was sent.
        if let Some(queued) = link.target.push(queued) {
            posts::push(self, &link, queued);
        }
    }

    /// Once for everything that was put on a lane.
    fn write_lanes(&self) {
        for link in self.links.borrow().values() {
            link.target.write();
        }
    }
}
