//! The key index: a B+tree whose nodes count the live keys below them and know how new the newest version below is.
//!
//! Invariants
//! - All leaves are at the same depth. Entries ascend by key through the leaves; no key is there twice.
//! - A [`Child`] tells exactly how many live keys its subtree has. Its `newest` is no less than the main revision of
//!   any version below; it may be more, since removal does not lower it.
//! - Of two neighbouring children all keys of the left one are below the separator, all keys of the right one at or
//!   above it.
//! - A branch has at least two children; only a tree without keys has a leaf without entries.
//!
//! Counting the keys of a range therefore looks at two paths only, and counting as of an older revision at those and
//! at what has changed since. Nodes live in one vector and point at each other by position, so there is no unsafe
//! code and freeing a tree is cheap.
//!
//! Knows nothing of locks, revisions in progress or the backend.

mod branch;
mod leaf;
mod prints;

use std::ops::{ControlFlow, Range};
use std::thread;

use types::{Record, RowKey};

use crate::entry::{Entry, Pruned, Row};
use branch::Branch;
pub(crate) use leaf::{Bits, Leaf};

/// Most entries of a leaf (the leaf has a bit for each in a `u64`) and most children of a branch.
const CAPACITY: usize = 64;
/// A node with less takes from, or joins, a neighbour.
const LEAST: usize = CAPACITY / 4;
/// How full nodes are made when there is a choice: most of the way, with room for some inserts. The entries of such a
/// leaf take just under 2 KiB, a size that allocators have.
const COMFORTABLE: usize = 51;
/// Splits happen at most once per 16 inserts below, so 2^64 inserts make no higher tree.
const HEIGHT_MAX: usize = 16;

/// Fewer leaves are not worth a thread.
const LEAVES_PER_THREAD: usize = 1024;

/// The position of a node.
pub(crate) type NodeId = u32;

#[derive(Debug)]
enum Node {
    Leaf(Leaf),
    Branch(Branch),
    /// Not in use.
    Free,
}

/// A node as the one above sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Child {
    node: NodeId,
    /// Live keys below.
    pub(crate) live: u64,
    /// No version below has a higher main revision.
    pub(crate) newest: i64,
}

/// Does something with the leaves of a part of the key space, in order; see [`Tree::visit`].
pub(crate) trait Visitor {
    /// Whether the subtree, all of which lies inside the part, need not be looked into.
    fn passes(&mut self, child: &Child) -> bool;

    /// Takes those entries of the leaf that lie inside the part. `newest` is as in [`Child`].
    fn leaf(&mut self, leaf: &Leaf, inside: Range<usize>, newest: i64) -> ControlFlow<()>;
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    root: Child,
}

/// The way from the root to a leaf: branches, and which child was taken.
#[derive(Default)]
struct Path {
    steps: [(NodeId, u32); HEIGHT_MAX],
    len: usize,
}

impl Path {
    fn steps(&self) -> &[(NodeId, u32)] {
        &self.steps[..self.len]
    }

    fn push(&mut self, node: NodeId, child: usize) {
        self.steps[self.len] = (node, child as u32);
        self.len += 1;
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::from_sorted(std::iter::empty(), 1)
    }
}

impl Tree {
    /// A tree of entries that come in ascending key order, made on up to `threads` threads besides this one.
    pub(crate) fn from_sorted(entries: impl ExactSizeIterator<Item = Entry>, threads: usize) -> Tree {
        let mut tree = Tree { nodes: Vec::new(), free: Vec::new(), root: Child { node: 0, live: 0, newest: 0 } };
        let mut level: Vec<(Box<[u8]>, Child)> = Vec::new();
        for leaf in leaves(entries, threads) {
            let separator = match level.last() {
                None => Box::default(),
                Some((_, left)) => {
                    let left = tree.leaf(left.node);
                    separator(left.entries[left.len() - 1].key(), leaf.entries[0].key())
                }
            };
            level.push((separator, tree.add(Node::Leaf(leaf))));
        }
        while level.len() > 1 {
            let sizes = even_parts(level.len());
            let mut children = level.into_iter();
            level = sizes
                .map(|size| {
                    let (mut separators, children): (Vec<_>, Vec<_>) = children.by_ref().take(size).unzip();
                    let lowest = separators.remove(0);
                    (lowest, tree.add(Node::Branch(Branch::of(separators, children))))
                })
                .collect();
        }
        tree.root = match level.pop() {
            Some((_, root)) => root,
            None => tree.add(Node::Leaf(Leaf::of(Vec::new()))),
        };
        tree
    }

