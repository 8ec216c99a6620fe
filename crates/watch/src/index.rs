//! Who watches a key: a hash map for watchers of one key, an interval tree for watchers of ranges.

use bytes::Bytes;
use hashbrown::HashMap;
use types::KeyRange;

use crate::interval_tree::IntervalTree;

/// Values by the range they stand for. Each value has a position among those of the same range, which its owner keeps:
/// it makes removal cheap however many share the range.
pub(crate) struct Index<T> {
    singles: HashMap<Bytes, Vec<T>>,
    ranges: IntervalTree<T>,
}

impl<T: Copy> Index<T> {
    pub(crate) fn new() -> Index<T> {
        Index { singles: HashMap::new(), ranges: IntervalTree::new() }
    }

    /// Adds `value` and returns its position.
    pub(crate) fn insert(&mut self, range: &KeyRange, value: T) -> usize {
        if !range.is_single() {
            return self.ranges.insert(range, value);
        }
        let values = self.singles.entry_ref(&range.start).or_default();
        values.push(value);
        values.len() - 1
    }

    /// Removes the value at `position`. Returns the value that has this position from now on, if one has.
    pub(crate) fn remove(&mut self, range: &KeyRange, position: usize) -> Option<T> {
        if !range.is_single() {
            return self.ranges.remove(range, position);
        }
        let values = self.singles.get_mut(&range.start).expect("a value is removed from the key it was put under");
        values.swap_remove(position);
        let moved = values.get(position).copied();
        if values.is_empty() {
            self.singles.remove(&range.start);
            if self.singles.is_empty() {
                self.singles = HashMap::new();
            }
        }
        moved
    }

    /// Calls `visit` with all values whose range holds `key`, some at a time.
    pub(crate) fn matching(&self, key: &[u8], visit: &mut impl FnMut(&[T])) {
        if let Some(values) = self.singles.get(key) {
            visit(values);
        }
        self.ranges.stab(key, visit);
    }
}
