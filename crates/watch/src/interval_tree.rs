//! Which of many key ranges hold a given key: an interval tree.
//!
//! A treap ordered by range (start, then end), in which every node also knows the furthest end below it: a subtree
//! whose furthest end lies at or before the key is not entered. Equal ranges share a node, so a thousand watchers of one
//! prefix cost one visit. Nodes live in one vector and name each other by position.
//!
//! A query costs O(log n) for each range found, insert and remove cost O(log n) expected.

use types::{KeyRange, RangeEnd};

use crate::random::SplitMix;

const NIL: u32 = u32::MAX;

pub(crate) struct IntervalTree<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    root: u32,
    priorities: SplitMix,
}

struct Node<T> {
    range: KeyRange,
    /// Which node, this one or one below it, has the furthest end.
    furthest: u32,
    /// No child's is higher; drawn at random, which keeps the tree about balanced whatever the ranges are.
    priority: u64,
    left: u32,
    right: u32,
    values: Vec<T>,
}

impl<T: Copy> IntervalTree<T> {
    pub(crate) fn new() -> IntervalTree<T> {
        IntervalTree { nodes: Vec::new(), free: Vec::new(), root: NIL, priorities: SplitMix::default() }
    }

    /// Adds `value` under `range`, which is not a single key. Returns its position among the range's values.
    pub(crate) fn insert(&mut self, range: &KeyRange, value: T) -> usize {
        if let Some(at) = self.find(range) {
            let values = &mut self.nodes[at as usize].values;
            values.push(value);
            return values.len() - 1;
        }
        let node = self.allocate(range, value);
        self.root = self.insert_below(self.root, node);
        0
    }

    /// Removes the value at `position` of `range`. Returns the value that took the position, if one did.
    pub(crate) fn remove(&mut self, range: &KeyRange, position: usize) -> Option<T> {
        let at = self.find(range).expect("a value is removed from the range it was put under");
        let values = &mut self.nodes[at as usize].values;
        values.swap_remove(position);
        if values.is_empty() {
            self.root = self.remove_below(self.root, range);
            self.release(at);
            return None;
        }
        self.nodes[at as usize].values.get(position).copied()
    }

    /// Calls `visit` with the values of every range that holds `key`.
    pub(crate) fn stab(&self, key: &[u8], visit: &mut impl FnMut(&[T])) {
        self.stab_below(self.root, key, visit);
    }

    fn stab_below(&self, at: u32, key: &[u8], visit: &mut impl FnMut(&[T])) {
        let Some(node) = self.nodes.get(at as usize) else { return };
        if !reaches_past(self.end(node.furthest), key) {
            return;
        }
        self.stab_below(node.left, key, visit);
        if node.range.start.as_ref() <= key {
            if reaches_past(&node.range.end, key) {
                visit(&node.values);
            }
            self.stab_below(node.right, key, visit);
        }
    }

    fn find(&self, range: &KeyRange) -> Option<u32> {
        let mut at = self.root;
        while at != NIL {
            let node = &self.nodes[at as usize];
            at = match range.cmp(&node.range) {
                std::cmp::Ordering::Less => node.left,
                std::cmp::Ordering::Greater => node.right,
                std::cmp::Ordering::Equal => return Some(at),
            };
        }
        None
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NIL {
            return new;
        }
        if self.nodes[new as usize].priority > self.nodes[at as usize].priority {
            let (left, right) = self.split(at, new);
            self.nodes[new as usize].left = left;
            self.nodes[new as usize].right = right;
            self.refresh(new);
            return new;
        }
        if self.nodes[new as usize].range < self.nodes[at as usize].range {
            let left = self.insert_below(self.nodes[at as usize].left, new);
            self.nodes[at as usize].left = left;
        } else {
            let right = self.insert_below(self.nodes[at as usize].right, new);
            self.nodes[at as usize].right = right;
        }
        self.refresh(at);
        at
    }

