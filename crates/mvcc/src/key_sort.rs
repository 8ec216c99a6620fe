//! Sorting many keys fast: by eight bytes at a time, as numbers, so that most comparisons touch no key.

use std::cmp::Ordering;

use crate::heads::{common_prefix_len, head};

/// Below that many keys of equal heads, comparing them outright is quicker.
const FEW: usize = 32;

/// The places of `len` keys in key order; those of equal keys ascend.
pub(crate) fn sorted_places<'k>(len: usize, key_at: &impl Fn(u32) -> &'k [u8]) -> Vec<Item> {
    let count = u32::try_from(len).expect("the index of 2^32 keys would not fit into memory");
    let mut items: Vec<Item> = (0..count).map(|place| Item { head: 0, place }).collect();
    sort(&mut items, 0, key_at);
    items
}

/// Some bytes of a key as a number that sorts as they do, and the place of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    head: u64,
    pub(crate) place: u32,
}

/// How many bytes of a key make a head.
const HEAD_LEN: usize = size_of::<u64>();

/// Sorts keys that share their first `shared` bytes.
fn sort<'k>(items: &mut [Item], shared: usize, key_at: &impl Fn(u32) -> &'k [u8]) {
    if items.len() <= FEW {
        items.sort_unstable_by(|a, b| compare(*a, *b, shared, key_at));
        return;
    }
    let first = key_at(items[0].place);
    let mut skip = first.len();
    for item in items.iter() {
        let key = key_at(item.place);
        let within = skip.min(key.len());
        skip = shared + common_prefix_len(&first[shared..within], &key[shared..within]);
    }
    for item in items.iter_mut() {
        item.head = head(key_at(item.place), skip);
    }
    items.sort_unstable();
    // Keys of equal heads differ further on; or not at all; or one is the other with zero bytes, for padding hides that.
    let mut rest = items;
    while let Some(first) = rest.first() {
        let head = first.head;
        let equal = rest.iter().take_while(|item| item.head == head).count();
        let (group, after) = rest.split_at_mut(equal);
        let is_smaller_problem = || group.iter().all(|item| key_at(item.place).len() >= skip + HEAD_LEN);
        if group.len() > FEW && is_smaller_problem() {
            sort(group, skip + HEAD_LEN, key_at);
        } else if group.len() > 1 {
            group.sort_unstable_by(|a, b| compare(*a, *b, skip, key_at));
        }
        rest = after;
    }
}

fn compare<'k>(a: Item, b: Item, shared: usize, key_at: &impl Fn(u32) -> &'k [u8]) -> Ordering {
    key_at(a.place)[shared..].cmp(&key_at(b.place)[shared..]).then(a.place.cmp(&b.place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_in_key_order(
            keys in proptest::collection::vec(proptest::collection::vec(0u8..2, 0..24), 0..400),
        ) {
            let len = keys.len();
            let places = sorted_places(len, &|place| &keys[place as usize]);
            let places: Vec<_> = places.into_iter().map(|item| item.place).collect();
            prop_assert_eq!(places.len(), len);
            prop_assert!(places.is_sorted_by_key(|&place| (&keys[place as usize], place)));
        }
    }
}
