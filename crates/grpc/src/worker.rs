//! What one network worker's thread shares: the way to the member, the watch hub, the rules of connections.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Rng};
use server::Handle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use types::Term;
use watch::{HeaderTemplate, HubOptions};

use crate::header::HeaderWriter;
use crate::leadership::Leadership;
use crate::meters::{Meters, WorkerMeters};
use crate::route::CallKind;
use crate::rpc::Metadata;
use crate::status::Status;
use crate::transport::{self, Account, Budget, ConnectionError, Protocol};
use crate::watches::Watches;
use crate::{http1, service};

/// What a message may hold beyond the largest request, as in etcd.
const RECEIVE_OVERHEAD_BYTES: usize = 512 << 10;

/// The rules of the front end. What clients send and how long it may take is in the server's own limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A client may not ping more often (`--grpc-keepalive-min-time`).
    pub keepalive_min_time: Duration,
    /// A client that is silent for so long is pinged (`--grpc-keepalive-interval`).
    pub keepalive_interval: Duration,
    /// One that does not answer that for so long is given up (`--grpc-keepalive-timeout`).
    pub keepalive_timeout: Duration,
    /// How long a new connection may take to say what it wants, and every call's headers from first to last.
    pub opening_timeout: Duration,
    /// How much memory the calls of one worker may take: those that are open, requests that have come in part, answers
    /// that wait to be taken.
    pub call_memory_bytes: usize,
    /// Origins that browsers may call from (`--cors`); `*` stands for all.
    pub cors_origins: Vec<String>,
    /// Whether the JSON gateway is there (`--enable-grpc-gateway`).
    pub serves_gateway: bool,
    /// Hosts that plain HTTP requests may name (`--host-whitelist`); none, and `*`, stand for all.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            keepalive_min_time: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            opening_timeout: Duration::from_secs(10),
            call_memory_bytes: 256 << 20,
            cors_origins: vec!["*".into()],
            serves_gateway: true,
            hosts: vec!["*".into()],
        }
    }
}

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// gRPC and plain HTTP.
    Everything,
    /// `--listen-client-urls` beside `--listen-client-http-urls`.
    Grpc,
    /// `--listen-client-http-urls`.
    Http,
    /// `--listen-metrics-urls`: metrics and probes.
    Metrics,
}

/// One network worker. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    handle: Handle,
    settings: Settings,
    budget: Arc<Budget>,
    header: HeaderWriter,
    watches: Rc<Watches>,
    leadership: Rc<Leadership>,
    meters: Rc<WorkerMeters>,
    /// Those of all workers.
    all_meters: Arc<Meters>,
    connections: Cell<usize>,
    connection_ended: Notify,
}

impl Worker {
    /// Sets up the calling thread, which must run a current-thread runtime with time and I/O, inside a `LocalSet`.
    pub fn start(
        handle: Handle,
        settings: Settings,
        all_meters: Arc<Meters>,
        clock: Arc<dyn Clock>,
        rng: &mut dyn Rng,
    ) -> Worker {
        let (identity, limits) = (handle.identity(), handle.limits());
        let options = HubOptions {
            progress_notify_interval: with_jitter(limits.progress_notify_interval, rng),
            fragment_bytes_max: limits.max_request_bytes + RECEIVE_OVERHEAD_BYTES,
            ..HubOptions::default()
        };
        let header = HeaderWriter::new(identity.cluster_id, identity.member_id);
        let meters = all_meters.new_worker(&clock);
        let watches = Watches::start(&handle, clock, options, meters.clone());
        let leadership = Leadership::start(handle.status_changes(), limits.election_timeout);
        Worker(Rc::new(Inner {
            handle,
            budget: Budget::new(settings.call_memory_bytes),
            settings,
            header,
            watches,
            leadership,
            meters,
            all_meters,
            connections: Cell::new(0),
            connection_ended: Notify::new(),
        }))
    }

