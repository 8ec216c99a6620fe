//! One call, from its headers to its end.

use std::future::Future;
use std::time::Duration;

use api::errors;
use bytes::Bytes;
use prost::Message;
use tokio::time::{Instant, timeout_at};

use super::metadata::Metadata;
use super::requests::{Body, Requests};
use super::respond::{Gone, MessageTail, Outcome, Responder};
use crate::meters::CallMeter;
use crate::status::Status;
use crate::transport::Incoming;

/// Deadlines further away than this are as good as none, and the clock cannot hold all a client may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A call whose headers are in order.
pub(crate) struct Call {
    pub(crate) metadata: Metadata,
    pub(crate) requests: Requests,
    pub(crate) responder: Responder,
    pub(crate) deadline: Option<Instant>,
}

impl Call {
    /// Has the call counted from here on.
    pub(crate) fn count(&mut self, meter: CallMeter) {
        self.requests.count(meter.messages());
        self.responder.count(meter);
    }
}

/// What a unary call is answered with.
pub(crate) enum Answer<T> {
    /// The message, prefix included.
    Whole(Bytes),
    /// The start of the message, prefix included, and where the rest comes from.
    Long(Bytes, T),
}

impl Call {
    /// Takes in a request: `None` if it is no call, or one too many, and was turned away. The path comes back as it is.
    pub(crate) fn open(incoming: Incoming, message_bytes_max: usize) -> Option<(http::Uri, Call)> {
        let (head, body) = incoming.request.into_parts();
        let account = incoming.charge.account().clone();
        let responder = Responder::new(incoming.respond, incoming.charge);
        match Metadata::read(&head.method, &head.headers) {
            Err(refusal) => {
                responder.refuse(&refusal);
                None
            }
            Ok(_) if !account.has_room() => {
                responder.fail(&errors::TOO_MANY_REQUESTS.into());
                None
            }
            Ok(metadata) => {
                let body = Body::Http2(body);
                let requests = Requests::new(body, message_bytes_max, metadata.gzip, account.charge(0));
                Some((head.uri, Call::new(metadata, requests, responder)))
            }
        }
    }

    pub(crate) fn new(metadata: Metadata, requests: Requests, responder: Responder) -> Call {
        let deadline = metadata.timeout.map(|timeout| Instant::now() + timeout.min(TIMEOUT_MAX));
        Call { metadata, requests, responder, deadline }
    }
}

/// Serves a call with one request and one answer.
pub(crate) async fn unary<Q, T, F>(call: Call, run: impl FnOnce(Q, Metadata) -> F)
where
    Q: Message + Default,
    T: MessageTail,
    F: Future<Output = Result<Answer<T>, Status>>,
{
    let Call { metadata, mut requests, mut responder, deadline } = call;
    let work = async {
        let request = requests.only().await?;
        run(request, metadata).await
    };
    match responder.guard(deadline, work).await {
        Outcome::Done(Ok(Answer::Whole(message))) => responder.message(message),
        Outcome::Done(Ok(Answer::Long(head, tail))) => {
            let sending = responder.long_message(head, tail);
            // Past the deadline the stream is reset: part of the message may be out.
            let _ = bounded(deadline, sending).await;
        }
        Outcome::Done(Err(status)) => responder.fail(&status),
        Outcome::Late => responder.fail(&errors::CONTEXT_DEADLINE_EXCEEDED.into()),
        Outcome::Gone => {}
    }
}

/// Runs `work` until the client's time is up.
async fn bounded(deadline: Option<Instant>, work: impl Future<Output = Result<(), Gone>>) -> Result<(), Gone> {
    match deadline {
        None => work.await,
        Some(deadline) => timeout_at(deadline, work).await.unwrap_or(Err(Gone)),
    }
}
