//! A set of keys given by single keys and ranges, to be asked whether it holds a key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use types::{KeyRange, RangeEnd};

/// A union of keys and of half-open ranges. Every operation is logarithmic, merging counted against insertions.
#[derive(Debug, Default)]
pub(crate) struct KeySpans<'k> {
    keys: BTreeSet<&'k [u8]>,
    /// First key to the key after the last, or to no end. Disjoint and not touching.
    ranges: BTreeMap<&'k [u8], Option<&'k [u8]>>,
}

impl<'k> KeySpans<'k> {
    pub(crate) fn insert_key(&mut self, key: &'k [u8]) {
        self.keys.insert(key);
    }

    /// Adds the keys from `start` up to, and without, `end`; to the last key there is without one.
    pub(crate) fn insert_range(&mut self, start: &'k [u8], end: Option<&'k [u8]>) {
        if end.is_some_and(|end| end <= start) {
            return;
        }
        let (mut start, mut end) = (start, end);
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back()
            && reaches(before_end, start)
        {
            start = before;
        }
        // Everything that begins inside the new range, or right where it ends, becomes part of it.
        while let Some((&next, &next_end)) = self.ranges.range(start..).next()
            && reaches(end, next)
        {
            end = later(end, next_end);
            self.ranges.remove(next);
        }
        self.ranges.insert(start, end);
    }

    pub(crate) fn insert(&mut self, range: &'k KeyRange) {
        match &range.end {
            RangeEnd::Single => self.insert_key(&range.start),
            RangeEnd::Before(end) => self.insert_range(&range.start, Some(end)),
            RangeEnd::Unbounded => self.insert_range(&range.start, None),
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let range = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        self.keys.contains(key) || range.is_some_and(|(_, end)| end.is_none_or(|end| key < end))
    }

    /// Whether any of `keys` is in the set.
    pub(crate) fn contains_any(&self, keys: &BTreeSet<&[u8]>) -> bool {
        if keys.len() <= self.len() {
            return keys.iter().any(|key| self.contains(key));
        }
        let holds_one = |start: &[u8], end: Option<&[u8]>| {
            let end = end.map_or(Bound::Unbounded, Bound::Excluded);
            keys.range::<[u8], _>((Bound::Included(start), end)).next().is_some()
        };
        self.keys.iter().any(|key| keys.contains(key)) || self.ranges.iter().any(|(start, end)| holds_one(start, *end))
    }

    /// Adds everything of another set.
    pub(crate) fn absorb(&mut self, mut other: KeySpans<'k>) {
        if other.len() > self.len() {
            std::mem::swap(self, &mut other);
        }
        // One by one: `append` would cost as much as the larger set.
        self.keys.extend(other.keys);
        for (start, end) in other.ranges {
            self.insert_range(start, end);
        }
    }

    fn len(&self) -> usize {
        self.keys.len() + self.ranges.len()
    }
}

/// Whether a range that ends at `end` covers `key`, or ends right before it.
fn reaches(end: Option<&[u8]>, key: &[u8]) -> bool {
    end.is_none_or(|end| end >= key)
}

fn later<'k>(one: Option<&'k [u8]>, other: Option<&'k [u8]>) -> Option<&'k [u8]> {
    Some(one?.max(other?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_was_put_in(
            spans in prop::collection::vec((0..20u8, prop::option::of(0..22u8), any::<bool>()), 0..12),
            split in 0..12usize, keys in prop::collection::btree_set(0..22u8, 0..22),
        ) {
            let numbers: Vec<[u8; 1]> = (0..22).map(|number| [number]).collect();
            let key = |number: u8| &numbers[usize::from(number)][..];
            let (mut set, mut other) = (KeySpans::default(), KeySpans::default());
            let mut expected = BTreeSet::new();
            for (at, &(start, end, single)) in spans.iter().enumerate() {
                let into = if at < split { &mut set } else { &mut other };
                if single {
                    into.insert_key(key(start));
                    expected.insert(start);
                } else {
                    into.insert_range(key(start), end.map(key));
                    expected.extend(start..end.unwrap_or(22));
                }
            }
            set.absorb(other);
            for number in 0..22 {
                prop_assert_eq!(set.contains(key(number)), expected.contains(&number), "{}", number);
            }
            let asked: BTreeSet<&[u8]> = keys.iter().map(|&number| key(number)).collect();
            prop_assert_eq!(set.contains_any(&asked), keys.iter().any(|number| expected.contains(number)));
        }
    }
}
