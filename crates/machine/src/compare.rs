//! The conditions of a transaction.
//!
//! Source: etcd-io/etcd `applyCompare`, `compareKV`.

use std::cmp::Ordering;

use api::etcdserverpb::Compare;
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use mvcc::{MvccError, RangeQuery, RangeResult, Txn};
use types::{Record, RecordMeta};

use crate::query::key_range;

/// A state of the store that a transaction looks at.
pub(crate) trait State {
    /// The numbers of a key; `None` if it does not live.
    fn meta(&self, key: &[u8]) -> Result<Option<RecordMeta>, MvccError>;
    /// A key with its value.
    fn record(&self, key: &[u8]) -> Result<Option<Record>, MvccError>;
    /// What lives in a range; the query's revision is 0.
    fn range(&self, query: RangeQuery) -> Result<RangeResult, MvccError>;
}

impl State for Txn<'_> {
    fn meta(&self, key: &[u8]) -> Result<Option<RecordMeta>, MvccError> {
        Ok(self.get(key).map(|current| current.meta()))
    }

    fn record(&self, key: &[u8]) -> Result<Option<Record>, MvccError> {
        self.get(key).map(|current| self.load(&current)).transpose()
    }

    fn range(&self, query: RangeQuery) -> Result<RangeResult, MvccError> {
        Txn::range(self, &query)
    }
}

/// Whether a condition holds. With a range, every key in it must satisfy it; an empty range is like a missing key.
pub(crate) fn holds(state: &impl State, compare: &Compare) -> Result<bool, MvccError> {
    let target = CompareTarget::try_from(compare.target);
    if compare.range_end.is_empty() {
        return if target == Ok(CompareTarget::Value) {
            Ok(state.record(&compare.key)?.is_some_and(|record| value_satisfies(compare, record.value())))
        } else {
            Ok(number_satisfies(compare, &state.meta(&compare.key)?.unwrap_or_default()))
        };
    }
    let query = RangeQuery::current(key_range(&compare.key, &compare.range_end));
    let rows = state.range(query)?.rows;
    if rows.is_empty() {
        return Ok(target != Ok(CompareTarget::Value) && number_satisfies(compare, &RecordMeta::default()));
    }
    for record in rows.records() {
        let record = record?;
        let satisfied = match target {
            Ok(CompareTarget::Value) => value_satisfies(compare, record.value()),
            _ => number_satisfies(compare, &record.meta()),
        };
        if !satisfied {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A missing key never gets here: its value compares false with everything, even as not equal.
fn value_satisfies(compare: &Compare, value: &[u8]) -> bool {
    let operand = match &compare.target_union {
        Some(TargetUnion::Value(operand)) => &operand[..],
        _ => b"",
    };
    satisfies(compare, value.cmp(operand))
}

/// A missing key has zeros, and so has an operand of another kind than the target.
fn number_satisfies(compare: &Compare, meta: &RecordMeta) -> bool {
    use TargetUnion::{CreateRevision, Lease, ModRevision, Version};
    let (stored, operand) = match (CompareTarget::try_from(compare.target), compare.target_union.as_ref()) {
        (Ok(CompareTarget::Version), Some(&Version(operand))) => (meta.version, operand),
        (Ok(CompareTarget::Version), _) => (meta.version, 0),
        (Ok(CompareTarget::Create), Some(&CreateRevision(operand))) => (meta.create_revision, operand),
        (Ok(CompareTarget::Create), _) => (meta.create_revision, 0),
        (Ok(CompareTarget::Mod), Some(&ModRevision(operand))) => (meta.mod_revision, operand),
        (Ok(CompareTarget::Mod), _) => (meta.mod_revision, 0),
        (Ok(CompareTarget::Lease), Some(&Lease(operand))) => (meta.lease.0, operand),
        (Ok(CompareTarget::Lease), _) => (meta.lease.0, 0),
        // etcd compares nothing with nothing where it does not know the target: they are equal.
        (Ok(CompareTarget::Value) | Err(_), _) => (0, 0),
    };
    satisfies(compare, stored.cmp(&operand))
}

fn satisfies(compare: &Compare, found: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => found.is_eq(),
        Ok(CompareResult::NotEqual) => found.is_ne(),
        Ok(CompareResult::Greater) => found.is_gt(),
        Ok(CompareResult::Less) => found.is_lt(),
        // As etcd has it.
        Err(_) => true,
    }
}
