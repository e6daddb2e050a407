//! What the running transaction has read of coupons, as it has changed it: each row is loaded once, decided on in memory by every
//! command and message that needs it, and saved once before the commit.

use super::{definitions, holds, issued};
use crate::{
    model::{Definition, Hold, IssuedCoupon, Terms},
    redis_gate::Place,
};
use contracts::{CouponId, IssuedCouponId, MemberId, OrderId};
use kit::{DbError, Fault, Tx};
use std::{
    collections::HashMap,
    hash::Hash,
    ops::{Deref, DerefMut},
    sync::Arc,
};

/// A row that knows whether it was changed since it was loaded or saved.
#[derive(Debug)]
pub struct Tracked<V> {
    row: V,
    /// The database has it.
    stored: bool,
    changed: bool,
}

/// The rows of one table that are to be saved, each kind in the order of its keys.
#[derive(Debug)]
pub struct Changed<'r, V> {
    pub new: Vec<&'r mut V>,
    pub known: Vec<&'r mut V>,
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

/// The rows of one table.
#[derive(Debug)]
pub struct Rows<K, V>(HashMap<K, Tracked<V>>);

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Ord + Hash, V> Rows<K, V> {
    pub fn get(&self, key: K) -> Option<&V> {
        self.0.get(&key).map(|tracked| &tracked.row)
    }

    pub fn get_mut(&mut self, key: K) -> Option<&mut Tracked<V>> {
        self.0.get_mut(&key)
    }

    /// Takes a row as the database has it. What this transaction made of it already wins.
    pub fn learn(&mut self, key: K, row: V) {
        self.0.entry(key).or_insert(Tracked { row, stored: true, changed: false });
    }

    /// The same for several; each as this transaction knows it.
    pub fn learn_all(&mut self, rows: impl IntoIterator<Item = (K, V)>) -> Vec<&V> {
        let mut keys = Vec::new();
        for (key, row) in rows {
            self.learn(key, row);
            keys.push(key);
        }
        keys.into_iter().filter_map(|key| self.get(key)).collect()
    }

    /// Takes a row that is not in the database yet, as far as this transaction knows: should another one have written it meanwhile,
    /// the primary key refuses this one, and the transaction is repeated.
    pub fn add(&mut self, key: K, row: V) {
        self.0.insert(key, Tracked { row, stored: false, changed: true });
    }

    /// Those of the keys that were not read yet, sorted: rows are locked in one order everywhere.
    fn missing(&self, keys: impl IntoIterator<Item = K>) -> Vec<K> {
        let mut missing: Vec<K> = keys.into_iter().filter(|key| !self.0.contains_key(key)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// The changed rows, which then count as saved.
    fn take_changed(&mut self) -> Changed<'_, V> {
        let mut rows: Vec<(&K, &mut Tracked<V>)> = self.0.iter_mut().filter(|(_, tracked)| tracked.changed).collect();
        rows.sort_unstable_by_key(|(key, _)| **key);
        let mut changed = Changed { new: Vec::new(), known: Vec::new() };
        for (_, tracked) in rows {
            let kind = if tracked.stored { &mut changed.known } else { &mut changed.new };
            (tracked.stored, tracked.changed) = (true, false);
            kind.push(&mut tracked.row);
        }
        changed
    }
}

/// What the gate of all processes must be told of a coupon besides its row.
#[derive(Debug, Default)]
pub struct Change {
    /// By member: how many more, or fewer, coupons count against his share.
    pub shares: Vec<(MemberId, i64)>,
    /// The places of the claims that were settled, granted or not.
    pub settled: Vec<Arc<Place>>,
}

#[derive(Debug, Default)]
pub struct Changes(HashMap<CouponId, Change>);

impl Changes {
    pub fn share(&mut self, coupon_id: CouponId, member_id: MemberId, change: i64) {
        self.0.entry(coupon_id).or_default().shares.push((member_id, change));
    }

    pub fn settled(&mut self, coupon_id: CouponId, place: &Arc<Place>) {
        self.0.entry(coupon_id).or_default().settled.push(Arc::clone(place));
    }

    pub fn take(&mut self, coupon_id: CouponId) -> Change {
        self.0.remove(&coupon_id).unwrap_or_default()
    }

    /// Those that were not taken: of coupons that did not change.
    pub fn rest(self) -> impl Iterator<Item = (CouponId, Change)> {
        self.0.into_iter()
    }
}

#[derive(Debug, Default)]
pub struct Books {
    pub definitions: Rows<CouponId, Definition>,
    pub issued: Rows<IssuedCouponId, IssuedCoupon>,
    pub holds: Rows<OrderId, Hold>,
    pub changes: Changes,
    /// Terms never change, so they are read without a lock on the hot row they are stored in.
    terms: HashMap<CouponId, Arc<Terms>>,
}

impl Books {
    pub async fn load_definitions(&mut self, tx: &mut Tx, ids: impl IntoIterator<Item = CouponId>) -> Result<(), DbError> {
        let missing = self.definitions.missing(ids);
        for definition in definitions::load(tx, &missing).await? {
            self.definitions.learn(definition.id, definition);
        }
        Ok(())
    }

    /// Brings coupons in for a change. Whoever changes a definition as well loads that one before.
    pub async fn load_issued(&mut self, tx: &mut Tx, ids: impl IntoIterator<Item = IssuedCouponId>) -> Result<(), DbError> {
        let missing = self.issued.missing(ids);
        for coupon in issued::load(tx, &missing).await? {
            self.issued.learn(coupon.id, coupon);
        }
        Ok(())
    }

    pub async fn load_holds(&mut self, tx: &mut Tx, orders: impl IntoIterator<Item = OrderId>) -> Result<(), DbError> {
        let missing = self.holds.missing(orders);
        for hold in holds::load(tx, &missing).await? {
            self.holds.learn(hold.order_id, hold);
        }
        Ok(())
    }

    pub async fn load_terms(&mut self, tx: &mut Tx, ids: impl IntoIterator<Item = CouponId>) -> Result<(), DbError> {
        let mut missing: Vec<CouponId> = ids.into_iter().filter(|id| !self.terms.contains_key(id)).collect();
        missing.sort_unstable();
        missing.dedup();
        for definition in definitions::find(tx, &missing).await? {
            self.terms.insert(definition.id, definition.terms);
        }
        Ok(())
    }

    pub fn terms(&self, id: CouponId) -> Option<&Terms> {
        self.terms.get(&id).map(Arc::as_ref)
    }

    /// Writes the changed coupons now, where what follows in this transaction reads the table.
    pub async fn save_issued(&mut self, tx: &mut Tx) -> Result<(), DbError> {
        issued::save(tx, &self.issued.take_changed().known).await
    }

    /// Writes what changed; the definitions that did, as they now are.
    pub async fn save(&mut self, tx: &mut Tx) -> Result<Vec<&Definition>, Fault> {
        holds::save(tx, &self.holds.take_changed()).await?;
        self.save_issued(tx).await?;
        let mut changed = self.definitions.take_changed().known;
        definitions::save(tx, &mut changed).await?;
        Ok(changed.into_iter().map(|definition| &*definition).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_saved_once_for_each_change_and_in_the_order_of_the_keys() {
        let mut rows: Rows<u8, String> = Rows::default();
        rows.add(4, "newer".into());
        rows.add(3, "new".into());
        rows.learn(2, "seen".into());
        rows.learn(1, "loaded".into());
        rows.get_mut(1).unwrap().push_str(" and changed");
        assert_eq!(rows.get_mut(2).unwrap().len(), 4, "looking is no change");
        let changed = rows.take_changed();
        assert_eq!(changed.known, ["loaded and changed"]);
        assert_eq!(changed.new, ["new", "newer"]);
        let changed = rows.take_changed();
        assert!(changed.known.is_empty() && changed.new.is_empty());
        rows.get_mut(3).unwrap().push('!');
        let changed = rows.take_changed();
        assert_eq!(changed.known, ["new!"], "it is there now");
        assert!(changed.new.is_empty());
    }

    #[test]
    fn what_the_transaction_made_of_a_row_wins() {
        let mut rows: Rows<u8, String> = Rows::default();
        rows.add(1, "changed".into());
        assert_eq!(rows.learn_all([(1, "stored".into()), (2, "other".into())]), ["changed", "other"]);
        assert_eq!(rows.missing([3, 1, 3, 2, 0]), [0, 3]);
    }
}
