//! The member's side of the transport: what others ask of it, and what connections tell about them.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::{HashKvRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MemberPromoteRequest};
use bytes::Bytes;
use env::{Rng, SystemRng};
use machine::{ApplyError, Reply};
use membership::MembershipError;
use peer::{Afterwards, Host, LeaseTimes, PeerError, PeerRequest, PeerResponse, Receiver};
use tokio::time::sleep;
use types::{MemberId, Message, MessageKind};

use crate::error::Error;
use crate::handle::Handle;
use crate::shared::Board;
use crate::snapshots::Arrivals;
use crate::stepper::{Stepper, ToConsensus};

/// Takes messages on whichever thread has read them.
pub(crate) struct PeerReceiver {
    pub(crate) stepper: Arc<Stepper>,
    pub(crate) board: Arc<Board>,
    pub(crate) arrivals: Arc<Arrivals>,
}

/// Lives on the transport's thread.
pub(crate) struct PeerHost {
    handle: Handle,
    rng: RefCell<SystemRng>,
}

/// Those who want to succeed a leader do not all want it at the same moment.
const CANDIDACY_JITTER_MS: u64 = 20;
/// How often one stands, if nobody is elected; then it is left to the usual timeouts.
const CANDIDACIES_MAX: u32 = 4;

impl PeerHost {
    pub(crate) fn new(handle: Handle) -> PeerHost {
        PeerHost { handle, rng: RefCell::default() }
    }

    fn tell(&self, item: ToConsensus) {
        self.handle.inner().consensus.send(item);
    }
}

impl Receiver for PeerReceiver {
    fn receive(&self, mut messages: Vec<Message>) -> Option<Afterwards> {
        // They come again once the data is compared; a snapshot that came stays where it is until the next one.
        if self.board.is_unchecked() {
            return None;
        }
        messages.retain_mut(|message| {
            if message.kind != MessageKind::Snapshot {
                return true;
            }
            // What came may be newer than what was announced; and without a state there is nothing to install.
            message.snapshot = self.arrivals.hand_over();
            message.snapshot.is_some()
        });
        let stepper = self.stepper.clone();
        let tells = stepper.send_before_tells(ToConsensus::Messages(messages));
        (!tells.is_empty()).then(|| -> Afterwards { Box::new(move || stepper.tell(tells)) })
    }
}

impl Host for PeerHost {
    fn unreachable(&self, peer: MemberId) {
        self.tell(ToConsensus::Unreachable(peer));
    }

    fn gone(&self, peer: MemberId) {
        if self.handle.leader() != Some(peer) {
            return;
        }
        self.tell(ToConsensus::Gone(peer));
        let jitter = Duration::from_millis(self.rng.borrow_mut().below(CANDIDACY_JITTER_MS));
        tokio::task::spawn_local(succeed(self.handle.clone(), peer, jitter));
    }

    fn snapshot_sent(&self, peer: MemberId, accepted: bool) {
        self.tell(ToConsensus::SnapshotSent { to: peer, arrived: accepted });
    }

    fn removed(&self) {
        self.handle.inner().fate.remove();
    }

    fn answer(&self, request: PeerRequest) -> impl Future<Output = Result<PeerResponse, PeerError>> + 'static {
        answer(self.handle.clone(), request)
    }
}

/// Stands for election in this member's turn: the voters that are left come one after the other, a heartbeat apart, so that
/// they do not take each other's votes.
async fn succeed(handle: Handle, gone: MemberId, jitter: Duration) {
    let voters = handle.state().membership().conf_state().voters;
    let mut candidates = voters.into_iter().filter(|voter| *voter != gone);
    let Some(turn) = candidates.position(|voter| voter == handle.identity().member_id) else { return };
    let heartbeat = handle.inner().settings.heartbeat_interval;
    let mut wait = heartbeat * turn as u32 + jitter;
    for _ in 0..CANDIDACIES_MAX {
        sleep(wait).await;
        if handle.leader().is_some() {
            return;
        }
        handle.inner().consensus.send(ToConsensus::Campaign);
        wait = 2 * heartbeat + jitter;
    }
}