    /// The entry of `key`, with its leaf and place.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<(&Leaf, usize)> {
        let mut node = self.root.node;
        loop {
            match &self.nodes[node as usize] {
                Node::Branch(branch) => node = branch.children[branch.child_for(key)].node,
                Node::Leaf(leaf) => return leaf.find(key).map(|at| (leaf, at)),
                Node::Free => unreachable!("no child is a free node"),
            }
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.find(key).map(|(leaf, at)| &leaf.entries[at])
    }

    /// Gives `key` the newer version that `next` makes of its entry (if there is one). Returns the version it
    /// supersedes.
    pub(crate) fn supersede(
        &mut self,
        key: &[u8],
        next: impl FnOnce(Option<&Entry>) -> (Record, Row),
    ) -> Option<(Record, Row)> {
        let (leaf_id, path) = self.path_to(key);
        let known = path.steps().last().map_or(0, |&(node, at)| self.branch(node).shared_below(at as usize));
        let leaf = self.leaf_mut(leaf_id);
        match leaf.find(key).map_or_else(|| leaf.search(key, known), Ok) {
            Ok(at) => {
                let (record, row) = next(Some(&leaf.entries[at]));
                let live_before = leaf.live.count();
                let previous = leaf.supersede(at, record, row);
                let live_change = i64::from(leaf.live.count()) - i64::from(live_before);
                self.note(&path, live_change, row.main);
                Some(previous)
            }
            Err(at) => {
                let (record, row) = next(None);
                let entry = Entry::new(record, row);
                if leaf.len() < CAPACITY {
                    let live_change = i64::from(entry.is_live());
                    leaf.insert(at, entry);
                    self.note(&path, live_change, row.main);
                } else {
                    self.insert_splitting(leaf_id, &path, at, entry);
                }
                None
            }
        }
    }

    /// Prunes one key as [`Entry::prune`] does, and drops its entry if nothing is left.
    pub(crate) fn prune(&mut self, key: &[u8], target: i64, max_rows: usize, removed: &mut Vec<RowKey>) -> Pruned {
        let (leaf_id, path) = self.path_to(key);
        let leaf = self.leaf_mut(leaf_id);
        let Some(at) = leaf.find(key) else { return Pruned::Gone };
        let outcome = leaf.prune(at, target, max_rows, removed);
        if outcome == Pruned::Gone && leaf.len() < LEAST {
            self.refill(&path);
        }
        outcome
    }

    /// Shows `visitor` the leaves, or those parts of them, that hold keys from `low` (inclusive) to `high` (exclusive).
    pub(crate) fn visit(&self, low: &[u8], high: Option<&[u8]>, visitor: &mut impl Visitor) -> ControlFlow<()> {
        if high.is_some_and(|high| high <= low) {
            return ControlFlow::Continue(());
        }
        self.visit_child(&self.root, (!low.is_empty()).then_some(low), high, visitor)
    }

