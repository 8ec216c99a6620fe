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
    /// A retention that is negative, or more hours than can be counted, is refused. etcd starts with it and compacts
    /// everything at once, or panics.
    RetentionMakesSense,
    /// A stream of JSON requests ends with what is wrong with one of them; so does one over WebSocket. etcd reads no further and
    /// says nothing: a watch goes on with what was asked for before.
    BadStreamedRequestsAreNamed,
    /// A JSON stream is answered while its requests still come. etcd reads all of a request's body before it answers, so that only
    /// WebSocket goes both ways.
    StreamsGoBothWays,
    /// Closing a WebSocket cancels the call it was for. On etcd whoever waited for a lock goes on to stand in line.
    ClosedWebSocketsCancel,
    /// JSON may name a union (`"TargetUnion": {..}`), as the gateway of etcd 3.4 and 3.5's own builds take it.
    NamedUnionsAreRead,
    /// A JSON request that is far larger than any message is refused for it, unread. etcd reads it whole, and may find
    /// that nothing in it matters.
    HugeTextIsRefused,
    /// A WebSocket connection ends with a close frame after a call too, and it says if a message was too large. etcd's
    /// ends without a word.
    ClosedWebSocketsSayWhy,
    /// What a plain HTTP request asks for without its body is answered before that has come. etcd waits for a body of
    /// less than 256 KiB.
    UnwantedBodiesAreNotAwaited,
    /// A JSON request that announces more text than any may have is answered before it has come.
    HugeTextIsNotAwaited,
    /// Errors of the JSON gateway have the fields of either of its versions. Debian's etcd has those of the newer.
    ErrorsSuitBothGateways,
    /// `unix:///path` for metrics is the socket at that path. etcd leaves the path out and listens where nobody looks.
    MetricsSocketsHavePaths,
}

impl Difference {
    /// Whether `target` is the one that behaves as described, not as etcd 3.5 does.
    pub fn shows(self, target: Target) -> bool {
        target == Target::Quorate
    }
}
