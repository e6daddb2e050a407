//! Rows of the running transaction: loaded once, changed in memory, saved once.
//!
//! A service keeps them in [`Work::rows`](crate::Work::rows). Saving marks a row as unchanged, so that a later change is saved again.

use std::{
    collections::HashMap,
    hash::Hash,
    ops::{Deref, DerefMut},
};

/// A row that knows whether it was changed since it was loaded or saved.
#[derive(Debug)]
pub struct Tracked<V> {
    row: V,
    /// The row exists in the database.
    stored: bool,
    changed: bool,
}

/// The rows of one table to save, new and existing ones, each in the order of their keys.
#[derive(Debug)]
pub struct Changed<'r, V> {
    pub new: Vec<&'r mut V>,
    pub existing: Vec<&'r mut V>,
}

impl<V> Deref for Tracked<V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.row
    }
}

impl<V> DerefMut for Tracked<V> {
    fn deref_mut(&mut self) -> &mut V {
        self.changed = true;
        &mut self.row
    }
}

/// The loaded rows of one table. `None`: the key was loaded and has no row.
#[derive(Debug)]
pub struct Rows<K, V>(HashMap<K, Option<Tracked<V>>>);

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Ord + Hash, V> Rows<K, V> {
    pub fn get(&self, key: K) -> Option<&V> {
        Some(&self.0.get(&key)?.as_ref()?.row)
    }

    /// Returns the row of a key that must be loaded. `None`: the key has no row. `Err`: the key was not loaded, which is a bug.
    pub fn get_loaded<E>(&self, key: K, not_loaded: impl FnOnce() -> E) -> Result<Option<&V>, E> {
        let slot = self.0.get(&key).ok_or_else(not_loaded)?;
        Ok(slot.as_ref().map(|tracked| &tracked.row))
    }

    pub fn get_mut(&mut self, key: K) -> Option<&mut Tracked<V>> {
        self.0.get_mut(&key)?.as_mut()
    }

    /// Saves the row of a key although no value of it changes.
    pub fn mark_changed(&mut self, key: K) {
        if let Some(Some(tracked)) = self.0.get_mut(&key) {
            tracked.changed = true;
        }
    }

    /// Returns the row of a key. Without one, adds a new row, which is saved once it is changed.
    pub fn get_or_add(&mut self, key: K, new: impl FnOnce() -> V) -> &mut Tracked<V> {
        self.0.entry(key).or_default().get_or_insert_with(|| Tracked { row: new(), stored: false, changed: false })
    }

    /// Replaces the row of a key, or adds a new row. If another transaction has inserted it meanwhile, the primary key rejects this one,
    /// and the transaction is repeated.
    pub fn put(&mut self, key: K, row: V) {
        let slot = self.0.entry(key).or_default();
        let stored = slot.as_ref().is_some_and(|tracked| tracked.stored);
        *slot = Some(Tracked { row, stored, changed: true });
    }

    /// Adds a row as read from the database. A row that this transaction has already stays as it is.
    pub fn add_stored(&mut self, key: K, row: V) {
        self.0.entry(key).or_insert(Some(Tracked { row, stored: true, changed: false }));
    }

    /// The same for several rows. Returns them as this transaction has them.
    pub fn add_all_stored(&mut self, rows: impl IntoIterator<Item = (K, V)>) -> Vec<&V> {
        let mut keys = Vec::new();
        for (key, row) in rows {
            self.add_stored(key, row);
            keys.push(key);
        }
        keys.into_iter().filter_map(|key| self.get(key)).collect()
    }

    /// Adds the rows found for these keys. A key without a row counts as loaded, too.
    pub fn add_found(&mut self, keys: impl IntoIterator<Item = K>, found: impl IntoIterator<Item = (K, V)>) {
        for (key, row) in found {
            self.add_stored(key, row);
        }
        for key in keys {
            self.0.entry(key).or_default();
        }
    }

    /// The keys not loaded yet, sorted so that all transactions lock rows in the same order.
    pub fn missing(&self, keys: impl IntoIterator<Item = K>) -> Vec<K> {
        let mut missing: Vec<K> = keys.into_iter().filter(|key| !self.0.contains_key(key)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Returns the changed rows, which count as saved from now on.
    pub fn take_changed(&mut self) -> Changed<'_, V> {
        let tracked = self.0.iter_mut().filter_map(|(key, slot)| Some((*key, slot.as_mut()?)));
        let mut rows: Vec<(K, &mut Tracked<V>)> = tracked.filter(|(_, tracked)| tracked.changed).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        let mut changed = Changed { new: Vec::new(), existing: Vec::new() };
        for (_, tracked) in rows {
            let kind = if tracked.stored { &mut changed.existing } else { &mut changed.new };
            (tracked.stored, tracked.changed) = (true, false);
            kind.push(&mut tracked.row);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_row_is_saved_once_in_key_order() {
        let mut rows: Rows<u8, String> = Rows::default();
        rows.put(4, "newer".into());
        rows.put(3, "new".into());
        rows.add_stored(2, "read".into());
        rows.add_stored(1, "loaded".into());
        rows.get_mut(1).unwrap().push_str(" and changed");
        assert_eq!(rows.get_mut(2).unwrap().len(), 4, "a read is no change");
        let changed = rows.take_changed();
        assert_eq!(changed.existing, ["loaded and changed"]);
        assert_eq!(changed.new, ["new", "newer"]);
        let changed = rows.take_changed();
        assert!(changed.existing.is_empty() && changed.new.is_empty());
        rows.get_mut(3).unwrap().push('!');
        let changed = rows.take_changed();
        assert_eq!(changed.existing, ["new!"], "it is there now");
        assert!(changed.new.is_empty());
    }

    #[test]
    fn a_changed_row_wins_over_a_later_read() {
        let mut rows: Rows<u8, String> = Rows::default();
        rows.put(1, "changed".into());
        assert_eq!(rows.add_all_stored([(1, "stored".into()), (2, "other".into())]), ["changed", "other"]);
        assert_eq!(rows.missing([3, 1, 3, 2, 0]), [0, 3]);
    }

    #[test]
    fn a_key_without_a_row_is_loaded_once() {
        let mut rows: Rows<u8, String> = Rows::default();
        rows.add_found([1, 2], [(2, "found".into())]);
        assert_eq!(rows.missing([1, 2, 3]), [3]);
        assert_eq!((rows.get_loaded(1, || "bug"), rows.get_loaded(3, || "bug")), (Ok(None), Err("bug")));
        assert_eq!(rows.get_loaded(2, || "bug"), Ok(Some(&"found".to_owned())));
        assert!(rows.get(1).is_none() && rows.get_mut(1).is_none());
        rows.put(1, "new".into());
        rows.put(2, "replaced".into());
        let changed = rows.take_changed();
        assert_eq!((changed.new, changed.existing), (vec![&mut "new".to_owned()], vec![&mut "replaced".to_owned()]));
    }

    #[test]
    fn a_row_added_on_demand_is_saved_once_changed() {
        let mut rows: Rows<u8, String> = Rows::default();
        rows.add_found([1], []);
        assert_eq!(rows.get_or_add(1, String::new).len(), 0);
        assert!(rows.take_changed().new.is_empty());
        rows.get_or_add(1, || "other".into()).push('1');
        rows.get_or_add(2, || "2".into()).push('2');
        assert_eq!(rows.take_changed().new, ["1", "22"]);
    }
}
