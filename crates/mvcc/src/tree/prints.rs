//! One byte per entry of a leaf, made from its key: tells in one look which few entries may have a given key.
//!
//! Finding a key by order looks at several keys, each in memory of its own. This looks at one cache line and then,
//! but for one case in a few, at the right entry only.

use super::CAPACITY;

/// The bytes of a leaf, in the order of its entries.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Prints([u8; CAPACITY]);

impl Default for Prints {
    fn default() -> Prints {
        Prints([0; CAPACITY])
    }
}

impl Prints {
    /// The places, among others, of entries that have the print.
    #[inline]
    pub(super) fn candidates(&self, print: u8) -> impl Iterator<Item = usize> {
        let wanted = u64::from_ne_bytes([print; 8]);
        self.0.as_chunks::<8>().0.iter().enumerate().flat_map(move |(word, bytes)| {
            let mut found = zero_bytes(u64::from_le_bytes(*bytes) ^ wanted);
            std::iter::from_fn(move || {
                let byte = found.trailing_zeros() as usize / 8;
                found &= found.wrapping_sub(1);
                (byte < 8).then_some(word * 8 + byte)
            })
        })
    }

    pub(super) fn set(&mut self, at: usize, print: u8) {
        self.0[at] = print;
    }

    /// Makes room at `at` for the print of an entry that comes in there.
    pub(super) fn insert(&mut self, at: usize, print: u8) {
        self.0.copy_within(at..CAPACITY - 1, at + 1);
        self.0[at] = print;
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.0.copy_within(at + 1.., at);
    }
}

/// A mark in the top bit of every byte that is zero; maybe also in one above such a byte.
fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    word.wrapping_sub(LOW) & !word & HIGH
}

/// The print of a key.
#[inline]
pub(super) fn print(key: &[u8]) -> u8 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = key.as_chunks::<8>();
    let mut mixed = key.len() as u64;
    for word in words {
        mixed = (mixed ^ u64::from_le_bytes(*word)).wrapping_mul(ODD).rotate_left(29);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    ((mixed ^ u64::from_le_bytes(last)).wrapping_mul(ODD) >> 56) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_entry_with_the_print_is_a_candidate(
            changes in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0u8..6), 0..200),
        ) {
            let (mut prints, mut list) = (Prints::default(), Vec::new());
            for (insert, at, print) in changes {
                if insert && list.len() < CAPACITY {
                    let at = at.index(list.len() + 1);
                    prints.insert(at, print);
                    list.insert(at, print);
                } else if !list.is_empty() {
                    let at = at.index(list.len());
                    prints.remove(at);
                    list.remove(at);
                }
                for print in 0..6 {
                    let candidates: Vec<_> = prints.candidates(print).collect();
                    let all_there = (0..list.len()).filter(|&at| list[at] == print).all(|at| candidates.contains(&at));
                    prop_assert!(all_there, "{print} of {list:?}: {candidates:?}");
                }
            }
        }
    }

    #[test]
    fn prints_of_like_keys_differ() {
        let prints: std::collections::BTreeSet<_> =
            (0..1000).map(|number| print(format!("/registry/pods/default/web-{number:05}").as_bytes())).collect();
        assert!(prints.len() > 200, "{} of 256", prints.len());
    }
}
