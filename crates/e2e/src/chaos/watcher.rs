//! Watchers that stay with one member's address and take up where they were after every loss.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use api::mvccpb::event::EventType;
use checker::{Event, KeyValue, Received, Response, WatchSession};
use testkit::grpc::Client;
use tokio::time::{sleep, timeout};
use types::{KeyRange, LeaseId};

use super::{Shared, wire};
use crate::{CALL_LIMIT, SETTLE_LIMIT, request};

/// After so long without a response a watcher that may ask for progress does.
const QUIET: Duration = Duration::from_millis(150);

/// After so long the connection counts as lost. What a cut wire holds back comes sooner or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// Watches all keys from the first revision on, and asks for progress when it is quiet.
pub(super) async fn everything(shared: Arc<Shared>, seat: usize) {
    follow(shared, seat, WatchSession::new(KeyRange::all(), 1)).await;
}

/// Watches a few keys, with what was there before.
pub(super) async fn some(shared: Arc<Shared>, seat: usize) {
    let keys = KeyRange::prefix(format!("key{seat}").as_bytes());
    follow(shared, seat, WatchSession { previous: true, no_deletes: seat == 1, ..WatchSession::new(keys, 1) }).await;
}

async fn follow(shared: Arc<Shared>, seat: usize, first: WatchSession) {
    let mut start = first.start;
    while !shared.stopping() {
        let mut session = WatchSession { start, ..first.clone() };
        let Some(address) = shared.addresses().get(seat % shared.addresses().len()).copied() else { return };
        if let Ok(Ok(client)) = timeout(QUIET, Client::connect(address)).await {
            // However it ends, what came before is judged.
            run(&shared, &client, &mut session).await.ok();
        }
        start = session.resume_from().unwrap_or(start);
        shared.watched(session);
        sleep(QUIET / 3).await;
    }
}

/// Reads responses until the stream ends, nothing comes any more, or the run does.
async fn run(shared: &Shared, client: &Client, session: &mut WatchSession) -> Result<()> {
    let mut stream = client.watch().await?;
    stream.send(&request::watch_create(creation(session)))?;
    let mut silent = Duration::ZERO;
    while !shared.stopping() && silent < PATIENCE {
        let Ok(response) = timeout(QUIET, stream.next()).await else {
            silent += QUIET;
            if session.responses.iter().any(|response| response.received == Received::Created) {
                stream.send(&request::watch_progress())?;
            }
            continue;
        };
        silent = Duration::ZERO;
        take(session, shared.now(), response?.context("the stream ended")?);
    }
    Ok(())
}

/// Reads all that there ever was up to `last` from one member.
pub(super) async fn from_the_beginning(shared: &Shared, client: &Client, last: i64) -> Result<()> {
    let mut session = WatchSession::new(KeyRange::all(), 1);
    let mut stream = client.watch().await?;
    stream.send(&request::watch_create(creation(&session)))?;
    let limit = tokio::time::Instant::now() + SETTLE_LIMIT;
    while session.resume_from().unwrap_or(0) <= last {
        let response = timeout(CALL_LIMIT, stream.next()).await.context("the past does not come whole")??;
        take(&mut session, shared.now(), response.context("the stream ended")?);
        ensure!(tokio::time::Instant::now() < limit, "the past does not come whole");
    }
    session.complete_to = Some(last);
    shared.watched(session);
    Ok(())
}

fn creation(session: &WatchSession) -> WatchCreateRequest {
    let (key, range_end) = wire::wire_range(&session.keys);
    let filters = if session.no_deletes { vec![1] } else { Vec::new() };
    let (start_revision, prev_kv) = (session.start, session.previous);
    WatchCreateRequest { key, range_end, start_revision, prev_kv, filters, ..Default::default() }
}

/// Adds what a response says to the session.
fn take(session: &mut WatchSession, at: u64, response: WatchResponse) {
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    let received = match &response {
        WatchResponse { canceled: true, compact_revision: compacted @ 1.., .. } => Received::Compacted(*compacted),
        WatchResponse { canceled: true, .. } => Received::Cancelled,
        WatchResponse { created: true, .. } => Received::Created,
        WatchResponse { events, .. } if events.is_empty() => Received::Progress,
        WatchResponse { fragment, .. } => {
            let is_fragment = *fragment;
            let events = response.events.into_iter().map(|event| {
                let is_delete = event.r#type() == EventType::Delete;
                let kv = event.kv.map(wire::key_value).unwrap_or_else(nothing);
                Event { is_delete, kv, previous: event.prev_kv.map(wire::key_value) }
            });
            Received::Events { events: events.collect(), is_fragment }
        }
    };
    session.responses.push(Response { at, revision, received });
}

/// What no store holds, so that it is found out as invented.
fn nothing() -> KeyValue {
    let (key, value) = (Default::default(), Default::default());
    KeyValue { key, value, created: 0, modified: 0, version: 0, lease: LeaseId::NONE }
}
