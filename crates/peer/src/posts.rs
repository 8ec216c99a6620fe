//! Messages one by one, while no stream is there to carry them: a few posts at a time, a short queue behind them.

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use crate::body::{RequestBody, read_all};
use crate::client::ClientError;
use crate::codec;
use crate::connection::{Connection, Patience};
use crate::headers::{self, PROTOBUF};
use crate::host::Host;
use crate::link::Link;
use crate::outbox::Queued;
use crate::peer_url::PeerUrl;
use crate::port::Port;
use crate::settings::{
    IDLE_CONNECTION_MAX, IO_TIMEOUT, POST_TIMEOUT, POSTS_AT_ONCE, POSTS_WAITING_MAX, REQUEST_BYTES_MAX, Settings,
};

/// Why a post was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the peer says that this member was removed")]
    Removed,
    #[error("the peer refuses: {status} {text}")]
    Refused { status: StatusCode, text: String },
}

/// Puts a message behind those that wait to be posted.
pub(crate) fn push<H: Host>(port: &Rc<Port<H>>, link: &Rc<Link>, queued: Queued) {
    let mut posts = link.posts.borrow_mut();
    if posts.len() >= POSTS_WAITING_MAX {
        drop(queued);
        link.target.lost(1);
        port.shared.report_lost(link.id);
        return;
    }
    posts.push_back(queued);
    if link.post_workers.get() < POSTS_AT_ONCE {
        link.post_workers.set(link.post_workers.get() + 1);
        link.keep(port.tasks.spawn(work(port.clone(), link.clone())));
    }
}

/// Posts until nothing waits.
async fn work<H: Host>(port: Rc<Port<H>>, link: Rc<Link>) {
    loop {
        let Some(queued) = link.posts.borrow_mut().pop_front() else { break };
        let Some(url) = link.rotation.borrow().current().map(str::to_owned) else {
            link.target.lost(1);
            port.shared.report_lost(link.id);
            continue;
        };
        match post(&port.shared.settings, &link, &url, &queued).await {
            Ok(bytes) => {
                link.target.sent(bytes);
                link.target.activate(port.shared.clock.now());
            }
            Err(error) => failed(&port, &link, &url, &error),
        }
    }
    link.post_workers.set(link.post_workers.get() - 1);
}

/// A post or a snapshot did not arrive.
pub(crate) fn failed<H: Host>(port: &Port<H>, link: &Link, url: &str, error: &PostError) {
    link.rotation.borrow_mut().failed(url);
    link.target.send_failed();
    link.target.lost(1);
    let error_shown = error as &dyn std::error::Error;
    if link.target.deactivate() {
        tracing::warn!(peer = %link.id, error = error_shown, "peer became inactive");
    } else {
        tracing::debug!(peer = %link.id, error = error_shown, "post failed");
    }
    port.shared.report_lost(link.id);
    if matches!(error, PostError::Removed) {
        port.host.removed();
    }
}

async fn post(settings: &Settings, link: &Link, url: &str, queued: &Queued) -> Result<usize, PostError> {
    let address = PeerUrl::parse(url)?;
    let mut body = BytesMut::new();
    codec::encode(queued.message(), &mut body);
    let bytes = body.len();
    let request = request("/raft", &address, settings, RequestBody::Whole(body.freeze()))?;
    let exchange = async {
        let mut connection = match idle_connection(link, url).await {
            Some(connection) => connection,
            None => {
                let patience = Patience { read: None, write: Some(settings.write_timeout) };
                Connection::open(&address, settings.dial_timeout, patience).await?
            }
        };
        let answer = connection.exchange(&address, request).await?;
        accepted(&mut connection, answer, settings, IO_TIMEOUT).await?;
        connection.idle_since = Instant::now();
        link.idle_connections.borrow_mut().push((url.to_owned(), connection));
        Ok(bytes)
    };
    timeout(settings.dial_timeout + POST_TIMEOUT, exchange).await.unwrap_or(Err(ClientError::TimedOut.into()))
}

async fn idle_connection(link: &Link, url: &str) -> Option<Connection> {
    loop {
        let (to, mut connection) = link.idle_connections.borrow_mut().pop()?;
        if to == url && connection.idle_since.elapsed() < IDLE_CONNECTION_MAX && connection.is_ready().await {
            return Some(connection);
        }
    }
}

/// A post with what every raft request says.
pub(crate) fn request(
    path: &str,
    address: &PeerUrl,
    settings: &Settings,
    body: RequestBody,
) -> Result<Request<RequestBody>, PostError> {
    let content_type = if matches!(body, RequestBody::Whole(_)) { PROTOBUF } else { headers::OCTETS };
    let request = Request::post(path).header(HOST, address.authority()).header(CONTENT_TYPE, content_type);
    let request = headers::identify(request, settings).body(body);
    Ok(request.map_err(|error| ClientError::Malformed(error.to_string()))?)
}

/// Reads the answer to a post: only 204 is success.
pub(crate) async fn accepted(
    connection: &mut Connection,
    answer: Response<Incoming>,
    settings: &Settings,
    patience: Duration,
) -> Result<(), PostError> {
    let (head, body) = answer.into_parts();
    let text = connection.drive(read_all(body, REQUEST_BYTES_MAX, patience, |_| true)).await;
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).trim_end().to_owned();
    match head.status {
        StatusCode::NO_CONTENT => Ok(()),
        StatusCode::FORBIDDEN if says_removed(&head.headers, &text, settings) => Err(PostError::Removed),
        status => Err(PostError::Refused { status, text }),
    }
}

/// Only this cluster may say so. etcd also forbids what is addressed to another member, which removes nobody.
fn says_removed(headers: &HeaderMap, text: &str, settings: &Settings) -> bool {
    headers::cluster(headers) == Some(settings.cluster) && text.contains("removed member")
}
