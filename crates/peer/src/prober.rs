//! Asks a peer from time to time how late it is there: how long the way takes, and whether the clocks agree.
//!
//! Nothing depends on the answer. It is for people: who reads expiry times and logs of several members wants their clocks alike.

use std::rc::Rc;
use std::time::Duration;

use http::Request;
use http::header::HOST;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use crate::body::{RequestBody, read_all};
use crate::client::ClientError;
use crate::connection::{Connection, Patience};
use crate::date;
use crate::host::Host;
use crate::link::Link;
use crate::peer_url::PeerUrl;
use crate::port::Port;
use crate::settings::{IO_TIMEOUT, REQUEST_BYTES_MAX};

/// Clocks that differ by more are told of ...
const DRIFT_MAX: Duration = Duration::from_secs(1);
/// ... once in so long.
const TELL_INTERVAL: Duration = Duration::from_secs(30);

/// What a member says when it is probed.
#[derive(Deserialize)]
struct Health {
    #[serde(rename = "OK")]
    ok: bool,
    #[serde(rename = "Now")]
    now: String,
}

/// Probes until the peer goes.
pub(crate) async fn run<H: Host>(port: Rc<Port<H>>, link: Rc<Link>) {
    let mut kept = None;
    let mut told_at: Option<Instant> = None;
    loop {
        sleep(port.shared.settings.probe_interval).await;
        let Some(url) = link.rotation.borrow().current().map(str::to_owned) else { continue };
        let (asked_at, own) = (port.shared.clock.now(), port.shared.clock.wall());
        match timeout(IO_TIMEOUT, probe(&port, &url, &mut kept)).await.unwrap_or(Err(ClientError::TimedOut)) {
            Ok(theirs) => {
                let round_trip = port.shared.clock.now().since(asked_at);
                let drift = theirs.abs_diff(own + round_trip / 2);
                link.target.probed(round_trip, drift);
                if drift > DRIFT_MAX && told_at.is_none_or(|at| at.elapsed() >= TELL_INTERVAL) {
                    told_at = Some(Instant::now());
                    tracing::warn!(peer = %link.id, ?drift, ?round_trip, "the clocks of this member and the peer differ");
                }
            }
            // Whether the peer can be reached the streams tell.
            Err(error) => tracing::debug!(peer = %link.id, error = &error as &dyn std::error::Error, "probe failed"),
        }
    }
}

/// The peer's wall clock. The connection is kept for the next time.
async fn probe<H: Host>(
    port: &Port<H>,
    url: &str,
    kept: &mut Option<(String, Connection)>,
) -> Result<Duration, ClientError> {
    let settings = &port.shared.settings;
    let address = PeerUrl::parse(url)?;
    let mut kept_one = None;
    if let Some((to, mut connection)) = kept.take()
        && to == url
        && connection.is_ready().await
    {
        kept_one = Some(connection);
    }
    let mut connection = match kept_one {
        Some(connection) => connection,
        None => {
            let patience = Patience { read: None, write: Some(settings.write_timeout) };
            Connection::open(&address, settings.dial_timeout, patience).await?
        }
    };
    let malformed = |why: &dyn ToString| ClientError::Malformed(why.to_string());
    let request = Request::get("/raft/probing").header(HOST, address.authority());
    let request = request.body(RequestBody::Whole(bytes::Bytes::new())).map_err(|error| malformed(&error))?;
    let answer = connection.exchange(&address, request).await?;
    let body = connection.drive(read_all(answer.into_body(), REQUEST_BYTES_MAX, IO_TIMEOUT, |_| true)).await;
    let body = body.map_err(|error| malformed(&error))?;
    let health: Health = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    let now = date::parse(&health.now).filter(|_| health.ok).ok_or_else(|| malformed(&health.now))?;
    *kept = Some((url.to_owned(), connection));
    Ok(now)
}
