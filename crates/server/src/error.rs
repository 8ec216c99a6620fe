//! Every way a request can fail, sorted by what the front ends must tell the client.

use backend::BackendError;
use machine::{ApplyError, Failure, MachineError, RequestError};
use mvcc::MvccError;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong; nothing was proposed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The outcome of the request, the same on every member.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The encoded request is over the limit.
    #[error("request is too large")]
    RequestTooLarge,
    /// The quota is used up, or the disk is full: writes that add are refused.
    #[error("database space exceeded")]
    NoSpace,
    /// More is committed than can be applied in reasonable time.
    #[error("too many requests")]
    TooManyRequests,
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// Only the leader can do this.
    #[error("not leader")]
    NotLeader,
    /// The member named to take over leadership cannot.
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// Leadership was not taken over in time.
    #[error("leader transfer took too long")]
    TransferTimeout,
    /// The URLs of a member cannot be used.
    #[error("bad member URLs")]
    BadMemberUrls,
    /// The change would leave too few members that have ever run.
    #[error("not enough started members")]
    NotEnoughStarted,
    /// The change would leave too few members that are connected.
    #[error("unhealthy cluster")]
    UnhealthyCluster,
    /// The learner is too far behind to vote.
    #[error("learner is not in sync with the leader")]
    LearnerNotReady,
    /// Not answered in time; the request may still take effect.
    #[error("request timed out")]
    Timeout,
    /// Not answered in time, shortly before a new leader was elected; the request may still take effect.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailure,
    /// The member is shutting down.
    #[error("server stopped")]
    Stopped,
    /// The feature is not there yet; it is named.
    #[error("{0} is not implemented yet")]
    Unsupported(&'static str),
    /// Something broke that no request can mend; it was logged where it broke.
    #[error("{0}")]
    Internal(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) => error.into(),
            Failure::Broken(MachineError::Backend(error)) => error.into(),
            Failure::Broken(error) => Error::Internal(error.to_string()),
        }
    }
}

impl From<MvccError> for Error {
    fn from(error: MvccError) -> Error {
        Failure::from(error).into()
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Error {
        match error {
            // The backend has told whoever stops the member. Another one may have the answer.
            BackendError::Damaged { .. } => Error::Stopped,
            _ => Error::Internal(error.to_string()),
        }
    }
}
