//! Sorting many keys fast: by eight bytes at a time, as numbers, so that most comparisons touch no key.

use std::cmp::Ordering;
use std::thread;

use crate::heads::{common_prefix_len, head};

/// Below that many keys of equal heads, comparing them outright is quicker.
const FEW: usize = 32;
/// From that many keys on, sorting them on several threads is quicker.
const MANY: usize = 1 << 15;

/// The places of `len` keys in key order; those of equal keys ascend. Works on up to `threads` threads.
pub(crate) fn sorted_places<'k>(len: usize, threads: usize, key_at: &(impl Fn(u32) -> &'k [u8] + Sync)) -> Vec<Item> {
    let count = u32::try_from(len).expect("the index of 2^32 keys would not fit into memory");
    let mut items: Vec<Item> = (0..count).map(|place| Item { head: 0, place }).collect();
    sort(&mut items, 0, threads, key_at);
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
fn sort<'k>(items: &mut [Item], shared: usize, threads: usize, key_at: &(impl Fn(u32) -> &'k [u8] + Sync)) {
    if items.len() <= FEW {
        items.sort_unstable_by(|a, b| compare(*a, *b, shared, key_at));
        return;
    }
    let threads = if items.len() < MANY { 1 } else { threads };
    let first = key_at(items[0].place);
    let shared_in = |part: &mut [Item]| {
        part.iter().fold(first.len(), |skip, item| {
            let key = key_at(item.place);
            let within = skip.min(key.len());
            shared + common_prefix_len(&first[shared..within], &key[shared..within])
        })
    };
    let skip = in_parts(items, threads, &shared_in).into_iter().min().expect("there are parts");
    let set_heads = |part: &mut [Item]| part.iter_mut().for_each(|item| item.head = head(key_at(item.place), skip));
    in_parts(items, threads, &set_heads);
    sort_by_heads(items, threads);
    // Keys of equal heads differ further on; or not at all; or one is the other with zero bytes, for padding hides that.
    for group in items.chunk_by_mut(|a, b| a.head == b.head) {
        let is_smaller_problem = || group.iter().all(|item| key_at(item.place).len() >= skip + HEAD_LEN);
        if group.len() > FEW && is_smaller_problem() {
            sort(group, skip + HEAD_LEN, threads, key_at);
        } else if group.len() > 1 {
            group.sort_unstable_by(|a, b| compare(*a, *b, skip, key_at));
        }
    }
}

/// Works on parts of `items`, a thread each.
fn in_parts<T: Send>(items: &mut [Item], threads: usize, work: &(impl Fn(&mut [Item]) -> T + Sync)) -> Vec<T> {
    if threads < 2 {
        return vec![work(items)];
    }
    thread::scope(|scope| {
        let parts = items.chunks_mut(items.len().div_ceil(threads));
        let workers: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        workers.into_iter().map(|worker| worker.join().expect("comparing keys does not panic")).collect()
    })
}

fn sort_by_heads(items: &mut [Item], threads: usize) {
    if threads < 2 || items.len() < MANY {
        return items.sort_unstable();
    }
    let (low, _, high) = items.select_nth_unstable(items.len() / 2);
    thread::scope(|scope| {
        scope.spawn(|| sort_by_heads(low, threads / 2));
        sort_by_heads(high, threads - threads / 2);
    });
}

fn compare<'k>(a: Item, b: Item, shared: usize, key_at: &impl Fn(u32) -> &'k [u8]) -> Ordering {
    key_at(a.place)[shared..].cmp(&key_at(b.place)[shared..]).then(a.place.cmp(&b.place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(keys: &[Vec<u8>], threads: usize) {
        let places = sorted_places(keys.len(), threads, &|place| &keys[place as usize]);
        let places: Vec<_> = places.into_iter().map(|item| item.place).collect();
        assert_eq!(places.len(), keys.len());
        assert!(places.is_sorted_by_key(|&place| (&keys[place as usize], place)));
    }

    proptest! {
        #[test]
        fn places_are_in_key_order(
            keys in proptest::collection::vec(proptest::collection::vec(0u8..2, 0..24), 0..400),
        ) {
            check(&keys, 1);
        }
    }

    #[test]
    fn many_keys_are_sorted_on_any_number_of_threads() {
        let key = |number: usize| {
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            format!("/{}/{:08}", if mixed.is_multiple_of(3) { "default/pods" } else { "leases" }, mixed % 40_000)
        };
        let keys: Vec<_> = (0..3 * MANY).map(|number| key(number).into_bytes()).collect();
        (1..5).for_each(|threads| check(&keys, threads));
    }
}