async fn answer(handle: Handle, request: PeerRequest) -> Result<PeerResponse, PeerError> {
    handle.check_running().map_err(|error| other(&error))?;
    match request {
        PeerRequest::Members => Ok(members(&handle)),
        PeerRequest::Promote { id, .. } => {
            // One that does not lead asks the leader on, as etcd's members do.
            handle.member_promote(MemberPromoteRequest { id }).await.map_err(refused_promotion)?;
            Ok(members(&handle))
        }
        PeerRequest::HashKv { revision } => {
            let reply = handle.hash_kv(HashKvRequest { revision }).await.map_err(refused_hash)?;
            let revision = reply.revision;
            let hash = decoded::<api::etcdserverpb::HashKvResponse>(reply)?;
            let (hash, compact_revision) = (hash.hash, hash.compact_revision);
            Ok(PeerResponse::HashKv(peer::HashKv { revision, hash, compact_revision }))
        }
        PeerRequest::KeepAlive { lease } => match handle.keep_alive_here(lease).await {
            Ok(kept) if kept.ttl > 0 => Ok(PeerResponse::KeptAlive { lease, ttl: kept.ttl }),
            Ok(_) => Err(PeerError::LeaseNotFound),
            Err(error) => Err(refused_lease(error)),
        },
        PeerRequest::TimeToLive { lease, keys } => {
            let request = LeaseTimeToLiveRequest { id: lease.0, keys };
            let reply = handle.time_to_live_here(request).await.map_err(refused_lease)?;
            let LeaseTimeToLiveResponse { id, ttl, granted_ttl, keys, .. } = decoded(reply)?;
            if ttl == -1 {
                return Err(PeerError::LeaseNotFound);
            }
            Ok(PeerResponse::TimeToLive(LeaseTimes { id: types::LeaseId(id), ttl, granted_ttl, keys }))
        }
        PeerRequest::DowngradeEnabled => {
            handle.linearizable().await.map_err(|error| other(&error))?;
            Ok(PeerResponse::DowngradeEnabled(handle.state().membership().downgrade().enabled))
        }
        PeerRequest::Version => {
            let cluster = handle.state().membership().version();
            Ok(PeerResponse::Version(peer::Versions {
                server: handle.identity().version.to_owned(),
                cluster: cluster.map_or_else(|| "not_decided".to_owned(), |version| version.to_string()),
            }))
        }
    }
}

fn members(handle: &Handle) -> PeerResponse {
    let membership = handle.state().membership();
    let members = membership.members().map(membership::rows::member);
    let mut json = vec![b'['];
    for (number, member) in members.enumerate() {
        if number > 0 {
            json.push(b',');
        }
        json.extend(member);
    }
    // Go's encoder ends with a new line.
    json.extend(b"]\n");
    PeerResponse::Members(json.into())
}

/// What the server has encoded for clients, taken apart for another member.
fn decoded<M: prost::Message + Default>(reply: Reply) -> Result<M, PeerError> {
    let bytes: Bytes = reply.body.into_bytes().map_err(|error| other(&error.into()))?;
    M::decode(bytes).map_err(|error| PeerError::Other(error.to_string()))
}

fn other(error: &Error) -> PeerError {
    PeerError::Other(error.to_string())
}

fn refused_promotion(error: Error) -> PeerError {
    match error {
        Error::Apply(ApplyError::Membership(MembershipError::IdNotFound | MembershipError::IdRemoved)) => {
            PeerError::MemberNotFound
        }
        Error::Apply(ApplyError::Membership(MembershipError::NotLearner)) => PeerError::MemberNotLearner,
        Error::LearnerNotReady => PeerError::LearnerNotReady,
        error => other(&error),
    }
}

fn refused_hash(error: Error) -> PeerError {
    match error {
        Error::Apply(ApplyError::Compacted) => PeerError::Compacted,
        Error::Apply(ApplyError::FutureRevision) => PeerError::FutureRevision,
        error => other(&error),
    }
}

fn refused_lease(error: Error) -> PeerError {
    match error {
        Error::NoLeader | Error::NotLeader => PeerError::NotPrimary,
        Error::Timeout | Error::TimeoutLeaderFailure => PeerError::NotCaughtUp,
        error => other(&error),
    }
}
