//! What can go wrong with a lease.

use thiserror::Error;

/// Why a lease was not granted. The same on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GrantError {
    /// The id is 0, which means "no lease": whoever proposes a grant picks an id first.
    #[error("requested lease not found")]
    NoId,
    #[error("lease already exists")]
    Exists,
    /// The time to live is above [`crate::TTL_MAX`].
    #[error("too large lease TTL")]
    TtlTooLarge,
}

/// No such lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("requested lease not found")]
pub struct NotFound;

/// Why a lease was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RenewError {
    #[error("requested lease not found")]
    NotFound,
    /// Its time is over and its revocation is on its way through the log: wait until it is gone or this member is
    /// no longer primary, then ask again.
    #[error("lease expired, its revocation is pending")]
    Expired,
    /// Deadlines are kept by the leader; ask there.
    #[error("not a primary lessor")]
    NotPrimary,
}
