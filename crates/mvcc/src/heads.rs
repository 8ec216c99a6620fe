//! Finding a key among the sorted keys of one node while touching as few of them as possible.
//!
//! Keys of a node mostly begin alike, and each lies in memory of its own. So the node keeps, side by side, the eight
//! bytes of every key that follow what all of them share. A search runs over those and looks at whole keys only to
//! check the shared part and to tell equal heads apart.
//!
//! Example: of `/pods/a/web-1`, `/pods/a/web-2`, `/pods/b/db` the first 6 bytes are shared, the heads are `a/web-1`
//! (padded with a zero byte), `a/web-2`, `b/db`.

use std::cmp::Ordering;

/// The heads of some sorted keys. The keys themselves are passed to every call as `key_at`.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// Every key is at least that long, and all are equal up to there. Need not be the most that holds.
    skip: usize,
    heads: Vec<u64>,
}

impl Heads {
    /// The heads of `len` keys.
    pub(crate) fn of<'k>(len: usize, key_at: impl Fn(usize) -> &'k [u8]) -> Heads {
        let mut heads = Heads { skip: 0, heads: Vec::with_capacity(len) };
        if len > 0 {
            // Sorted keys share what the first and the last do.
            heads.skip = common_prefix_len(key_at(0), key_at(len - 1));
            heads.heads.extend((0..len).map(|at| head(key_at(at), heads.skip)));
        }
        heads
    }

    /// Where `key` is, or where it would go. Of its first `known` bytes the caller knows that the keys here have them too.
    #[inline]
    pub(crate) fn search<'k>(
        &self,
        key: &[u8],
        known: usize,
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Result<usize, usize> {
        if self.heads.is_empty() {
            return Err(0);
        }
        if self.skip > known {
            let start = &key[..key.len().min(self.skip)];
            match start.cmp(&key_at(0)[..self.skip]) {
                Ordering::Less => return Err(0),
                Ordering::Greater => return Err(self.heads.len()),
                Ordering::Equal => {}
            }
        }
        let wanted = head(key, self.skip);
        let mut low = self.heads.partition_point(|&head| head < wanted);
        let mut high = low + self.heads[low..].iter().take_while(|&&head| head == wanted).count();
        while low < high {
            let middle = low.midpoint(high);
            match key_at(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Takes in the key that is now at `at`; `key_at` gives the keys with it.
    pub(crate) fn inserted<'k>(&mut self, at: usize, key_at: impl Fn(usize) -> &'k [u8]) {
        let len = self.heads.len() + 1;
        // A key between two others shares what they do; only a new first or last one can share less.
        let is_outermost = at == 0 || at == len - 1;
        if len == 1 || is_outermost && common_prefix_len(key_at(0), key_at(len - 1)) < self.skip {
            *self = Heads::of(len, key_at);
            return;
        }
        if self.heads.len() == self.heads.capacity() {
            self.heads.reserve_exact(GROWTH);
        }
        self.heads.insert(at, head(key_at(at), self.skip));
    }

    /// Lets go of the key that was at `at`.
    pub(crate) fn removed(&mut self, at: usize) {
        self.heads.remove(at);
    }
}

/// By how many places the lists of a node grow: doubling would leave a quarter of all memory unused.
pub(crate) const GROWTH: usize = 8;

pub(crate) fn common_prefix_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The eight bytes of `key` from `skip` on, as a number that sorts as they do; zero bytes stand in for missing ones.
#[inline]
pub(crate) fn head(key: &[u8], skip: usize) -> u64 {
    let rest = &key[skip..];
    if let Some(first) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut padded = [0; 8];
    padded[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn search_finds_what_a_plain_search_finds(
            keys in proptest::collection::btree_set(proptest::collection::vec(0u8..3, 0..12), 0..40),
            probe in proptest::collection::vec(0u8..3, 0..12),
        ) {
            let keys: Vec<_> = keys.into_iter().collect();
            let heads = Heads::of(keys.len(), |at| &keys[at]);
            prop_assert_eq!(heads.search(&probe, 0, |at| &keys[at]), keys.binary_search(&probe));
            for (at, key) in keys.iter().enumerate() {
                prop_assert_eq!(heads.search(key, 0, |at| &keys[at]), Ok(at));
            }
        }

        #[test]
        fn heads_follow_inserts_and_removals(
            changes in proptest::collection::vec((any::<bool>(), proptest::collection::vec(0u8..3, 0..12)), 0..60),
        ) {
            let mut keys: Vec<Vec<u8>> = Vec::new();
            let mut heads = Heads::default();
            for (insert, key) in changes {
                match (heads.search(&key, 0, |at| &keys[at]), insert) {
                    (Err(at), true) => {
                        keys.insert(at, key);
                        heads.inserted(at, |at| &keys[at]);
                    }
                    (Ok(at), false) => {
                        keys.remove(at);
                        heads.removed(at);
                    }
                    _ => {}
                }
                prop_assert!(keys.is_sorted());
                for (at, key) in keys.iter().enumerate() {
                    prop_assert_eq!(heads.search(key, 0, |at| &keys[at]), Ok(at));
                }
            }
        }
    }
}
