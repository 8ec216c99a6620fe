//! One watch that outlives the connections it is on: after each it goes on where it was, on whichever server answers.

use std::sync::Arc;
use std::time::Duration;

use api::errors;
use api::etcdserverpb as pb;
use api::etcdserverpb::watch_request::RequestUnion;
use client::{Balanced, Client, Code, Status, Stream};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Between two attempts to go on.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct WatchStream {
    cluster: Arc<Balanced>,
    /// As it would be asked for now.
    request: pb::WatchCreateRequest,
    client: Option<Client>,
    stream: Option<Stream<pb::WatchRequest, pb::WatchResponse>>,
    /// It was made once, and has not been made anew since its connection broke.
    is_resuming: bool,
}

#[derive(Debug)]
pub(super) enum Happening {
    /// Events, or none: then the server tells how far it is.
    Response(pb::WatchResponse),
    /// Nothing more will come.
    End { reason: Status, response: pb::WatchResponse },
}

impl WatchStream {
    pub(super) fn new(cluster: Arc<Balanced>, request: pb::WatchCreateRequest) -> WatchStream {
        WatchStream { cluster, request, client: None, stream: None, is_resuming: false }
    }

    /// What happens next; meanwhile the server is asked how far it is whenever `asks` says so.
    pub(super) async fn next(&mut self, asks: &mut mpsc::Receiver<()>) -> Happening {
        loop {
            match self.attempt(asks).await {
                Ok(response) if response.created && !response.canceled => self.created(&response),
                Ok(response) if response.canceled => return Happening::End { reason: reason(&response), response },
                Ok(response) => {
                    let last = response.events.iter().filter_map(|event| event.kv.as_ref()).next_back();
                    // Without events it says that there are none up to there.
                    let told = response.header.as_ref().filter(|_| response.events.is_empty());
                    if let Some(seen) = last.map(|kv| kv.mod_revision).or(told.map(|header| header.revision)) {
                        self.request.start_revision = self.request.start_revision.max(seen + 1);
                    }
                    return Happening::Response(response);
                }
                Err(status) => {
                    self.stream = None;
                    let lost_for_now = matches!(status.code, Code::Unavailable | Code::Internal);
                    // Whoever watches is told that there is no leader; whoever comes from a lost member may be early.
                    let told = status.message == errors::NO_LEADER.text && !self.is_resuming;
                    if !lost_for_now || told {
                        let response = pb::WatchResponse { canceled: true, ..Default::default() };
                        return Happening::End { reason: status, response };
                    }
                    self.is_resuming |= self.request.start_revision != 0;
                    if let Some(client) = self.client.take() {
                        self.cluster.leave(&client, &status);
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// A watch for what is to come begins where the server was when it made it.
    fn created(&mut self, response: &pb::WatchResponse) {
        self.is_resuming = false;
        if self.request.start_revision == 0 {
            self.request.start_revision = response.header.map_or(0, |header| header.revision + 1);
        }
    }

    async fn attempt(&mut self, asks: &mut mpsc::Receiver<()>) -> Result<pb::WatchResponse, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let client = self.client.insert(self.cluster.connection().await);
                let mut stream = client.watch_with_leader().await?;
                stream.send(&message(RequestUnion::CreateRequest(self.request.clone())))?;
                self.stream.insert(stream)
            }
        };
        loop {
            tokio::select! {
                response = stream.incoming.next() => {
                    return response?.ok_or_else(|| Status::new(Code::Unavailable, "the watch's stream ended"));
                }
                Some(()) = asks.recv() => {
                    stream.outgoing.send(&message(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})))?;
                }
            }
        }
    }
}

fn message(request: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(request) }
}

/// Why the server cancelled a watch.
fn reason(response: &pb::WatchResponse) -> Status {
    match (response.compact_revision, &*response.cancel_reason) {
        (0, "") => Status::new(Code::OutOfRange, errors::FUTURE_REVISION.text),
        (0, reason) => Status::new(Code::FailedPrecondition, reason),
        _ => Status::new(Code::OutOfRange, errors::COMPACTED.text),
    }
}
