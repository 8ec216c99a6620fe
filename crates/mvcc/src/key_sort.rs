//! Sorting many keys fast: by eight bytes at a time, as numbers, so that most comparisons touch no key.

use crate::heads::{common_prefix_len, head};

/// Below that many keys of equal heads, comparing them outright is quicker.
const FEW: usize = 32;

/// The places of `len` keys in key order. No key may occur twice.
pub(crate) fn sorted_places<'k>(len: usize, key_at: &impl Fn(u32) -> &'k [u8]) -> Vec<u32> {
    let count = u32::try_from(len).expect("the index of 2^32 keys would not fit into memory");
    let mut items: Vec<(u64, u32)> = (0..count).map(|place| (0, place)).collect();
    sort(&mut items, 0, key_at);
    items.into_iter().map(|(_, place)| place).collect()
}

/// Sorts keys that share their first `shared` bytes.
fn sort<'k>(items: &mut [(u64, u32)], shared: usize, key_at: &impl Fn(u32) -> &'k [u8]) {
    if items.len() <= FEW {
        items.sort_unstable_by(|a, b| key_at(a.1)[shared..].cmp(&key_at(b.1)[shared..]));
        return;
    }
    let first = key_at(items[0].1);
    let mut skip = first.len();
    for (_, place) in items.iter() {
        let key = key_at(*place);
        let within = skip.min(key.len());
        skip = shared + common_prefix_len(&first[shared..within], &key[shared..within]);
    }
    for (item, place) in items.iter_mut() {
        *item = head(key_at(*place), skip);
    }
    items.sort_unstable();
    // Keys of equal heads share at least `skip` bytes and the padding of their heads may hide where they end. They
    // differ further on, or one is the other and zero bytes.
    let mut rest = items;
    while let Some(&(head, _)) = rest.first() {
        let equal = rest.iter().take_while(|item| item.0 == head).count();
        let (group, after) = rest.split_at_mut(equal);
        let is_smaller_problem = group.iter().all(|&(_, place)| key_at(place).len() >= skip + 8);
        if group.len() > FEW && is_smaller_problem {
            sort(group, skip + 8, key_at);
        } else if group.len() > 1 {
            group.sort_unstable_by(|a, b| key_at(a.1)[skip..].cmp(&key_at(b.1)[skip..]));
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_in_key_order(
            keys in proptest::collection::btree_set(proptest::collection::vec(0u8..2, 0..24), 0..400),
            seed in any::<u64>(),
        ) {
            let mut keys: Vec<Vec<u8>> = keys.into_iter().collect();
            let len = keys.len();
            let mut seed = seed | 1;
            for at in 1..len {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                keys.swap(at, (seed >> 33) as usize % (at + 1));
            }
            let places = sorted_places(len, &|place| &keys[place as usize]);
            prop_assert_eq!(places.len(), len);
            prop_assert!(places.windows(2).all(|pair| keys[pair[0] as usize] < keys[pair[1] as usize]));
        }
    }
}
