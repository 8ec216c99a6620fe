//! What a judge says when something cannot have happened.

use std::fmt;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    // of the history
    /// Two writes were answered with one revision.
    RevisionRepeated,
    /// A revision was taken by something nobody asked for, or with another effect than what was asked for.
    EffectUnexplained,
    /// Nobody knows what happened at a revision, so that nothing after it can be judged.
    RevisionUnknown,
    /// An answer does not follow from the state at its revision.
    WrongAnswer,
    /// An operation that began after another had returned was put before it.
    RealTime,
    /// An answer told of a revision that nobody had yet asked for.
    FromTheFuture,
    /// Something that was compacted was read, or something refused as compacted was not.
    Compaction,
    /// Refused although nothing stood against it.
    WronglyRefused,
    /// A key hangs from a lease that does not exist.
    UnknownLease,
    /// One session's serializable reads went back.
    SessionWentBack,
    /// No order of the operations explains their answers.
    NotLinearizable,
    // of watches
    WatchUnordered,
    WatchRepeated,
    WatchLost,
    WatchTorn,
    WatchNotResumed,
    WatchBookmark,
    WatchPrevious,
    WatchFilter,
    WatchProgress,
    /// An event that the store never had, or with another content.
    WatchInvented,
    /// Something came before the watch was said to exist, or after it ended.
    WatchProtocol,
    // of leases
    LeaseEarly,
    LeaseLate,
    /// Renewed after it was seen to be gone.
    LeaseRevived,
}

/// One contradiction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    pub rule: Rule,
    /// The operations concerned, as positions in the history; of a watch, its responses.
    pub operations: Vec<usize>,
    pub what: String,
}

impl Violation {
    pub(crate) fn new(rule: Rule, operations: impl Into<Vec<usize>>, what: impl Into<String>) -> Violation {
        Violation { rule, operations: operations.into(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} (operations {:?})", self.rule, self.what, self.operations)
    }
}
