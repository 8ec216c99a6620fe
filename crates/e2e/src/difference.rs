//! Where Quorate differs from etcd 3.5 on purpose.

use crate::Target;

/// The behaviours in which the targets may differ; a test that depends on one asks [`Difference::shows`].
///
/// This list and `docs/differences.md` say the same.
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
    /// Quorate does not compact by itself yet, and refuses to start when asked to.
    NoAutoCompaction,
}

impl Difference {
    /// Whether `target` is the one that behaves as described, not as etcd 3.5 does.
    pub fn shows(self, target: Target) -> bool {
        target == Target::Quorate
    }
}
