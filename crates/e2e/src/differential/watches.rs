//! The watch streams of one server.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::etcdserverpb::{WatchRequest, WatchResponse};
use api::mvccpb::Event;
use testkit::grpc::Client;
use tokio::time::timeout;

use super::answer::Identity;
use super::history::revision_of;
use crate::{Watch, request};

/// A request for progress is dropped without an answer while a watch of the stream still catches up.
const PROGRESS_PATIENCE: Duration = Duration::from_millis(60);
const PROGRESS_TRIES: u32 = 200;

/// One stream, taken apart into events by watch and all other answers.
#[derive(Debug)]
pub(super) struct WatchStream {
    watch: Watch,
    identity: Identity,
    answers: VecDeque<WatchResponse>,
    notices: VecDeque<WatchResponse>,
    events: BTreeMap<i64, Received>,
}

/// The events of one watch that were not asked for yet.
#[derive(Debug, Default)]
struct Received {
    events: VecDeque<Event>,
    /// Of the last response; the next one must be later, or a revision was split.
    last_revision: i64,
    /// The last response said that another part follows.
    fragment: bool,
}

impl WatchStream {
    pub(super) async fn open(client: &Client, identity: Identity) -> Result<WatchStream> {
        let watch = Watch::open(client).await?;
        Ok(WatchStream { watch, identity, answers: VecDeque::new(), notices: VecDeque::new(), events: BTreeMap::new() })
    }

    pub(super) fn send(&mut self, request: &WatchRequest) -> Result<()> {
        Ok(self.watch.send(request)?)
    }

    /// Asks for progress until a notice comes: then every watch of the stream is in step.
    pub(super) async fn progress(&mut self) -> Result<WatchResponse> {
        self.notices.clear();
        for _ in 0..PROGRESS_TRIES {
            self.send(&request::watch_progress())?;
            if let Ok(notice) = timeout(PROGRESS_PATIENCE, self.notice()).await {
                return notice;
            }
        }
        bail!("no progress notice came")
    }

    async fn notice(&mut self) -> Result<WatchResponse> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Ok(notice);
            }
            self.read().await.context("a progress notice")?;
        }
    }

    /// The next answer that is neither events nor a progress notice.
    pub(super) async fn answer(&mut self) -> Result<WatchResponse> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(answer);
            }
            self.read().await.context("an answer on a watch stream")?;
        }
    }

    /// The next event of a watch.
    pub(super) async fn event(&mut self, watch_id: i64) -> Result<Event> {
        loop {
            if let Some(event) = self.events.get_mut(&watch_id).and_then(|received| received.events.pop_front()) {
                return Ok(event);
            }
            self.read().await.with_context(|| format!("an event of watch {watch_id}"))?;
        }
    }

    /// All events of a watch at `revision`, which must be the next it sees.
    pub(super) async fn events_of(&mut self, watch_id: i64, revision: i64) -> Result<Vec<Event>> {
        let mut events = vec![self.event(watch_id).await?];
        // A revision comes in one response, so whatever belongs to it has been read with its first event.
        let received = self.events.entry(watch_id).or_default();
        while received.events.front().is_some_and(|event| revision_of(event) == revision) {
            events.extend(received.events.pop_front());
        }
        ensure!(events.iter().all(|event| revision_of(event) == revision), "events of {revision}: {events:?}");
        Ok(events)
    }

    /// The first event that nobody expects, if one has arrived.
    pub(super) fn unexpected(&self) -> Option<(i64, &Event)> {
        self.events.iter().find_map(|(&id, received)| received.events.front().map(|event| (id, event)))
    }

    /// Forgets a watch that was cancelled; its id may come again.
    pub(super) fn forget(&mut self, watch_id: i64) {
        self.events.remove(&watch_id);
    }

    async fn read(&mut self) -> Result<()> {
        let mut response = self.watch.next().await?;
        if response.events.is_empty() {
            self.identity.blank(response.header.as_mut());
            let is_notice = response.watch_id == -1 && !response.created && !response.canceled;
            let queue = if is_notice { &mut self.notices } else { &mut self.answers };
            queue.push_back(response);
            return Ok(());
        }
        let header = response.header.as_ref().context("a response with events has a header")?;
        ensure!(Identity::of(header) == self.identity, "the header names another server: {header:?}");
        let received = self.events.entry(response.watch_id).or_default();
        let first = response.events.first().map_or(0, revision_of);
        let last = response.events.last().map_or(0, revision_of);
        ensure!(
            first > received.last_revision || (received.fragment && first == received.last_revision),
            "revision {first} comes in a second response: {response:?}"
        );
        ensure!(last <= header.revision, "events are ahead of their header: {response:?}");
        received.last_revision = last;
        received.fragment = response.fragment;
        received.events.extend(response.events);
        Ok(())
    }
}