    fn visit_child(
        &self,
        child: &Child,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
        visitor: &mut impl Visitor,
    ) -> ControlFlow<()> {
        if low.is_none() && high.is_none() && visitor.passes(child) {
            return ControlFlow::Continue(());
        }
        match &self.nodes[child.node as usize] {
            Node::Leaf(leaf) => {
                let start = low.map_or(0, |low| leaf.lower_bound(low));
                let end = high.map_or(leaf.len(), |high| leaf.lower_bound(high));
                if start < end { visitor.leaf(leaf, start..end, child.newest) } else { ControlFlow::Continue(()) }
            }
            Node::Branch(branch) => {
                let first = low.map_or(0, |low| branch.child_for(low));
                let last = high.map_or(branch.len() - 1, |high| branch.child_for(high));
                for at in first..=last {
                    let low = low.filter(|_| at == first);
                    let high = high.filter(|_| at == last);
                    self.visit_child(&branch.children[at], low, high, visitor)?;
                }
                ControlFlow::Continue(())
            }
            Node::Free => unreachable!("no child is a free node"),
        }
    }

    /// How many keys live.
    pub(crate) fn live_count(&self) -> u64 {
        self.root.live
    }

    /// The number of node positions, for [`Tree::leaf_at_mut`].
    pub(crate) fn node_count(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// The leaf at a position, if it holds one. Its entries may be evicted, but must keep keys and rows.
    pub(crate) fn leaf_at_mut(&mut self, node: NodeId) -> Option<&mut Leaf> {
        match self.nodes.get_mut(node as usize) {
            Some(Node::Leaf(leaf)) => Some(leaf),
            _ => None,
        }
    }

    fn path_to(&self, key: &[u8]) -> (NodeId, Path) {
        let mut path = Path::default();
        let mut node = self.root.node;
        while let Node::Branch(branch) = &self.nodes[node as usize] {
            let at = branch.child_for(key);
            path.push(node, at);
            node = branch.children[at].node;
        }
        (node, path)
    }

    /// Brings the counts along `path` up to date after one version was added at its end.
    fn note(&mut self, path: &Path, live_change: i64, main: i64) {
        self.root.note(live_change, main);
        for &(node, at) in path.steps() {
            self.branch_mut(node).children[at as usize].note(live_change, main);
        }
    }

    /// Inserts into the full leaf at the end of `path`.
    fn insert_splitting(&mut self, leaf_id: NodeId, path: &Path, at: usize, entry: Entry) {
        let leaf = self.leaf_mut(leaf_id);
        let (separator, right) = leaf.insert_splitting(at, entry);
        let mut changed = leaf.summary(leaf_id);
        let mut added = Some((separator, self.add(Node::Leaf(right))));
        for &(node, at) in path.steps().iter().rev() {
            let branch = self.branch_mut(node);
            branch.children[at as usize] = changed;
            let mut split = None;
            if let Some((separator, child)) = added {
                branch.insert(at as usize + 1, separator, child);
                if branch.len() > CAPACITY {
                    split = Some(branch.split());
                }
            }
            changed = branch.summary(node);
            added = split.map(|(separator, right)| (separator, self.add(Node::Branch(right))));
        }
        self.root = match added {
            None => changed,
            Some((separator, right)) => self.add(Node::Branch(Branch::of(vec![separator], vec![changed, right]))),
        };
    }

    /// Mends the node at the end of `path`, which has become small, and what becomes small above it by that.
    fn refill(&mut self, path: &Path) {
        for &(node, at) in path.steps().iter().rev() {
            let left_at = (at as usize).min(self.branch(node).len() - 2);
            let (left, between, right) = self.branch(node).pair(left_at);
            let between = between.into();
            match self.balance(left, between, right) {
                Some((separator, left, right)) => self.branch_mut(node).replace_pair(left_at, separator, left, right),
                None => {
                    let joined = self.summary(left);
                    self.branch_mut(node).join_pair(left_at, joined);
                    self.remove(right);
                }
            }
            if self.branch(node).len() >= LEAST {
                return;
            }
        }
        while let Node::Branch(branch) = &self.nodes[self.root.node as usize] {
            let &[only] = branch.children.as_slice() else { return };
            self.remove(self.root.node);
            self.root = only;
        }
    }

    /// Moves all of two neighbours into the left one (`None`), or half of it each if that would be too full.
    fn balance(&mut self, left: NodeId, between: Box<[u8]>, right: NodeId) -> Option<(Box<[u8]>, Child, Child)> {
        let taken = std::mem::replace(&mut self.nodes[right as usize], Node::Free);
        let (separator, rest) = match (&mut self.nodes[left as usize], taken) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let (separator, rest) = left.balance(right)?;
                (separator, Node::Leaf(rest))
            }
            (Node::Branch(left), Node::Branch(right)) => {
                let (separator, rest) = left.balance(between, right)?;
                (separator, Node::Branch(rest))
            }
            _ => unreachable!("neighbours are of one kind"),
        };
        self.nodes[right as usize] = rest;
        Some((separator, self.summary(left), self.summary(right)))
    }

    fn summary(&self, node: NodeId) -> Child {
        match &self.nodes[node as usize] {
            Node::Leaf(leaf) => leaf.summary(node),
            Node::Branch(branch) => branch.summary(node),
            Node::Free => unreachable!("no child is a free node"),
        }
    }

    fn add(&mut self, node: Node) -> Child {
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                let id = NodeId::try_from(self.nodes.len()).expect("2^32 nodes would fill 10 TB of memory");
                self.nodes.push(node);
                id
            }
        };
        self.summary(id)
    }

    fn remove(&mut self, id: NodeId) {
        self.nodes[id as usize] = Node::Free;
        self.free.push(id);
    }

    fn leaf(&self, id: NodeId) -> &Leaf {
        match &self.nodes[id as usize] {
            Node::Leaf(leaf) => leaf,
            _ => unreachable!("paths end at leaves"),
        }
    }

    fn leaf_mut(&mut self, id: NodeId) -> &mut Leaf {
        match &mut self.nodes[id as usize] {
            Node::Leaf(leaf) => leaf,
            _ => unreachable!("paths end at leaves"),
        }
    }

    fn branch(&self, id: NodeId) -> &Branch {
        match &self.nodes[id as usize] {
            Node::Branch(branch) => branch,
            _ => unreachable!("paths lead through branches"),
        }
    }

    fn branch_mut(&mut self, id: NodeId) -> &mut Branch {
        match &mut self.nodes[id as usize] {
            Node::Branch(branch) => branch,
            _ => unreachable!("paths lead through branches"),
        }
    }
}

