//! A bounded map of what was used lately.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Two generations: what is used moves into the young one, and when that is full the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: FxHashMap<K, V>,
    old: FxHashMap<K, V>,
    generation: usize,
}

impl<K: Clone + Eq + Hash, V: Copy> Recent<K, V> {
    /// Remembers between `generation` and twice as many of the last used entries.
    pub(crate) fn new(generation: usize) -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), generation }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(*value);
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value);
        Some(value)
    }

    pub(crate) fn set(&mut self, key: &K, value: V) {
        match self.young.get_mut(key) {
            Some(known) => *known = value,
            None => self.put(key.clone(), value),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}