    /// Cuts the tree at `at` into the nodes before and after `pivot`'s range.
    fn split(&mut self, at: u32, pivot: u32) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        if self.nodes[at as usize].range < self.nodes[pivot as usize].range {
            let (left, right) = self.split(self.nodes[at as usize].right, pivot);
            self.nodes[at as usize].right = left;
            self.refresh(at);
            (at, right)
        } else {
            let (left, right) = self.split(self.nodes[at as usize].left, pivot);
            self.nodes[at as usize].left = right;
            self.refresh(at);
            (left, at)
        }
    }

    fn remove_below(&mut self, at: u32, range: &KeyRange) -> u32 {
        let node = &self.nodes[at as usize];
        let (left, right) = (node.left, node.right);
        match range.cmp(&node.range) {
            std::cmp::Ordering::Equal => return self.merge(left, right),
            std::cmp::Ordering::Less => {
                let left = self.remove_below(left, range);
                self.nodes[at as usize].left = left;
            }
            std::cmp::Ordering::Greater => {
                let right = self.remove_below(right, range);
                self.nodes[at as usize].right = right;
            }
        }
        self.refresh(at);
        at
    }

    /// Joins two trees, all of `left` lying before all of `right`.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let merged = self.merge(self.nodes[left as usize].right, right);
            self.nodes[left as usize].right = merged;
            self.refresh(left);
            left
        } else {
            let merged = self.merge(left, self.nodes[right as usize].left);
            self.nodes[right as usize].left = merged;
            self.refresh(right);
            right
        }
    }

    fn refresh(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut furthest = at;
        for child in [node.left, node.right] {
            if let Some(child) = self.nodes.get(child as usize)
                && self.end(child.furthest) > self.end(furthest)
            {
                furthest = child.furthest;
            }
        }
        self.nodes[at as usize].furthest = furthest;
    }

    fn end(&self, at: u32) -> &RangeEnd {
        &self.nodes[at as usize].range.end
    }

    fn allocate(&mut self, range: &KeyRange, value: T) -> u32 {
        let priority = self.priorities.draw();
        let at = self
            .free
            .pop()
            .unwrap_or_else(|| u32::try_from(self.nodes.len()).expect("fewer than 2^32 ranges fit into memory"));
        let node = Node { range: range.clone(), furthest: at, priority, left: NIL, right: NIL, values: vec![value] };
        if at as usize == self.nodes.len() {
            self.nodes.push(node);
        } else {
            self.nodes[at as usize] = node;
        }
        at
    }

    fn release(&mut self, at: u32) {
        if self.root == NIL {
            self.nodes = Vec::new();
            self.free = Vec::new();
            return;
        }
        let node = &mut self.nodes[at as usize];
        node.range = KeyRange::all();
        node.values = Vec::new();
        self.free.push(at);
    }
}

fn reaches_past(end: &RangeEnd, key: &[u8]) -> bool {
    match end {
        RangeEnd::Before(end) => key < end.as_ref(),
        RangeEnd::Unbounded => true,
        RangeEnd::Single => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(KeyRange),
        Remove(usize),
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..6, 0..4)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        (key(), prop::option::of(key())).prop_map(|(start, end)| match end {
            Some(end) if end > start => KeyRange { start: start.into(), end: RangeEnd::Before(end.into()) },
            Some(_) => KeyRange::prefix(&start),
            None => KeyRange { start: start.into(), end: RangeEnd::Unbounded },
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![3 => range().prop_map(Step::Insert), 2 => any::<usize>().prop_map(Step::Remove)]
    }

    /// What the tree holds, plainly: (range, position in the range, value).
    type Naive = Vec<(KeyRange, usize, u32)>;

    fn remove(tree: &mut IntervalTree<u32>, naive: &mut Naive, which: usize) {
        let (range, position, _) = naive.swap_remove(which);
        let last = naive.iter_mut().filter(|held| held.0 == range).max_by_key(|held| held.1);
        let moved = match last {
            Some(held) if held.1 > position => {
                held.1 = position;
                Some(held.2)
            }
            _ => None,
        };
        assert_eq!(tree.remove(&range, position), moved);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn finds_what_a_plain_list_finds(
            steps in prop::collection::vec(step(), 1..120),
            keys in prop::collection::vec(key(), 20),
        ) {
            let (mut tree, mut naive) = (IntervalTree::new(), Naive::new());
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(range) => {
                        let position = tree.insert(&range, value as u32);
                        prop_assert_eq!(position, naive.iter().filter(|held| held.0 == range).count());
                        naive.push((range, position, value as u32));
                    }
                    Step::Remove(which) if !naive.is_empty() => {
                        let which = which % naive.len();
                        remove(&mut tree, &mut naive, which);
                    }
                    Step::Remove(_) => {}
                }
            }
            for key in keys {
                let mut found = Vec::new();
                tree.stab(&key, &mut |values| found.extend_from_slice(values));
                found.sort_unstable();
                let mut expected: Vec<u32> =
                    naive.iter().filter(|held| held.0.contains(&key)).map(|held| held.2).collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn stays_shallow_when_ranges_come_in_order() {
        let mut tree = IntervalTree::new();
        for number in 0u32..10_000 {
            let start = Bytes::copy_from_slice(&number.to_be_bytes());
            let end = Bytes::copy_from_slice(&(number + 1).to_be_bytes());
            tree.insert(&KeyRange { start, end: RangeEnd::Before(end) }, number);
        }
        assert!(depth(&tree, tree.root) < 60, "{}", depth(&tree, tree.root));
    }

    fn depth(tree: &IntervalTree<u32>, at: u32) -> usize {
        let Some(node) = tree.nodes.get(at as usize) else { return 0 };
        1 + depth(tree, node.left).max(depth(tree, node.right))
    }

    #[test]
    fn emptied_tree_gives_its_memory_back() {
        let mut tree = IntervalTree::new();
        tree.insert(&KeyRange::prefix(b"a"), 1);
        tree.insert(&KeyRange::prefix(b"b"), 2);
        tree.remove(&KeyRange::prefix(b"a"), 0);
        tree.remove(&KeyRange::prefix(b"b"), 0);
        assert_eq!((tree.nodes.capacity(), tree.free.capacity()), (0, 0));
    }
}
