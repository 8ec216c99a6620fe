//! Watch: a stream of requests in, the hub's messages out.
//!
//! Messages are pulled from the hub only while the client takes them, so what waits for a slow client waits in the hub,
//! which bounds it. What is ready at once leaves in one piece.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use api::etcdserverpb::watch_create_request::FilterType;
use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{WatchCreateRequest, WatchRequest};
use bytes::BytesMut;
use types::KeyRange;
use watch::{CreateRequest, HeaderTemplate, Message};

use super::{is_cancelled, until_ended};
use crate::header::{put_prefix, set_len};
use crate::meters::WatchBatch;
use crate::route::CallKind;
use crate::rpc::{Call, Gone, Outgoing, Requests};
use crate::status::Status;
use crate::watches::WatchStream;
use crate::worker::Worker;

/// Messages are gathered up to this many bytes before they are sent.
const BATCH_BYTES: usize = 16 << 10;

/// Messages longer than this are sent in pieces that share the bytes of large records.
const LONG_BYTES: usize = 64 << 10;

/// Records shorter than this are copied.
const SHARED_RECORD_BYTES_MIN: usize = 4 << 10;

/// After so many requests in a row others get their turn.
const REQUESTS_PER_TURN: usize = 64;

pub(super) async fn watch(worker: Worker, call: Call) {
    if let Err(status) = worker.admit(&call.metadata, CallKind::BidiStream, false) {
        return call.responder.fail(&status);
    }
    let ended = until_ended(&worker, &call);
    let Call { mut requests, responder, .. } = call;
    let Ok(mut outgoing) = responder.open() else { return };
    let mut turn = Turn { stream: worker.watches().open(), requests_ended: false };
    let status = {
        let mut ended = pin!(ended);
        poll_fn(|context| {
            if let Poll::Ready(status) = ended.as_mut().poll(context) {
                return Poll::Ready(Ok(status));
            }
            turn.poll(&worker, &mut requests, &mut outgoing, context)
        })
        .await
    };
    if let Ok(status) = status {
        outgoing.finish(Err(status));
    }
}

struct Turn {
    stream: WatchStream,
    requests_ended: bool,
}

impl Turn {
    /// Takes in what came and sends what is there. Ready when the stream is to end, with its status.
    fn poll(
        &mut self,
        worker: &Worker,
        requests: &mut Requests,
        outgoing: &mut Outgoing,
        context: &mut Context<'_>,
    ) -> Poll<Result<Status, Gone>> {
        loop {
            if let Poll::Ready(status) = self.poll_requests(requests, context) {
                if !is_cancelled(&status) {
                    worker.meters().watch_broke();
                }
                return Poll::Ready(Ok(status));
            }
            let was_congested = self.stream.is_congested();
            if let Poll::Ready(Err(Gone)) = self.poll_send(worker, outgoing, context) {
                return Poll::Ready(Err(Gone));
            }
            // Requests were left unread and may be read now: nothing else will wake us for them.
            if !was_congested || self.stream.is_congested() {
                return Poll::Pending;
            }
        }
    }

    /// Acts on the requests that have come, unless too much output waits already. A client that has sent its last
    /// request goes on watching.
    fn poll_requests(&mut self, requests: &mut Requests, context: &mut Context<'_>) -> Poll<Status> {
        for _ in 0..REQUESTS_PER_TURN {
            if self.requests_ended || self.stream.is_congested() {
                return Poll::Pending;
            }
            match pin!(requests.next::<WatchRequest>()).poll(context) {
                Poll::Ready(Ok(Some(request))) => self.act(request),
                Poll::Ready(Ok(None)) => self.requests_ended = true,
                Poll::Ready(Err(status)) => return Poll::Ready(status),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn act(&self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.stream.create(&create_request(request)),
            Some(RequestUnion::CancelRequest(request)) => self.stream.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.stream.request_progress(),
            None => {}
        }
    }

    /// Sends until nothing is left or the client takes no more.
    fn poll_send(&self, worker: &Worker, outgoing: &mut Outgoing, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let header = worker.header_template();
        loop {
            match outgoing.poll_room(1, context) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(Gone)) => return Poll::Ready(Err(Gone)),
                Poll::Pending => {
                    self.stream.note_counts();
                    return Poll::Pending;
                }
            }
            let mut batch = BytesMut::new();
            let mut sent = WatchBatch::default();
            let mut idle = false;
            while batch.len() < BATCH_BYTES && !idle {
                match self.stream.poll_message(context) {
                    Poll::Ready(message) => {
                        worker.meters().add_to_batch(&mut sent, &message);
                        sent.bytes += write(&message, header, &mut batch, outgoing);
                    }
                    Poll::Pending => idle = true,
                }
            }
            if !batch.is_empty() {
                outgoing.send(batch.freeze());
            }
            if sent.messages > 0 {
                outgoing.count_messages(sent.messages, sent.bytes);
                worker.meters().end_batch(&sent);
            }
            if idle && self.requests_ended {
                return outgoing.poll_gone(context).map(Err);
            }
            if idle {
                // Who goes away ends the requests, too. To ask the answer's side would be to be woken whenever some of it
                // has left.
                return Poll::Pending;
            }
        }
    }
}

/// Adds a message to `batch`, or sends it right away, after the batch, if it is long. Returns how many bytes it has.
fn write(message: &Message, header: HeaderTemplate, batch: &mut BytesMut, outgoing: &mut Outgoing) -> usize {
    if message.events_len() <= LONG_BYTES {
        let start = batch.len();
        put_prefix(batch, 0);
        let len = message.encode_into(&header, batch);
        set_len(&mut batch[start..], len);
        return len;
    }
    let len = message.encoded_len(&header);
    put_prefix(batch, len);
    outgoing.send(batch.split().freeze());
    for chunk in message.encode_chunks(&header, SHARED_RECORD_BYTES_MIN) {
        outgoing.send(chunk);
    }
    len
}

fn create_request(request: WatchCreateRequest) -> CreateRequest {
    let filters = |filter: FilterType| request.filters.contains(&filter.into());
    CreateRequest {
        start_revision: request.start_revision,
        watch_id: request.watch_id,
        progress_notify: request.progress_notify,
        prev_kv: request.prev_kv,
        fragment: request.fragment,
        no_put: filters(FilterType::Noput),
        no_delete: filters(FilterType::Nodelete),
        range: KeyRange::from_wire(request.key, request.range_end),
    }
}
