//! The standard health service: the server as a whole serves as long as it runs; it knows no services by name.

use api::errors;
use api::health::health_check_response::ServingStatus;
use api::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse, health_list_response,
};
use bytes::Bytes;

use super::{unary, until_ended};
use crate::header::bare;
use crate::route::CallKind;
use crate::rpc::{Answer, Call};
use crate::worker::Worker;

pub(super) async fn check(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &HealthCheckRequest| false,
        async |_, request| match request.service.is_empty() {
            true => Ok(Answer::Whole(status(ServingStatus::Serving))),
            false => Err(errors::UNKNOWN_HEALTH_SERVICE.into()),
        },
    )
    .await;
}

/// All names and their statuses: that of the whole server, which has none.
pub(super) async fn list(worker: Worker, call: Call) {
    unary(
        worker,
        call,
        |_: &HealthListRequest| false,
        async |_, _| {
            let value = Some(HealthCheckResponse { status: ServingStatus::Serving.into() });
            let whole = health_list_response::Entry { key: String::new(), value };
            Ok(Answer::Whole(bare(&HealthListResponse { statuses: vec![whole] })))
        },
    )
    .await;
}

/// The status now, and changes. There are none before the member stops, which ends the stream.
pub(super) async fn watch(worker: Worker, mut call: Call) {
    if let Err(status) = worker.admit(&call.metadata, CallKind::ServerStream, false) {
        return call.responder.fail(&status);
    }
    let request: HealthCheckRequest = match call.requests.only_and_last().await {
        Ok(request) => request,
        Err(status) => return call.responder.fail(&status),
    };
    let ended = until_ended(&worker, &call);
    let Ok(mut outgoing) = call.responder.open() else { return };
    outgoing.send_message(status(match request.service.is_empty() {
        true => ServingStatus::Serving,
        false => ServingStatus::ServiceUnknown,
    }));
    if let Ok(status) = outgoing.guard(ended).await {
        outgoing.finish(Err(status));
    }
}

fn status(status: ServingStatus) -> Bytes {
    bare(&HealthCheckResponse { status: status.into() })
}
