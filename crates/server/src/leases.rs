//! Leases, as clients use them.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use lease::RenewError;
use machine::{Body, Reply};
use prost::Message;
use types::{LeaseId, Term};

use crate::error::Error;
use crate::handle::Handle;
use crate::leader_calls::Found;

/// What a grant costs against the quota.
const GRANT_COST_BYTES: u64 = 64;

/// The answer to one keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The store's revision before the renewal.
    pub revision: i64,
    /// Seconds; 0 if there is no such lease.
    pub ttl: i64,
}

impl Handle {
    /// Makes a lease; an id of 0 lets the server choose one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn lease_grant(&self, mut request: LeaseGrantRequest) -> Result<Reply, Error> {
        self.admit_growth(GRANT_COST_BYTES).await?;
        if request.id == 0 {
            request.id = (self.inner().ids.next() & i64::MAX as u64) as i64;
        }
        self.propose(Request::LeaseGrant(request)).await
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn lease_revoke(&self, request: LeaseRevokeRequest) -> Result<Reply, Error> {
        self.propose(Request::LeaseRevoke(request)).await
    }

    /// Gives a lease its full time again. This does not pass through the log; the leader does it, whichever member is
    /// asked.
    ///
    /// # Errors
    /// [`Error::NoLeader`], [`Error::Timeout`], [`Error::Stopped`].
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<KeepAlive, Error> {
        let revision = self.view().revision();
        let kept = self
            .at_leader(
                async || self.keep_alive_here(id).await,
                async |url, timeout| self.connections().keep_alive(&url, id, timeout).await,
            )
            .await?;
        Ok(match kept {
            Found::Here(kept) => kept,
            Found::There(ttl) => KeepAlive { revision, ttl },
            Found::Nowhere => KeepAlive { revision, ttl: 0 },
        })
    }

    /// The leader's part of it.
    ///
    /// # Errors
    /// [`Error::NotLeader`] where this member does not lead.
    pub(crate) async fn keep_alive_here(&self, id: LeaseId) -> Result<KeepAlive, Error> {
        // A lease whose grant was acknowledged before this call is applied here after this.
        self.catch_up().await?;
        let revision = self.view().revision();
        let term = self.raft_term();
        let renewed = self.state().lessor().lock().renew(id, self.now());
        match renewed {
            Ok(renewal) => {
                if renewal.clear_checkpoint {
                    Box::pin(self.clear_checkpoint(id)).await?;
                }
                self.confirm_leadership(term).await?;
                // What an earlier leader proposed late may have been applied only since the renewal: a checkpoint, ...
                let is_shortened = self.state().lessor().lock().is_shortened(id);
                if is_shortened {
                    Box::pin(self.clear_checkpoint(id)).await?;
                }
                // ... or the lease's end.
                let is_there = self.state().lessor().lock().contains(id);
                Ok(KeepAlive { revision, ttl: if is_there { renewal.ttl } else { 0 } })
            }
            // A lapsed lease is on its way out: nobody may count on it any more.
            Err(RenewError::NotFound | RenewError::Expired) => {
                self.confirm_leadership(term).await?;
                Ok(KeepAlive { revision, ttl: 0 })
            }
            Err(RenewError::NotPrimary) => Err(Error::NotLeader),
        }
    }

    /// Returns if this member has led since `term`, in which it did: what it renewed in between, no other leader could let
    /// lapse. One that was replaced without knowing must not promise a lease to anybody.
    async fn confirm_leadership(&self, term: Term) -> Result<(), Error> {
        self.linearizable().await?;
        if self.leads() && self.raft_term() == term { Ok(()) } else { Err(Error::NotLeader) }
    }

    /// Returns once everything is applied that this leader or one before it has committed.
    async fn catch_up(&self) -> Result<(), Error> {
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        if self.inner().board.leader_has_caught_up() {
            return self.check_running();
        }
        self.linearizable().await
    }

    async fn clear_checkpoint(&self, id: LeaseId) -> Result<(), Error> {
        let checkpoint = api::etcdserverpb::LeaseCheckpoint { id: id.0, remaining_ttl: 0 };
        let request = api::etcdserverpb::LeaseCheckpointRequest { checkpoints: vec![checkpoint] };
        self.propose(Request::LeaseCheckpoint(request)).await.map(|_| ())
    }

    /// How a lease stands, with its keys if asked for. The leader knows, whichever member is asked.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn lease_time_to_live(&self, request: LeaseTimeToLiveRequest) -> Result<Reply, Error> {
        let (id, keys) = (LeaseId(request.id), request.keys);
        let found = self
            .at_leader(
                async || self.time_to_live_here(request).await,
                async |url, timeout| self.connections().time_to_live(&url, id, keys, timeout).await,
            )
            .await?;
        let response = match found {
            Found::Here(reply) => return Ok(reply),
            Found::There(times) => LeaseTimeToLiveResponse {
                header: None,
                id: id.0,
                ttl: times.ttl,
                granted_ttl: times.granted_ttl,
                keys: times.keys,
            },
            Found::Nowhere => LeaseTimeToLiveResponse { id: id.0, ttl: -1, ..LeaseTimeToLiveResponse::default() },
        };
        Ok(Reply { revision: self.view().revision(), body: Body::Encoded(response.encode_to_vec().into()) })
    }

    /// The leader's part of it.
    ///
    /// # Errors
    /// [`Error::NotLeader`] where this member does not lead.
    pub(crate) async fn time_to_live_here(&self, request: LeaseTimeToLiveRequest) -> Result<Reply, Error> {
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        self.linearizable().await?;
        self.state().time_to_live(&request, self.now()).map_err(|_| Error::NotLeader)
    }

    /// Every lease, in the order in which they expire.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn lease_leases(&self) -> Result<Reply, Error> {
        self.check_running()?;
        Ok(self.state().leases())
    }
}