    /// Serves a TCP connection until it ends. To be spawned on the worker's thread.
    pub async fn serve_tcp(self, stream: TcpStream, peer: SocketAddr, surface: Surface) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection lost before it began");
            return;
        }
        self.serve(stream, peer, surface).await;
    }

    /// Serves a connection of any kind until it ends; `peer` is for the log. Once the member stops, calls under way may
    /// finish and no new ones are taken.
    pub async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: impl std::fmt::Display,
        surface: Surface,
    ) {
        let _counted = Counted::new(&self);
        let opening_timeout = self.0.settings.opening_timeout;
        let Ok(Ok((protocol, stream))) = timeout(opening_timeout, transport::read_opening(stream)).await else {
            // Port checks, load balancers' probes, clients that say nothing.
            return;
        };
        // Boxed, so that a connection that has not said anything yet costs little.
        let ended = match (protocol, surface) {
            // Nothing that could be said would be understood.
            (Protocol::Http1, Surface::Grpc) | (Protocol::Http2, Surface::Http | Surface::Metrics) => Ok(()),
            (Protocol::Http1, _) => {
                Box::pin(http1::serve(stream, self, surface)).await;
                Ok(())
            }
            (Protocol::Http2, _) => Box::pin(self.serve_http2(stream)).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended");
        }
    }

    async fn serve_http2(self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), ConnectionError> {
        let (settings, stopped) = (self.transport_settings(), self.0.handle.stopped());
        let start = |incoming| service::spawn(self.clone(), incoming);
        transport::serve(stream, settings, stopped, start).await
    }

    /// Resolves once no connection is left.
    pub async fn drained(&self) {
        while self.0.connections.get() > 0 {
            self.0.connection_ended.notified().await;
        }
    }

    fn transport_settings(&self) -> transport::Settings {
        let settings = &self.0.settings;
        transport::Settings {
            streams_max: self.0.handle.limits().max_concurrent_streams,
            budget: self.0.budget.clone(),
            opening_timeout: settings.opening_timeout,
            ping_min_time: settings.keepalive_min_time,
            keepalive_interval: settings.keepalive_interval,
            keepalive_timeout: settings.keepalive_timeout,
        }
    }

    /// For the calls of a connection that is not HTTP/2.
    pub(crate) fn open_account(&self) -> Account {
        Account::open(&self.0.budget)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0.handle
    }

    pub(crate) fn watches(&self) -> &Rc<Watches> {
        &self.0.watches
    }

    pub(crate) fn leadership(&self) -> &Leadership {
        &self.0.leadership
    }

    pub(crate) fn meters(&self) -> &Rc<WorkerMeters> {
        &self.0.meters
    }

    pub(crate) fn all_meters(&self) -> &Arc<Meters> {
        &self.0.all_meters
    }

    pub(crate) fn header(&self) -> &HeaderWriter {
        &self.0.header
    }

    pub(crate) fn term(&self) -> Term {
        self.0.handle.raft_term()
    }

    pub(crate) fn header_template(&self) -> HeaderTemplate {
        let identity = self.0.handle.identity();
        HeaderTemplate { cluster_id: identity.cluster_id, member_id: identity.member_id, raft_term: self.term() }
    }

    pub(crate) fn message_bytes_max(&self) -> usize {
        self.0.handle.limits().max_request_bytes + RECEIVE_OVERHEAD_BYTES
    }

    /// What is checked before any method acts, in etcd's order. Learners serve only what is made for them.
    ///
    /// # Errors
    /// The status to end the call with.
    pub(crate) fn admit(&self, metadata: &Metadata, kind: CallKind, serves_on_learner: bool) -> Result<(), Status> {
        if !serves_on_learner && self.0.handle.is_learner() {
            return Err(api::errors::NOT_SUPPORTED_FOR_LEARNER.into());
        }
        metadata.check_api_version()?;
        self.0.meters.count_request(kind, &metadata.client_version);
        if metadata.wants_leader && self.0.handle.leader().is_none() && self.0.leadership.is_missing() {
            return Err(api::errors::NO_LEADER.into());
        }
        Ok(())
    }
}

/// Up to a tenth more, as in etcd, so that not all workers of all members speak at once.
fn with_jitter(interval: Duration, rng: &mut dyn Rng) -> Duration {
    let tenth = u64::try_from(interval.as_nanos() / 10).unwrap_or(u64::MAX);
    interval.saturating_add(Duration::from_nanos(rng.below(tenth)))
}

/// Counts a connection for as long as it lives.
struct Counted(Worker);

impl Counted {
    fn new(worker: &Worker) -> Counted {
        worker.0.connections.set(worker.0.connections.get() + 1);
        Counted(worker.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let inner = &self.0.0;
        inner.connections.set(inner.connections.get() - 1);
        inner.connection_ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use env::SystemRng;

    use super::*;

    #[test]
    fn jitter_adds_up_to_a_tenth() {
        let mut rng = SystemRng::with_seed(1);
        let drawn: Vec<Duration> = (0..1000).map(|_| with_jitter(Duration::from_secs(600), &mut rng)).collect();
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(600) && *least < Duration::from_secs(606), "{least:?}");
        assert!(*most > Duration::from_secs(654) && *most < Duration::from_secs(660), "{most:?}");
        assert_eq!(with_jitter(Duration::ZERO, &mut rng), Duration::ZERO);
        assert!(with_jitter(Duration::MAX, &mut rng) == Duration::MAX);
    }
}
