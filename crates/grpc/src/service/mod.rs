//! The methods, service by service.

mod election;
mod health;
mod kv;
mod lease;
mod lock;
mod queue;
mod watch;

#[cfg(test)]
pub(crate) mod tests;

use std::future::{Future, pending};
use std::task::{Context, Waker};

use api::errors;
use api::etcdserverpb::{
    AlarmRequest, CompactionRequest, DefragmentRequest, DeleteRangeRequest, HashKvRequest, HashRequest,
    LeaseGrantRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest,
    MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest, PutRequest,
    RangeRequest, StatusRequest, TxnRequest,
};
use bytes::Bytes;
use machine::{Body, Reply};
use prost::Message;
use server::{Error, Handle};
use tokio::time::sleep_until;
use types::MemberId;

use crate::header::{self, ReplyTail};
use crate::route::{CallKind, MethodId, Route};
use crate::rpc::{self, Answer, Call, Metadata};
use crate::status::Status;
use crate::transport::Incoming;
use crate::worker::Worker;

/// Starts the task of one call. Requests that are no call are turned away at once.
pub(crate) fn spawn(worker: Worker, incoming: Incoming) {
    let Some((uri, call)) = Call::open(incoming, worker.message_bytes_max()) else { return };
    start_call(worker, uri.path_and_query().map_or("", |path| path.as_str()), call);
}

/// Starts the task of a call of the method that `path` names.
pub(crate) fn start_call(worker: Worker, path: &str, mut call: Call) {
    let route = Route::parse(path);
    // Methods that nobody knows are not counted.
    let method = route.as_ref().map_or_else(|_| MethodId::not_yet(path), |route| Some(route.id()));
    if let Some(method) = method {
        call.count(worker.meters().begin(method));
    }
    let route = match route {
        Ok(route) => route,
        Err(status) => return call.responder.fail(&status),
    };
    // Every arm starts a task of its own type: none is larger than its method takes.
    let (w, c) = (worker, call);
    match route {
        Route::Range => start_at_once(range(w, c)),
        Route::Put => start(reply(w, c, async |handle, request: PutRequest| handle.put(request).await)),
        Route::Txn => {
            let mut c = c;
            c.requests.bound_operations(w.handle().limits().max_txn_ops);
            start(reply(w, c, async |handle, request: TxnRequest| handle.txn(request).await));
        }
        Route::DeleteRange => {
            start(reply(w, c, async |handle, request: DeleteRangeRequest| handle.delete_range(request).await));
        }
        Route::Compact => start(reply(w, c, async |handle, request: CompactionRequest| handle.compact(request).await)),
        Route::RangeStream => start(kv::range_stream(w, c)),
        Route::Watch => start(watch::watch(w, c)),
        Route::LeaseGrant => {
            start(reply(w, c, async |handle, request: LeaseGrantRequest| handle.lease_grant(request).await));
        }
        Route::LeaseRevoke => {
            start(reply(w, c, async |handle, request: LeaseRevokeRequest| handle.lease_revoke(request).await));
        }
        Route::LeaseKeepAlive => start(lease::keep_alive(w, c)),
        Route::LeaseTimeToLive => {
            start(reply(w, c, async |handle, request: LeaseTimeToLiveRequest| {
                handle.lease_time_to_live(request).await
            }));
        }
        Route::LeaseLeases => start(reply(w, c, async |handle, _: LeaseLeasesRequest| handle.lease_leases().await)),
        Route::MemberList => {
            start(reply(w, c, async |handle, request: MemberListRequest| {
                handle.member_list(request.linearizable).await
            }));
        }
        Route::MemberAdd => {
            start(reply(w, c, async |handle, request: MemberAddRequest| handle.member_add(request).await));
        }
        Route::MemberRemove => {
            start(reply(w, c, async |handle, request: MemberRemoveRequest| handle.member_remove(request).await));
        }
        Route::MemberUpdate => {
            start(reply(w, c, async |handle, request: MemberUpdateRequest| handle.member_update(request).await));
        }
        Route::MemberPromote => {
            start(reply(w, c, async |handle, request: MemberPromoteRequest| handle.member_promote(request).await));
        }
        Route::Alarm => start(reply(w, c, async |handle, request: AlarmRequest| handle.alarm(request).await)),
        Route::Status => start(status(w, c)),
        Route::Hash => start(reply(w, c, async |handle, _: HashRequest| handle.hash().await)),
        Route::HashKv => start(reply(w, c, async |handle, request: HashKvRequest| handle.hash_kv(request).await)),
        Route::Defragment => start(bare_reply(w, c, async |handle, _: DefragmentRequest| handle.defragment().await)),
        Route::MoveLeader => start(bare_reply(w, c, async |handle, request: MoveLeaderRequest| {
            handle.move_leader(MemberId(request.target_id)).await
        })),
        Route::HealthCheck => start(health::check(w, c)),
        Route::HealthList => start(health::list(w, c)),
        Route::HealthWatch => start(health::watch(w, c)),
        Route::Lock => start(lock::lock(w, c)),
        Route::Unlock => start(lock::unlock(w, c)),
        Route::Campaign => start(election::campaign(w, c)),
        Route::Proclaim => start(election::proclaim(w, c)),
        Route::Leader => start(election::leader(w, c)),
        Route::Observe => start(election::observe(w, c)),
        Route::Resign => start(election::resign(w, c)),
    }
}