impl Child {
    fn note(&mut self, live_change: i64, main: i64) {
        self.live = self.live.checked_add_signed(live_change).expect("only live keys are taken away");
        self.newest = self.newest.max(main);
    }
}

/// Cuts sorted entries into leaves. Threads finish them while more are cut.
fn leaves(mut entries: impl ExactSizeIterator<Item = Entry>, threads: usize) -> Vec<Leaf> {
    let mut sizes = even_parts(entries.len());
    let mut cut = |size| -> Vec<Entry> { entries.by_ref().take(size).collect() };
    if threads < 2 || sizes.len() < LEAVES_PER_THREAD {
        return sizes.map(|size| Leaf::of(cut(size))).collect();
    }
    thread::scope(|scope| {
        let mut workers = Vec::new();
        let per_worker = (sizes.len() / (4 * threads)).max(LEAVES_PER_THREAD);
        while sizes.len() > 0 {
            let cut: Vec<_> = sizes.by_ref().take(per_worker).map(&mut cut).collect();
            workers.push(scope.spawn(move || cut.into_iter().map(Leaf::of).collect::<Vec<_>>()));
        }
        workers.into_iter().flat_map(|worker| worker.join().expect("making leaves does not panic")).collect()
    })
}

/// The shortest key that is above `left` and not above `right`.
fn separator(left: &[u8], right: &[u8]) -> Box<[u8]> {
    right[..crate::heads::common_prefix_len(left, right) + 1].into()
}

/// Cuts `len` into as many parts as it takes to keep each comfortable, as equal as can be.
fn even_parts(len: usize) -> impl ExactSizeIterator<Item = usize> {
    let parts = len.div_ceil(COMFORTABLE);
    (0..parts).map(move |part| len * (part + 1) / parts - len * part / parts)
}

#[cfg(test)]
mod tests;
