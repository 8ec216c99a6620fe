//! Values in numbered slots, whose keys never come to mean another value.

/// Names one value of one arena, forever: a key outlives its value harmlessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    slot: u32,
    generation: u32,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// The values. An arena that became empty holds no memory.
pub(crate) struct Arena<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    generation: u32,
}

impl<T> Arena<T> {
    pub(crate) fn new() -> Arena<T> {
        Arena { slots: Vec::new(), free: Vec::new(), generation: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        // Counted over the whole arena, so that it goes on when the slots are given back.
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let filled = Slot { generation, value: Some(value) };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = filled;
                slot
            }
            None => {
                self.slots.push(filled);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 values fit into memory")
            }
        };
        Key { slot, generation }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        let value = slot.value.take()?;
        self.free.push(key.slot);
        if self.is_empty() {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        Some(value)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        slot.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        slot.value.as_mut()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, held)| {
            let key = Key { slot: slot as u32, generation: held.generation };
            held.value.as_mut().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_finds_the_next_value_of_its_slot() {
        let mut arena = Arena::new();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second");
        assert_eq!(second.slot, first.slot);
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.get(second), Some(&"second"));
    }

    #[test]
    fn emptied_arena_gives_its_memory_back() {
        let mut arena = Arena::new();
        let keys: Vec<Key> = (0..1000).map(|value| arena.insert(value)).collect();
        for key in keys {
            arena.remove(key);
        }
        assert_eq!((arena.len(), arena.slots.capacity(), arena.free.capacity()), (0, 0, 0));
    }
}
