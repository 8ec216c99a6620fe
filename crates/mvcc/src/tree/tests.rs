//! The tree against a `BTreeMap` of every version.

use std::collections::BTreeMap;

use proptest::prelude::*;
use types::{RecordMeta, Revision};

use super::*;

/// Versions of every key: main revision and whether it is a put. A main revision has one change here.
type Model = BTreeMap<Vec<u8>, Vec<(i64, bool)>>;

#[derive(Clone, Debug)]
enum Step {
    Put(u16),
    Delete(u16),
    /// Compacts at that share of the present revision, and prunes all.
    Prune(f64),
}

/// Keys with long shared beginnings, of several lengths, some the beginnings of others.
fn key(number: u16) -> Vec<u8> {
    let mut key =
        format!("/registry/{}/{:03}", if number.is_multiple_of(3) { "pods" } else { "leases/default" }, number / 2);
    if number.is_multiple_of(2) {
        key.push('\0');
    }
    key.into_bytes()
}

fn version(key: &[u8], main: i64, is_put: bool) -> (Record, Row) {
    let revision = Revision::first(main);
    if !is_put {
        return (Record::tombstone(key), Row::tombstone(revision));
    }
    let record = Record::put(key, b"value", RecordMeta { mod_revision: main, ..RecordMeta::default() });
    let len = record.as_bytes().len();
    (record, Row::put(revision, len))
}

struct Live {
    at: i64,
    keys: Vec<Vec<u8>>,
}

impl Visitor for Live {
    fn passes(&mut self, child: &Child) -> bool {
        child.live == 0 && child.newest <= self.at
    }

    fn leaf(&mut self, leaf: &Leaf, inside: Range<usize>, _: i64) -> ControlFlow<()> {
        let live = leaf.entries[inside].iter().filter(|entry| entry.at(self.at).is_some());
        self.keys.extend(live.map(|entry| entry.key().to_vec()));
        ControlFlow::Continue(())
    }
}

/// Counts as a range read does.
struct Counted {
    at: i64,
    count: u64,
}

impl Visitor for Counted {
    fn passes(&mut self, child: &Child) -> bool {
        let passes = child.newest <= self.at;
        self.count += if passes { child.live } else { 0 };
        passes
    }

    fn leaf(&mut self, leaf: &Leaf, inside: Range<usize>, newest: i64) -> ControlFlow<()> {
        self.count += if newest <= self.at {
            u64::from(leaf.live.within(&inside).count())
        } else {
            leaf.entries[inside].iter().filter(|entry| entry.at(self.at).is_some()).count() as u64
        };
        ControlFlow::Continue(())
    }
}

fn is_live(versions: &[(i64, bool)], at: i64) -> bool {
    versions.iter().rev().find(|version| version.0 <= at).is_some_and(|version| version.1)
}

fn check(tree: &Tree, model: &Model, main: i64, compacted: i64) {
    tree.check();
    let bounds: [(Vec<u8>, Option<Vec<u8>>); 5] = [
        (Vec::new(), None),
        (key(3), Some(key(120))),
        (key(120), None),
        (b"/registry/p".to_vec(), Some(b"/registry/q".to_vec())),
        (b"x".to_vec(), Some(b"a".to_vec())),
    ];
    for at in [main, compacted.max(main - 20), compacted.max(main / 2)] {
        for (low, high) in &bounds {
            let inside = |key: &Vec<u8>| key >= low && high.as_ref().is_none_or(|high| key < high);
            let expected = model.iter().filter(|(key, versions)| inside(key) && is_live(versions, at));
            let expected: Vec<_> = expected.map(|(key, _)| key.clone()).collect();
            let mut counted = Counted { at, count: 0 };
            let mut live = Live { at, keys: Vec::new() };
            let _ = tree.visit(low, high.as_deref(), &mut counted);
            let _ = tree.visit(low, high.as_deref(), &mut live);
            assert_eq!(counted.count, expected.len() as u64);
            assert_eq!(live.keys, expected);
        }
    }
}

impl Tree {
    /// Panics if an invariant is broken.
    fn check(&self) {
        let mut depths = Vec::new();
        let counts = self.check_node(self.root.node, None, None, 0, &mut depths);
        assert!(depths.windows(2).all(|pair| pair[0] == pair[1]), "leaves at depths {depths:?}");
        assert_eq!(counts.0, self.root.live);
        assert!(counts.1 <= self.root.newest);
        let free = self.nodes.iter().filter(|node| matches!(node, Node::Free)).count();
        assert_eq!(free, self.free.len());
    }

