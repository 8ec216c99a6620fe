//! Holding on to something for as long as a lease is renewed: what `lock` and `elect` have in common.

use std::future::Future;
use std::io;
use std::time::Duration;

use api::{errors, etcdserverpb as pb};
use client::{Balanced, Client, Code, Status, Stream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::failure::{Exit, Failure};

/// A member's lock and election services are clients themselves, and pass on what they met with the code `Unknown`: what
/// another member may yet do is unavailable here, too.
pub(crate) fn passed_on(status: Status) -> Status {
    let unavailable = |error: &errors::WireError| error.code == Code::Unavailable && error.text == status.message;
    match status.code == Code::Unknown && errors::ALL.iter().any(unavailable) {
        true => Status::new(Code::Unavailable, status.message),
        false => status,
    }
}

/// Renewals of one lease, on one stream while its connection lasts.
pub(crate) struct Renewals {
    lease: i64,
    /// Whether a server that has lost its leader is left.
    needs_leader: bool,
    client: Option<Client>,
    stream: Option<Stream<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>>,
}

impl Renewals {
    /// Those that are to go on.
    pub(crate) fn of(lease: i64) -> Renewals {
        Renewals { lease, needs_leader: true, client: None, stream: None }
    }

    /// A single one, which a server that has no leader may keep waiting.
    pub(crate) fn once(lease: i64) -> Renewals {
        Renewals { needs_leader: false, ..Renewals::of(lease) }
    }

    /// Renews the lease once; waits for a server that can. A TTL of zero means that there is no such lease.
    ///
    /// # Errors
    /// If the servers refuse.
    pub(crate) async fn next(&mut self, cluster: &Balanced) -> Result<pb::LeaseKeepAliveResponse, Status> {
        loop {
            match self.attempt(cluster).await {
                Err(status) if status.code == Code::Unavailable => {
                    self.stream = None;
                    if let Some(client) = self.client.take() {
                        cluster.leave(&client, &status);
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&mut self, cluster: &Balanced) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let client = self.client.insert(cluster.connection().await);
                let opened = match self.needs_leader {
                    true => client.lease_keep_alive_with_leader().await,
                    false => client.lease_keep_alive().await,
                };
                self.stream.insert(opened?)
            }
        };
        stream.send(&pb::LeaseKeepAliveRequest { id: self.lease })?;
        let response = stream.next().await?;
        response.ok_or_else(|| Status::new(Code::Unavailable, "the stream of renewals ended"))
    }
}

/// A lease that is renewed while something is done.
pub(crate) struct Hold<'a> {
    cluster: &'a Balanced,
    pub lease: i64,
    ttl: Duration,
}

impl<'a> Hold<'a> {
    /// Grants itself a lease.
    pub(crate) async fn new(cluster: &'a Balanced, ttl: i64) -> Result<Hold<'a>, Status> {
        let request = pb::LeaseGrantRequest { ttl, id: 0 };
        // If it is granted twice, the other one ends by itself.
        let granted = cluster.read(|client| async move { client.lease_grant(request).await }).await?;
        Ok(Hold { cluster, lease: granted.id, ttl: Duration::from_secs(granted.ttl.unsigned_abs()) })
    }

    /// Does `work` while the lease lives. `None` if the lease was lost before.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.lost() => None,
        }
    }

    /// Renews the lease until it is gone, or nobody answered for as long as it lives.
    pub(crate) async fn lost(&self) {
        let mut renewals = Renewals::of(self.lease);
        let mut ttl = self.ttl;
        loop {
            match timeout(ttl, renewals.next(self.cluster)).await {
                Ok(Ok(response)) if response.ttl > 0 => ttl = Duration::from_secs(response.ttl.unsigned_abs()),
                _ => return,
            }
            sleep(ttl / 3).await;
        }
    }
}

/// The signals that ask the program to let go.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they do not end the program. Within the runtime only.
    pub(crate) fn new() -> Result<Signals, Failure> {
        let watch = |kind| signal(kind).map_err(|error: io::Error| Failure::new(Exit::Io, error.to_string()));
        Ok(Signals { interrupt: watch(SignalKind::interrupt())?, terminate: watch(SignalKind::terminate())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_elsewhere() {
        let code = |message: &str| passed_on(Status::new(Code::Unknown, message)).code;
        assert_eq!(code(errors::NO_LEADER.text), Code::Unavailable);
        assert_eq!(code(errors::LEASE_NOT_FOUND.text), Code::Unknown);
        assert_eq!(code("else"), Code::Unknown);
    }
}
