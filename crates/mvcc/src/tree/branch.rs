//! A branch: up to 64 children and the keys between them.

use super::{CAPACITY, COMFORTABLE, Child, NodeId};
use crate::heads::{Heads, common_prefix_len};

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) children: Vec<Child>,
    /// `separators[i]` stands between `children[i]` and `children[i + 1]`.
    separators: Vec<Box<[u8]>>,
    heads: Heads,
}

impl Branch {
    pub(super) fn of(separators: Vec<Box<[u8]>>, children: Vec<Child>) -> Branch {
        debug_assert_eq!(separators.len() + 1, children.len());
        let heads = Heads::of(separators.len(), |at| &separators[at]);
        Branch { children, separators, heads }
    }

    fn rebuild(&mut self) {
        let separators = &self.separators;
        self.heads = Heads::of(separators.len(), |at| &separators[at]);
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    pub(super) fn summary(&self, node: NodeId) -> Child {
        let live = self.children.iter().map(|child| child.live).sum();
        let newest = self.children.iter().map(|child| child.newest).max().unwrap_or(0);
        Child { node, live, newest }
    }

    /// The place of the child that `key` belongs to.
    #[inline]
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        match self.heads.search(key, 0, |at| &self.separators[at]) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// How many first bytes all keys of the child share for certain: those which the separators around it share.
    pub(super) fn shared_below(&self, at: usize) -> usize {
        match (at.checked_sub(1), self.separators.get(at)) {
            (Some(left), Some(right)) => common_prefix_len(&self.separators[left], right),
            _ => 0,
        }
    }

    /// Two neighbours and what stands between them.
    pub(super) fn pair(&self, left_at: usize) -> (NodeId, &[u8], NodeId) {
        (self.children[left_at].node, &self.separators[left_at], self.children[left_at + 1].node)
    }

    /// Adds a child that is not the first.
    pub(super) fn insert(&mut self, at: usize, separator: Box<[u8]>, child: Child) {
        self.children.insert(at, child);
        self.separators.insert(at - 1, separator);
        let separators = &self.separators;
        self.heads.inserted(at - 1, |at| &separators[at]);
    }

    pub(super) fn replace_pair(&mut self, left_at: usize, separator: Box<[u8]>, left: Child, right: Child) {
        self.children[left_at] = left;
        self.children[left_at + 1] = right;
        self.separators[left_at] = separator;
        self.rebuild();
    }

    /// Puts one child in the place of two.
    pub(super) fn join_pair(&mut self, left_at: usize, joined: Child) {
        self.children[left_at] = joined;
        self.children.remove(left_at + 1);
        self.separators.remove(left_at);
        self.heads.removed(left_at);
    }

    /// Splits a branch that has become too large; the upper half is returned with the key below it.
    pub(super) fn split(&mut self) -> (Box<[u8]>, Branch) {
        let at = self.len() / 2;
        let children = self.children.split_off(at);
        let separators = self.separators.split_off(at);
        let between = self.separators.pop().expect("a branch that is split has many children");
        self.rebuild();
        (between, Branch::of(separators, children))
    }

    /// Takes in the children of the next branch, which `between` separates from this one; or if they are too many,
    /// shares them with it.
    pub(super) fn balance(&mut self, between: Box<[u8]>, mut right: Branch) -> Option<(Box<[u8]>, Branch)> {
        self.children.append(&mut right.children);
        self.separators.push(between);
        self.separators.append(&mut right.separators);
        if self.len() <= COMFORTABLE {
            self.rebuild();
            return None;
        }
        debug_assert!(self.len() <= 2 * CAPACITY);
        Some(self.split())
    }
}