    fn check_node(
        &self,
        node: NodeId,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
        depth: usize,
        depths: &mut Vec<usize>,
    ) -> (u64, i64) {
        match &self.nodes[node as usize] {
            Node::Leaf(leaf) => {
                depths.push(depth);
                assert!(leaf.len() <= CAPACITY && (leaf.len() > 0 || depth == 0));
                assert!(leaf.entries.is_sorted_by(|a, b| a.key() < b.key()));
                for (at, entry) in leaf.entries.iter().enumerate() {
                    assert!(low.is_none_or(|low| entry.key() >= low) && high.is_none_or(|high| entry.key() < high));
                    assert_eq!(leaf.live.get(at), entry.is_live());
                    assert_eq!(leaf.aged.get(at), entry.is_aged());
                    assert_eq!(leaf.search(entry.key(), 0), Ok(at));
                    assert_eq!(leaf.find(entry.key()), Some(at));
                }
                let newest = leaf.entries.iter().map(|entry| entry.row.main).max().unwrap_or(0);
                (leaf.entries.iter().filter(|entry| entry.is_live()).count() as u64, newest)
            }
            Node::Branch(branch) => {
                assert!((2..=CAPACITY).contains(&branch.len()));
                let mut sums = (0, 0);
                for at in 0..branch.len() {
                    let low = if at == 0 { low } else { Some(branch.pair(at - 1).1) };
                    let high = if at + 1 == branch.len() { high } else { Some(branch.pair(at).1) };
                    let child = &branch.children[at];
                    let (live, newest) = self.check_node(child.node, low, high, depth + 1, depths);
                    assert_eq!(live, child.live);
                    assert!(newest <= child.newest);
                    sums = (sums.0 + live, newest.max(sums.1));
                }
                sums
            }
            Node::Free => panic!("a child is a free node"),
        }
    }
}

fn prune_all(tree: &mut Tree, model: &mut Model, target: i64) {
    for (key, versions) in model.iter_mut() {
        let mut removed = Vec::new();
        tree.prune(key, target, usize::MAX, &mut removed);
        let newest = versions.iter().rposition(|version| version.0 <= target);
        let first_kept = match newest {
            None => 0,
            Some(at) if !versions[at].1 && versions[at].0 < target => at + 1,
            Some(at) => at,
        };
        let expected: Vec<_> = versions.drain(..first_kept).collect();
        let removed: Vec<_> = removed.iter().map(|row| (row.revision.main, !row.tombstone)).collect();
        assert_eq!(removed, expected);
    }
    model.retain(|_, versions| !versions.is_empty());
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0u16..600).prop_map(Step::Put),
        6 => (0u16..600).prop_map(Step::Delete),
        1 => (0.5..1.01f64).prop_map(Step::Prune),
    ];
    proptest::collection::vec(step, 0..900)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn behaves_as_a_map_of_versions(start in 0u16..700, steps in steps()) {
        let mut model: Model = (0..start).map(|number| (key(number), vec![(1, true)])).collect();
        let entries: Vec<_> = model
            .keys()
            .map(|key| {
                let (record, row) = version(key, 1, true);
                Entry::new(record, row)
            })
            .collect();
        let mut tree = Tree::from_sorted(entries.into_iter(), 1);
        let (mut main, mut compacted) = (1, 0);
        check(&tree, &model, main, compacted);
        let write = |model: &mut Model, tree: &mut Tree, main: i64, key: Vec<u8>, is_put: bool| {
            let versions = model.entry(key.clone()).or_default();
            let previous = tree.supersede(&key, |_| version(&key, main, is_put));
            assert_eq!(previous.map(|(_, row)| row.main), versions.last().map(|version| version.0));
            versions.push((main, is_put));
        };
        for step in steps {
            match step {
                Step::Put(number) => {
                    main += 1;
                    write(&mut model, &mut tree, main, key(number), true);
                }
                Step::Delete(number) if model.get(&key(number)).is_some_and(|versions| is_live(versions, main)) => {
                    main += 1;
                    write(&mut model, &mut tree, main, key(number), false);
                }
                Step::Delete(_) => {}
                Step::Prune(share) => {
                    compacted = compacted.max((main as f64 * share) as i64);
                    prune_all(&mut tree, &mut model, compacted);
                    check(&tree, &model, main, compacted);
                }
            }
        }
        check(&tree, &model, main, compacted);
        for number in 0..700 {
            let found = tree.get(&key(number)).map(|entry| entry.row.main);
            prop_assert_eq!(found, model.get(&key(number)).map(|versions| versions[versions.len() - 1].0));
        }
        // Down to nothing and up again.
        let live: Vec<_> = model.iter().filter(|(_, versions)| is_live(versions, main)).map(|(key, _)| key.clone()).collect();
        for key in live {
            main += 1;
            write(&mut model, &mut tree, main, key, false);
        }
        prune_all(&mut tree, &mut model, main + 1);
        prop_assert!(model.is_empty());
        check(&tree, &model, main, main);
    }
}

#[test]
fn ascending_keys_leave_full_leaves_behind() {
    let mut tree = Tree::default();
    for number in 0..10_000u32 {
        let key = format!("key-{number:08}").into_bytes();
        tree.supersede(&key, |_| version(&key, i64::from(number) + 2, true));
    }
    tree.check();
    let leaves = tree.nodes.iter().filter(|node| matches!(node, Node::Leaf(_))).count();
    assert!(leaves <= 10_000 / CAPACITY + 1, "{leaves} leaves");
}
