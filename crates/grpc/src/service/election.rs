//! The Election service: whoever has the oldest key under the election's name leads; the key's value is what the leader
//! proclaims.

use std::pin::pin;

use api::errors;
use api::etcdserverpb::{RangeRequest, TxnRequest};
use api::mvccpb::KeyValue;
use api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use bytes::Bytes;
use prost::Message as _;
use types::KeyRange;
use watch::CreateRequest;

use super::queue::{At, Queue, Waiting, created_at, delete_op, found, put_op, range, range_op, session, txn};
use super::{unary, until_ended};
use crate::route::CallKind;
use crate::rpc::{Answer, Call, Gone, Outgoing};
use crate::status::Status;
use crate::worker::Worker;

pub(super) async fn campaign(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &CampaignRequest| false,
        async |worker: &Worker, request| {
            let elected = win(worker, request).await?;
            let response = CampaignResponse { header: None, leader: Some(elected.message) };
            Ok(Answer::Whole(worker.header().message(elected.revision, worker.term(), &response)))
        },
    )
    .await;
}

pub(super) async fn proclaim(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &ProclaimRequest| false,
        async |worker: &Worker, request| {
            let mut leader = request.leader.ok_or(errors::LEADER_KEY_MISSING)?;
            leader.lease = session(worker, leader.lease).await?;
            let revision = set_value(worker, &leader, request.value).await?;
            Ok(Answer::Whole(worker.header().message(revision, worker.term(), &ProclaimResponse::default())))
        },
    )
    .await;
}

pub(super) async fn leader(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &LeaderRequest| false,
        async |worker: &Worker, request| {
            let first = range(worker, Queue::new(worker, &request.name).first()).await?;
            let leader = first.message.kvs.into_iter().next().ok_or(errors::ELECTION_NO_LEADER)?;
            Ok(Answer::Whole(leader_message(worker, first.revision, leader)))
        },
    )
    .await;
}

/// Gives up what `leader` names; succeeds also if it is not held any more.
pub(super) async fn resign(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &ResignRequest| false,
        async |worker: &Worker, request| {
            let leader = request.leader.ok_or(errors::LEADER_KEY_MISSING)?;
            let compare = vec![created_at(leader.key.clone(), leader.rev)];
            let resigned =
                txn(worker, TxnRequest { compare, success: vec![delete_op(leader.key)], failure: vec![] }).await?;
            Ok(Answer::Whole(worker.header().message(resigned.revision, worker.term(), &ResignResponse::default())))
        },
    )
    .await;
}

async fn win(worker: &Worker, request: CampaignRequest) -> Result<At<LeaderKey>, Status> {
    let lease = session(worker, request.lease).await?;
    let queue = Queue::new(worker, &request.name);
    let key = queue.key(lease);
    let queued = txn(
        worker,
        TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: vec![put_op(key.clone(), request.value.clone(), lease)],
            failure: vec![range_op(RangeRequest { key: key.clone(), ..RangeRequest::default() })],
        },
    )
    .await?;
    let mut leader = LeaderKey { name: request.name, key: key.clone(), rev: queued.revision, lease };
    if !queued.message.succeeded
        && let Some(held) = found(queued.message, 0).into_iter().next()
    {
        // The same lease again, maybe with something new to say.
        leader.rev = held.create_revision;
        if held.value != request.value {
            set_value(worker, &leader, request.value).await?;
        }
    }
    let waiting = Waiting::new(worker, key, leader.rev);
    queue.wait_turn(leader.rev).await?;
    waiting.done();
    Ok(At { revision: queued.revision, message: leader })
}

/// Writes the leader's value, if it still leads. Returns the revision.
async fn set_value(worker: &Worker, leader: &LeaderKey, value: Bytes) -> Result<i64, Status> {
    let compare = vec![created_at(leader.key.clone(), leader.rev)];
    let success = vec![put_op(leader.key.clone(), value, leader.lease)];
    let written = txn(worker, TxnRequest { compare, success, failure: vec![] }).await?;
    match written.message.succeeded {
        true => Ok(written.revision),
        false => Err(errors::ELECTION_NOT_LEADER.into()),
    }
}

/// Streams the leader's key and value: at once, or when there is a leader, and again whenever either changes.
pub(super) async fn observe(worker: Worker, mut call: Call) {
    if let Err(status) = worker.admit(&call.metadata, CallKind::ServerStream, false) {
        return call.responder.fail(&status);
    }
    let request: LeaderRequest = match call.requests.only_and_last().await {
        Ok(request) => request,
        Err(status) => return call.responder.fail(&status),
    };
    let mut ended = pin!(until_ended(&worker, &call));
    let Ok(mut outgoing) = call.responder.open() else { return };
    let queue = Queue::new(&worker, &request.name);
    let status = loop {
        let leader = async {
            tokio::select! {
                leader = next_leader(&worker, &queue) => leader,
                status = &mut ended => Err(status),
            }
        };
        let leader = match outgoing.guard(leader).await {
            Err(Gone) => return,
            Ok(Err(status)) => break status,
            Ok(Ok(leader)) => leader,
        };
        let followed = tokio::select! {
            followed = follow(&worker, leader, &mut outgoing) => followed,
            status = &mut ended => break status,
        };
        if followed.is_err() {
            return;
        }
    };
    outgoing.finish(Err(status));
}

/// The oldest key, or the first that is made if there is none.
async fn next_leader(worker: &Worker, queue: &Queue<'_>) -> Result<At<KeyValue>, Status> {
    let first = range(worker, queue.first()).await?;
    if let Some(leader) = first.message.kvs.into_iter().next() {
        return Ok(At { revision: first.revision, message: leader });
    }
    let stream = worker.watches().open();
    let start_revision = first.revision + 1;
    stream.create(&CreateRequest { start_revision, no_delete: true, ..CreateRequest::new(queue.range()) });
    loop {
        let message = stream.next_message().await;
        if let Some(event) = message.events().next() {
            return key_value(event.record.as_bytes(), event.row.revision.main);
        }
        if message.canceled {
            return Err(errors::COMPACTED.into());
        }
    }
}

/// Sends the leader and every change of it, until its key is deleted.
async fn follow(worker: &Worker, leader: At<KeyValue>, outgoing: &mut Outgoing) -> Result<(), Gone> {
    let range = KeyRange::single(leader.message.key.clone());
    let stream = worker.watches().open();
    stream.create(&CreateRequest { start_revision: leader.revision + 1, ..CreateRequest::new(range) });
    outgoing.room(1).await?;
    outgoing.send_message(leader_message(worker, leader.revision, leader.message));
    loop {
        let message = outgoing.guard(stream.next_message()).await?;
        if message.canceled {
            return Ok(());
        }
        for event in message.events() {
            if event.is_delete() {
                return Ok(());
            }
            let Ok(changed) = key_value(event.record.as_bytes(), event.row.revision.main) else { return Ok(()) };
            outgoing.room(1).await?;
            outgoing.send_message(leader_message(worker, changed.revision, changed.message));
        }
    }
}

fn key_value(record: &[u8], revision: i64) -> Result<At<KeyValue>, Status> {
    let message = KeyValue::decode(record);
    let message = message.map_err(|error| Status::new(errors::Code::Unknown, error.to_string()))?;
    Ok(At { revision, message })
}

fn leader_message(worker: &Worker, revision: i64, leader: KeyValue) -> Bytes {
    worker.header().message(revision, worker.term(), &LeaderResponse { header: None, kv: Some(leader) })
}
