//! LeaseKeepAlive. The other lease methods are calls of the server and nothing else.

use std::pin::pin;

use api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use types::LeaseId;

use super::until_ended;
use crate::rpc::Call;
use crate::status::Status;
use crate::worker::Worker;

/// Renews lease after lease: one answer a request, in their order. An unknown lease is answered with a TTL of 0, any
/// other failure ends the stream.
pub(super) async fn keep_alive(worker: Worker, call: Call) {
    if let Err(status) = worker.admit(&call.metadata, false) {
        return call.responder.fail(&status);
    }
    let mut ended = pin!(until_ended(&worker, &call));
    let Call { mut requests, responder, .. } = call;
    let Ok(mut outgoing) = responder.open() else { return };
    loop {
        let next = async {
            let Some(LeaseKeepAliveRequest { id }) = requests.next().await? else { return Ok::<_, Status>(None) };
            let renewed = worker.handle().lease_keep_alive(LeaseId(id)).await?;
            let response = LeaseKeepAliveResponse { header: None, id, ttl: renewed.ttl };
            Ok(Some(worker.header().message(renewed.revision, worker.term(), &response)))
        };
        let next = async {
            tokio::select! {
                biased;
                answer = next => answer,
                status = &mut ended => Err(status),
            }
        };
        match outgoing.guard(next).await {
            Ok(Ok(Some(answer))) => {
                if outgoing.room(1).await.is_err() {
                    return;
                }
                outgoing.send(answer);
            }
            Ok(Ok(None)) => return outgoing.finish(Ok(())),
            Ok(Err(status)) => return outgoing.finish(Err(status)),
            Err(_gone) => return,
        }
    }
}