fn start(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

/// Starts a call that mostly need not wait, and then needs no task.
fn start_at_once(task: impl Future<Output = ()> + 'static) {
    let mut task = Box::pin(task);
    // If it does wait, it is polled anew as a task and leaves that one's waker.
    let mut context = Context::from_waker(Waker::noop());
    if task.as_mut().poll(&mut context).is_pending() {
        start(task);
    }
}

async fn range(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |request: &RangeRequest| request.serializable,
        async |worker: &Worker, request| with_header(worker, worker.handle().range(request).await?),
    )
    .await;
}

async fn status(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &StatusRequest| true,
        async |worker: &Worker, _| with_header(worker, worker.handle().status().await?),
    )
    .await;
}

/// A method whose answer is a reply of the server behind the header.
async fn reply<Q, F>(worker: Worker, call: Call, run: impl FnOnce(Handle, Q) -> F)
where
    Q: Message + Default,
    F: Future<Output = Result<Reply, Error>>,
{
    replying(worker, call, run, with_header).await;
}

/// A method whose answer etcd sends without the header.
async fn bare_reply<Q, F>(worker: Worker, call: Call, run: impl FnOnce(Handle, Q) -> F)
where
    Q: Message + Default,
    F: Future<Output = Result<Reply, Error>>,
{
    replying(worker, call, run, without_header).await;
}

async fn replying<Q, F>(
    worker: Worker,
    call: Call,
    run: impl FnOnce(Handle, Q) -> F,
    answer: fn(&Worker, Reply) -> Result<Answer<ReplyTail>, Status>,
) where
    Q: Message + Default,
    F: Future<Output = Result<Reply, Error>>,
{
    unary(
        worker,
        call,
        |_: &Q| false,
        async |worker: &Worker, request| answer(worker, run(worker.handle().clone(), request).await?),
    )
    .await;
}

fn without_header(_: &Worker, reply: Reply) -> Result<Answer<ReplyTail>, Status> {
    let body = body_bytes(reply.body)?;
    let mut out = header::framed(body.len(), body.len());
    out.extend_from_slice(&body);
    Ok(Answer::Whole(out.freeze()))
}

/// A method with one request and one answer; `serves_on_learner` tells whether a learner may answer.
async fn unary<Q: Message + Default>(
    worker: Worker,
    call: Call,
    serves_on_learner: impl FnOnce(&Q) -> bool,
    run: impl AsyncFnOnce(&Worker, Q) -> Result<Answer<ReplyTail>, Status>,
) {
    rpc::unary(call, async |request: Q, metadata: Metadata| {
        worker.admit(&metadata, CallKind::Unary, serves_on_learner(&request))?;
        run(&worker, request).await
    })
    .await;
}

fn with_header(worker: &Worker, reply: Reply) -> Result<Answer<ReplyTail>, Status> {
    worker.header().answer(reply, worker.term())
}

fn body_bytes(body: Body) -> Result<Bytes, Status> {
    Ok(body.into_bytes().map_err(server::Error::from)?)
}

/// Whether the client gave the call up, by itself.
fn is_cancelled(status: &Status) -> bool {
    status.code == errors::CONTEXT_CANCELED.code
}

/// Resolves when a stream must end whatever the client does: the member stops, the client's time is up, or it asked
/// for a leader and there has been none for long.
fn until_ended(worker: &Worker, call: &Call) -> impl Future<Output = Status> + use<> {
    let (worker, wants_leader, deadline) = (worker.clone(), call.metadata.wants_leader, call.deadline);
    async move {
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = worker.handle().stopped() => errors::STOPPED.into(),
            () = worker.leadership().lost(), if wants_leader => errors::NO_LEADER.into(),
            () = late => errors::CONTEXT_DEADLINE_EXCEEDED.into(),
        }
    }
}
