//! Why a request was refused, and what stops the member.

use backend::BackendError;
use membership::MembershipError;
use mvcc::MvccError;
use thiserror::Error;
use types::Index;

/// What is wrong with a request in itself, whatever the state: it need not be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    #[error("key is not provided")]
    EmptyKey,
    /// An operation of a transaction says nothing.
    #[error("key not found")]
    EmptyOperation,
    #[error("value is provided")]
    ValueProvided,
    #[error("lease is provided")]
    LeaseProvided,
    #[error("too many operations in txn request")]
    TooManyOps,
    /// Deeper than a log entry could carry. etcd bounds the depth only through the operations (128 levels, say).
    #[error("txn request is nested too deeply")]
    TxnTooDeep,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("invalid sort option")]
    InvalidSortOption,
}

/// The result of an entry that was refused: the same on every member, and nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// Something a proposer should have refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A put keeps value or lease of a key that is not there.
    #[error("key not found")]
    KeyNotFound,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRevision,
    /// A member has raised the alarm NOSPACE.
    #[error("database space exceeded")]
    NoSpace,
    /// A member has raised the alarm CORRUPT.
    #[error("corrupt cluster")]
    Corrupt,
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The cluster version to be set is no version.
    #[error("not a version: {0:?}")]
    InvalidVersion(String),
    /// A feature that is not there yet, by name.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The entry's bytes are no request: a later version wrote it, or something that is not etcd.
    #[error("log entry is not a request: {0}")]
    Undecodable(String),
}

/// What stops the member: going on could make it differ from the others.
#[derive(Debug, Error)]
pub enum MachineError {
    #[error(transparent)]
    Mvcc(MvccError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Entries are missing between what is applied and what came.
    #[error("the log goes on at index {found}, but index {expected} is the next to be applied")]
    Gap { expected: Index, found: Index },
    /// Not the state that is to take the place of this one.
    #[error("a state of entry {found} was received, but one of entry {expected} is to replace that of entry {applied}")]
    OtherState { expected: Index, found: Index, applied: Index },
}

/// Why a read or an entry gave no reply: refused, which is an answer, or broken, which is not.
#[derive(Debug, Error)]
pub enum Failure {
    #[error(transparent)]
    Refused(#[from] ApplyError),
    #[error(transparent)]
    Broken(#[from] MachineError),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Failure {
        Failure::Refused(error.into())
    }
}

impl From<MvccError> for Failure {
    fn from(error: MvccError) -> Failure {
        match error {
            MvccError::Compacted => Failure::Refused(ApplyError::Compacted),
            MvccError::FutureRevision => Failure::Refused(ApplyError::FutureRevision),
            MvccError::Backend(error) => Failure::Broken(MachineError::Backend(error)),
        }
    }
}
