//! A watch stream as tests read it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use api::mvccpb::Event;
use api::mvccpb::event::EventType;
use testkit::grpc::{Client, Status, Stream};
use tokio::time::timeout;

use crate::request;

/// How long an answer that must come may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// How long nothing has to come for it to count as nothing.
const SILENCE: Duration = Duration::from_millis(300);

/// One watch stream.
#[derive(Debug)]
pub struct Watch {
    stream: Stream<WatchRequest, WatchResponse>,
}

impl Watch {
    pub async fn open(client: &Client) -> Result<Watch, Status> {
        Ok(Watch { stream: client.watch().await? })
    }

    /// Opens a stream with one watch on it and reads the answer to its creation.
    pub async fn start(client: &Client, create: WatchCreateRequest) -> Result<Watch> {
        let mut watch = Watch::open(client).await?;
        let created = watch.create(create).await?;
        ensure!(created.created && !created.canceled, "the watch was not created: {created:?}");
        Ok(watch)
    }

    pub fn send(&mut self, message: &WatchRequest) -> Result<(), Status> {
        self.stream.send(message)
    }

    /// Asks for a watch and returns the next response, which is the answer if nothing else is under way.
    pub async fn create(&mut self, create: WatchCreateRequest) -> Result<WatchResponse> {
        self.send(&request::watch_create(create))?;
        self.next().await
    }

    /// The next response, which must come.
    pub async fn next(&mut self) -> Result<WatchResponse> {
        let response = timeout(ANSWER_LIMIT, self.stream.next()).await.context("no watch response came")??;
        response.context("the server ended the watch stream")
    }

    /// The next `count` events, which may come in any number of responses and must not be more.
    pub async fn events(&mut self, count: usize) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next().await?;
            ensure!(!response.canceled, "the watch was cancelled: {response:?}");
            events.extend(response.events);
        }
        ensure!(events.len() == count, "more than {count} events: {events:?}");
        Ok(events)
    }

    /// Fails if anything comes in a while.
    pub async fn stays_silent(&mut self) -> Result<()> {
        match timeout(SILENCE, self.stream.next()).await {
            Err(_) => Ok(()),
            Ok(response) => bail!("nothing should come, but {response:?} did"),
        }
    }

    /// How the server ended the stream, which it must.
    pub async fn end(&mut self) -> Result<Result<(), Status>> {
        loop {
            match timeout(ANSWER_LIMIT, self.stream.next()).await.context("the stream goes on")? {
                Ok(Some(_)) => (),
                Ok(None) => return Ok(Ok(())),
                Err(status) => return Ok(Err(status)),
            }
        }
    }

    /// Says that no more requests will come.
    pub fn close(&mut self) -> Result<(), Status> {
        self.stream.outgoing.close()
    }
}

/// An event in short: `PUT key=value@revision` or `DELETE key@revision`.
pub fn shown(event: &Event) -> String {
    let kv = event.kv.clone().unwrap_or_default();
    let key = String::from_utf8_lossy(&kv.key).into_owned();
    match event.r#type() {
        EventType::Put => format!("PUT {key}={}@{}", String::from_utf8_lossy(&kv.value), kv.mod_revision),
        EventType::Delete => format!("DELETE {key}@{}", kv.mod_revision),
    }
}
