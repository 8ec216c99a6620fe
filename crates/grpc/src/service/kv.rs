//! RangeStream: a range cut into messages. The other KV methods are calls of the server and nothing else.

use api::errors;
use api::etcdserverpb::RangeRequest;
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use bytes::{BufMut, Bytes, BytesMut};
use machine::{Body, RangeBody, Reply};
use types::{put_varint, varint_len};

use super::until_ended;
use crate::header::framed;
use crate::route::CallKind;
use crate::rpc::{Call, Gone, Outgoing};
use crate::status::Status;
use crate::worker::Worker;

const RANGE_RESPONSE: u8 = 1 << 3 | 2;

/// Streams the keys of a range, all at one revision; the last message carries header, `more` and `count`.
pub(super) async fn range_stream(worker: Worker, mut call: Call) {
    let reply = match start(&worker, &mut call).await {
        Ok(reply) => reply,
        Err(status) => return call.responder.fail(&status),
    };
    let ended = until_ended(&worker, &call);
    let Ok(mut outgoing) = call.responder.open() else { return };
    let sent = tokio::select! {
        biased;
        sent = send(&worker, reply, &mut outgoing) => sent,
        status = ended => Ok(Err(status)),
    };
    if let Ok(outcome) = sent {
        outgoing.finish(outcome);
    }
}

async fn start(worker: &Worker, call: &mut Call) -> Result<Reply, Status> {
    worker.admit(&call.metadata, CallKind::ServerStream, false)?;
    let mut request: RangeRequest = call.requests.only_and_last().await?;
    match (SortOrder::try_from(request.sort_order), SortTarget::try_from(request.sort_target)) {
        // Without an order there is nothing for a target to say.
        (Ok(SortOrder::None), _) => request.sort_target = SortTarget::Key.into(),
        (Ok(SortOrder::Ascend), Ok(SortTarget::Key)) => {}
        _ => return Err(errors::RANGE_STREAM_SORT.into()),
    }
    let filters =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    if filters != [0; 4] {
        return Err(errors::RANGE_STREAM_FILTER.into());
    }
    Ok(worker.handle().range(request).await?)
}

async fn send(worker: &Worker, reply: Reply, outgoing: &mut Outgoing) -> Result<Result<(), Status>, Gone> {
    let mut last = worker.header().field(reply.revision, worker.term()).to_vec();
    match reply.body {
        Body::Encoded(body) => last.extend_from_slice(&body),
        Body::Rows(mut rows) => {
            outgoing.hold(rows.held_bytes());
            // About what etcd's messages come to.
            let bytes_max = worker.handle().limits().max_request_bytes;
            loop {
                outgoing.room(1).await?;
                let mut piece = BytesMut::new();
                match next_rows(&mut rows, &mut piece, bytes_max) {
                    Err(status) => return Ok(Err(status)),
                    Ok(true) => outgoing.send_message(message(&piece)),
                    Ok(false) => {
                        last.extend_from_slice(&piece);
                        break;
                    }
                }
            }
        }
    }
    outgoing.send_message(message(&last));
    Ok(Ok(()))
}

/// Appends the next keys, and after the last of them `more` and `count`. Returns whether keys are left.
fn next_rows(rows: &mut RangeBody, out: &mut BytesMut, bytes_max: usize) -> Result<bool, Status> {
    if rows.encode_rows(out, bytes_max).map_err(server::Error::from)? {
        return Ok(true);
    }
    Ok(rows.encode_next(out, bytes_max).map_err(server::Error::from)?)
}

/// A `RangeStreamResponse`, as it is sent, around an encoded `RangeResponse`.
fn message(range_response: &[u8]) -> Bytes {
    let len = 1 + varint_len(range_response.len() as u64) + range_response.len();
    let mut head = vec![RANGE_RESPONSE];
    put_varint(&mut head, range_response.len() as u64);
    let mut out = framed(len, len);
    out.put_slice(&head);
    out.put_slice(range_response);
    out.freeze()
}
