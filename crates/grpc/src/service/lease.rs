//! LeaseKeepAlive. The other lease methods are calls of the server and nothing else.

use std::pin::pin;

use api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use server::KeepAlive;
use types::LeaseId;

use super::{is_cancelled, until_ended};
use crate::route::CallKind;
use crate::rpc::{Call, Gone};
use crate::status::Status;
use crate::worker::Worker;

/// Renews lease after lease: one answer a request, in their order. An unknown lease is answered with a TTL of 0, any
/// other failure ends the stream.
pub(super) async fn keep_alive(worker: Worker, call: Call) {
    if let Err(status) = worker.admit(&call.metadata, CallKind::BidiStream, false) {
        return call.responder.fail(&status);
    }
    let mut ended = pin!(until_ended(&worker, &call));
    let Call { mut requests, responder, .. } = call;
    let Ok(mut outgoing) = responder.open() else { return };
    loop {
        // Who goes away meanwhile ends the requests, too.
        let next = tokio::select! {
            biased;
            next = requests.next() => next,
            status = &mut ended => return outgoing.finish(Err(status)),
        };
        let id = match next {
            Ok(Some(LeaseKeepAliveRequest { id })) => id,
            Ok(None) => return outgoing.finish(Ok(())),
            Err(status) => {
                if !is_cancelled(&status) {
                    worker.meters().keep_alive_broke();
                }
                return outgoing.finish(Err(status));
            }
        };
        let renewed = async {
            tokio::select! {
                biased;
                renewed = worker.handle().lease_keep_alive(LeaseId(id)) => Ok(renewed?),
                status = &mut ended => Err(status),
            }
        };
        let renewed: Result<KeepAlive, Status> = match outgoing.guard(renewed).await {
            Ok(renewed) => renewed,
            Err(Gone) => return,
        };
        match renewed {
            Ok(renewed) => {
                if outgoing.room(1).await.is_err() {
                    return;
                }
                let response = LeaseKeepAliveResponse { header: None, id, ttl: renewed.ttl };
                outgoing.send_message(worker.header().message(renewed.revision, worker.term(), &response));
            }
            Err(status) => return outgoing.finish(Err(status)),
        }
    }
}
