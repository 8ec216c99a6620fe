//! The Lock service: whoever has the oldest key under the lock's name holds it.

use api::errors;
use api::etcdserverpb::{RangeRequest, TxnRequest};
use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use bytes::Bytes;

use super::queue::{At, Queue, Waiting, created_at, delete, found, put_op, range, range_op, session, txn};
use super::unary;
use crate::rpc::{Answer, Call};
use crate::status::Status;
use crate::worker::Worker;

pub(super) async fn lock(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &LockRequest| false,
        async |worker: &Worker, request| {
            let held = acquire(worker, request).await?;
            let response = LockResponse { header: None, key: held.message };
            Ok(Answer::Whole(worker.header().message(held.revision, worker.term(), &response)))
        },
    )
    .await;
}

pub(super) async fn unlock(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &UnlockRequest| false,
        async |worker: &Worker, request| {
            let revision = delete(worker, request.key).await?;
            Ok(Answer::Whole(worker.header().message(revision, worker.term(), &UnlockResponse::default())))
        },
    )
    .await;
}

/// Returns the key that holds the lock.
async fn acquire(worker: &Worker, request: LockRequest) -> Result<At<Bytes>, Status> {
    let lease = session(worker, request.lease).await?;
    let queue = Queue::new(worker, &request.name);
    let key = queue.key(lease);
    let own = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let queued = txn(
        worker,
        TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: vec![put_op(key.clone(), Bytes::new(), lease), range_op(queue.first())],
            // The same lease again: it may hold the lock already.
            failure: vec![range_op(own.clone()), range_op(queue.first())],
        },
    )
    .await?;
    let owner = found(queued.message.clone(), 1).into_iter().next();
    let create_revision = match queued.message.succeeded {
        true => queued.revision,
        false => found(queued.message, 0).first().map_or(queued.revision, |key| key.create_revision),
    };
    if owner.is_none_or(|owner| owner.create_revision == create_revision) {
        return Ok(At { revision: queued.revision, message: key });
    }
    let waiting = Waiting::new(worker, key.clone(), create_revision);
    queue.wait_turn(create_revision).await?;
    let still_there = range(worker, own).await?;
    waiting.done();
    match still_there.message.kvs.is_empty() {
        true => Err(errors::SESSION_EXPIRED.into()),
        false => Ok(At { revision: still_there.revision, message: key }),
    }
}
