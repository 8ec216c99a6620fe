//! What a range read asks for and what it answers.

use types::KeyRange;

use crate::rows::RangeRows;

/// The order of the answer. `None` is key order, unless the target is another one: then it means `Ascend`, but only
/// the first `limit + 1` keys are looked at (etcd's quirk).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// What the answer is ordered by; ties stay in key order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    CreateRevision,
    ModRevision,
    Value,
}

/// A range read. `Default` of every number is "not asked for".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    pub range: KeyRange,
    /// 0 is the current state; so is every negative number, but inside a transaction it may be "compacted".
    pub revision: i64,
    /// At most that many rows; all of them if not above 0.
    pub limit: i64,
    pub keys_only: bool,
    pub count_only: bool,
    pub order: SortOrder,
    pub target: SortTarget,
    /// The bounds are inclusive; 0 is none.
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

impl RangeQuery {
    /// Everything in `range`, as it is now.
    pub fn current(range: KeyRange) -> RangeQuery {
        RangeQuery {
            range,
            revision: 0,
            limit: 0,
            keys_only: false,
            count_only: false,
            order: SortOrder::None,
            target: SortTarget::Key,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }
}

/// The answer to a [`RangeQuery`].
#[derive(Debug)]
pub struct RangeResult {
    /// The store's current revision when the read began, whatever revision was asked for. Inside a transaction that
    /// has changed something it is the transaction's own.
    pub revision: i64,
    /// How many keys live in the range at the revision asked for, whatever limit and filters say.
    pub count: i64,
    /// Whether `limit` cut rows off.
    pub more: bool,
    pub rows: RangeRows,
}
