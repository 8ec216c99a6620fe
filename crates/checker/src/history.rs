//! What clients asked, when, and what they were told.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use types::{KeyRange, LeaseId};

/// A key as answers and events show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub created: i64,
    pub modified: i64,
    pub version: i64,
    pub lease: LeaseId,
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyValue { key, value, created, modified, version, lease } = self;
        write!(f, "{key:?}={value:?}@{created}..{modified}v{version}")?;
        if *lease != LeaseId::NONE { write!(f, "L{:x}", lease.0) } else { Ok(()) }
    }
}

/// One change of one key inside a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub key: Bytes,
    /// Value and lease of a put; `None` for a deletion.
    pub put: Option<(Bytes, LeaseId)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: LeaseId,
    /// Whether the previous key is asked for.
    pub previous: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    pub keys: KeyRange,
    /// 0 for the current one.
    pub revision: i64,
    /// 0 for none.
    pub limit: i64,
    pub count_only: bool,
    /// Of a transaction that only reads, all of its ranges together.
    pub serializable: bool,
}

impl RangeQuery {
    /// All of `keys` as they are now.
    pub fn now(keys: KeyRange) -> RangeQuery {
        RangeQuery { keys, revision: 0, limit: 0, count_only: false, serializable: false }
    }
}

/// What of a key is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Version(i64),
    Created(i64),
    Modified(i64),
    Value(Bytes),
    Lease(LeaseId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    /// What is stored is greater than what is given.
    Greater,
    Less,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub key: Bytes,
    pub target: Target,
    pub relation: Relation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Put(Put),
    Delete { keys: KeyRange, previous: bool },
    Range(RangeQuery),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Comparison>,
    pub success: Vec<Step>,
    pub failure: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Put(Put),
    Delete { keys: KeyRange, previous: bool },
    Range(RangeQuery),
    Txn(Txn),
    Compact(i64),
    Grant { lease: LeaseId, ttl: i64 },
    Revoke(LeaseId),
    KeepAlive(LeaseId),
}

impl Request {
    /// Whether it is answered from one member's state as it stands.
    pub fn is_serializable(&self) -> bool {
        match self {
            Request::Range(range) => range.serializable,
            Request::Txn(txn) => {
                let is = |step: &Step| matches!(step, Step::Range(range) if range.serializable);
                txn.success.iter().chain(&txn.failure).all(is) && !(txn.success.is_empty() && txn.failure.is_empty())
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Put {
        previous: Option<KeyValue>,
    },
    Deleted {
        count: i64,
        previous: Vec<KeyValue>,
    },
    Range {
        kvs: Vec<KeyValue>,
        count: i64,
        more: bool,
    },
    Txn {
        succeeded: bool,
        bodies: Vec<Body>,
    },
    Compacted,
    /// Seconds.
    Granted {
        ttl: i64,
    },
    Revoked,
    /// Seconds; 0 if the lease is gone or lapsed.
    KeptAlive {
        ttl: i64,
    },
}

/// A good answer, with the revision of its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub revision: i64,
    pub body: Body,
}

/// An error that is the request's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Compacted,
    FutureRevision,
    LeaseNotFound,
    LeaseExists,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(Answer),
    Refused(Refusal),
    /// Certainly without effect.
    Failed,
    /// It may have happened, or may still happen at any later time.
    Unknown,
}

/// One request of one client. Times are in any unit that grows; all clients share one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: u64,
    /// Equal for operations that one life of one member answered to one client; `None` if that is not known.
    pub session: Option<u64>,
    pub invoked: u64,
    /// When the outcome was known; of [`Outcome::Unknown`] it says nothing.
    pub returned: u64,
    pub request: Request,
    pub outcome: Outcome,
}

/// Everything known of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    /// What some revisions did, as told by watchers of everything ([`crate::learn`]). Every revision that was not
    /// answered to its writer has to be here.
    pub log: BTreeMap<i64, Vec<Change>>,
    /// When somebody saw a revision for the first time: a watcher, or whoever looks at the store itself. Whoever asked for it
    /// later cannot have made it.
    pub seen: BTreeMap<i64, u64>,
    /// The revision of the store before the first operation: 1 for a new one.
    pub start: i64,
}

impl History {
    /// Of a new store.
    pub fn new() -> History {
        History { operations: Vec::new(), log: BTreeMap::new(), seen: BTreeMap::new(), start: 1 }
    }
}
