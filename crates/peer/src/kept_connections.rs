//! Connections that outlive a call: for what a member asks its leader all the time.
//!
//! Invariants
//! - A connection serves one call at a time, and only calls to the URL it was opened for.
//! - A call that fails on a kept connection is tried once more, on a fresh one: the kept one may have been closed meanwhile.
//!   So only calls that may be done twice belong here.
//! - Calls to one URL under way together are bounded; others wait for their turn.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use api::{etcdserverpb, leasepb};
use prost::Message as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use types::LeaseId;

use crate::client::{Answer, Ask, ClientError, check_lease, open, parse_proto, send, within};
use crate::connection::Connection;
use crate::headers::PROTOBUF;
use crate::host::LeaseTimes;
use crate::peer_url::PeerUrl;
use crate::settings::{CALLS_AT_ONCE, IDLE_CONNECTION_MAX, KEPT_URLS_MAX};

/// The connections of one thread, which must run a tokio runtime.
#[derive(Default)]
pub struct KeptConnections {
    /// The one used last is last.
    ways: RefCell<Vec<Rc<Way>>>,
}

/// What leads to one URL.
struct Way {
    url: String,
    /// The one used last is last.
    idle: RefCell<Vec<Connection>>,
    turns: Semaphore,
}

impl KeptConnections {
    /// Has the leader at `url` prolong a lease; returns its new TTL in seconds.
    ///
    /// # Errors
    /// Every one of [`ClientError`]; `Refused` above all with `LeaseNotFound`, `NotPrimary`, `NotCaughtUp`.
    pub async fn keep_alive(&self, url: &str, lease: LeaseId, patience: Duration) -> Result<i64, ClientError> {
        let request = etcdserverpb::LeaseKeepAliveRequest { id: lease.0 };
        let ask = Ask::post("/leases", request.encode_to_vec(), PROTOBUF);
        let answer = self.call(url, patience, ask).await?.succeed()?;
        let answer: etcdserverpb::LeaseKeepAliveResponse = parse_proto(answer.body)?;
        check_lease(lease, answer.id)?;
        Ok(answer.ttl)
    }

    /// Asks the leader at `url` how long a lease lives, and for its keys if `keys`.
    ///
    /// # Errors
    /// Every one of [`ClientError`]; `Refused` above all with `LeaseNotFound`, `NotPrimary`, `NotCaughtUp`.
    pub async fn time_to_live(
        &self,
        url: &str,
        lease: LeaseId,
        keys: bool,
        patience: Duration,
    ) -> Result<LeaseTimes, ClientError> {
        let request = etcdserverpb::LeaseTimeToLiveRequest { id: lease.0, keys };
        let request = leasepb::LeaseInternalRequest { lease_time_to_live_request: Some(request) };
        let ask = Ask::post("/leases/internal", request.encode_to_vec(), PROTOBUF);
        let answer = self.call(url, patience, ask).await?.succeed()?;
        let answer: leasepb::LeaseInternalResponse = parse_proto(answer.body)?;
        let answer = answer.lease_time_to_live_response;
        let answer = answer.ok_or_else(|| ClientError::Malformed("it holds no lease".to_owned()))?;
        check_lease(lease, answer.id)?;
        Ok(LeaseTimes { id: lease, ttl: answer.ttl, granted_ttl: answer.granted_ttl, keys: answer.keys })
    }

    /// Closes what has not been used for a while at `now`. To be called from time to time: nothing else closes the last ones.
    pub fn close_idle(&self, now: Instant) {
        self.ways.borrow_mut().retain(|way| {
            way.idle.borrow_mut().retain(|connection| now.duration_since(connection.idle_since) < IDLE_CONNECTION_MAX);
            // Others than this list hold a way while they call.
            Rc::strong_count(way) > 1 || !way.idle.borrow().is_empty()
        });
    }

    async fn call(&self, url: &str, patience: Duration, ask: Ask) -> Result<Answer, ClientError> {
        let address = PeerUrl::parse(url)?;
        let way = self.way(url);
        within(patience, async {
            let _turn = way.turns.acquire().await.expect("it is never closed");
            let mut answered = None;
            if let Some(mut connection) = way.idle_connection().await {
                match send(&mut connection, &address, patience, ask.clone()).await {
                    Err(ClientError::Unreachable { .. }) => {}
                    outcome => answered = Some((connection, outcome?)),
                }
            }
            let (mut connection, answer) = match answered {
                Some(answered) => answered,
                None => {
                    let mut connection = open(&address, patience).await?;
                    let answer = send(&mut connection, &address, patience, ask).await?;
                    (connection, answer)
                }
            };
            connection.idle_since = Instant::now();
            way.idle.borrow_mut().push(connection);
            Ok(answer)
        })
        .await
    }

    /// The way to a URL; that to another, long unused, goes for it.
    fn way(&self, url: &str) -> Rc<Way> {
        let mut ways = self.ways.borrow_mut();
        let way = match ways.iter().position(|way| way.url == url) {
            Some(at) => ways.remove(at),
            None => {
                Rc::new(Way { url: url.to_owned(), idle: RefCell::default(), turns: Semaphore::new(CALLS_AT_ONCE) })
            }
        };
        if ways.len() >= KEPT_URLS_MAX {
            ways.remove(0);
        }
        ways.push(way.clone());
        way
    }
}

impl Way {
    async fn idle_connection(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            if connection.idle_since.elapsed() < IDLE_CONNECTION_MAX && connection.is_ready().await {
                return Some(connection);
            }
        }
    }
}
