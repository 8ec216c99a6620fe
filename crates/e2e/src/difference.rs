//! Where Quorate differs from etcd 3.5 on purpose.

use crate::Target;

/// The behaviours in which the targets may differ and which a test meets; such a test asks [`Difference::shows`].
///
/// `docs/differences.md` has all that Quorate does otherwise on purpose, whether a test meets it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A sort order or target outside its enum: etcd 3.5 crashes on the target and ignores the order; 3.6 and Quorate
    /// answer "invalid sort option".
    InvalidSortOption,
    /// Fields that came with 3.6 and later are set: `HashKVResponse.hash_revision`, `StatusResponse` from number 11 on.
    NewerFields,
    /// A watch that starts at the compacted revision itself, with previous pairs: etcd leaves the pair before that
    /// revision out, Quorate may still have it.
    PreviousPairAtCompaction,
    /// A watch from now on begins after the revision that the answer to its creation has. In etcd a write at that very
    /// moment may come in between: it has that revision, and its events are sent.
    CreationDividesEvents,
    /// Puts of nested transactions count against the quota, as from 3.6.14 on.
    NestedPutsCost,
    /// New peer URLs of a member are checked as those of an added one are. A bad one stops all members of an etcd
    /// cluster, again at every start.
    UpdatesAreChecked,
    /// A transaction that fails because it reads what is compacted or to come writes nothing on any member. On etcd up to
    /// 3.6 its writes happen on all members but the one that proposed it.
    FailedTransactionsAreWhole,
    /// An alarm for data that differs names the member whose data is wrong, if most others agree. That of etcd 3.5 names nobody.
    CorruptMembersAreNamed,
    /// A write while there is no leader ends with the words of every request that took too long. etcd's has the code, and
    /// the words, of a client's own deadline.
    LeaderlessWritesTimeOut,
    /// Quorate does not compact by itself yet, and refuses to start when asked to.
    NoAutoCompaction,
}

impl Difference {
    /// Whether `target` is the one that behaves as described, not as etcd 3.5 does.
    pub fn shows(self, target: Target) -> bool {
        target == Target::Quorate
    }
}
