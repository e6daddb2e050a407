//! Rows that the running transaction has loaded. Each row is loaded once, changed in memory by every command and message that needs
//! it, and saved once before the commit.

use crate::{
    Coupons,
    admission::{
        ClaimPermit,
        redis::{GateUpdate, Slot, UpdateGuard},
    },
    model::{Definition, IssuedCoupon, OrderHold, Terms},
    store::{definitions, holds, issued},
};
use contracts::{CouponId, IssuedCouponId, MemberId, OrderId};
use kit::{DbError, Fault, Tx, Work, rows::Rows};
use std::{collections::HashMap, sync::Arc};

#[derive(Debug, Default)]
pub struct LoadedCoupons {
    pub definitions: Rows<CouponId, Definition>,
    pub issued: Rows<IssuedCouponId, IssuedCoupon>,
    pub holds: Rows<OrderId, OrderHold>,
    pub gate_changes: GateChanges,
    /// Terms never change, so they are read without locking the hot row that stores them.
    terms: HashMap<CouponId, Arc<Terms>>,
}

impl LoadedCoupons {
    /// Loads definitions for a change.
    pub async fn load_definitions(&mut self, tx: &mut Tx, ids: impl IntoIterator<Item = CouponId>) -> Result<(), DbError> {
        let missing = self.definitions.missing(ids);
        for definition in definitions::load(tx, &missing).await? {
            self.definitions.add_stored(definition.id, definition);
        }
        Ok(())
    }

    /// Loads issued coupons for a change. A caller that changes their definition, too, loads the definition first.
    pub async fn load_issued(&mut self, tx: &mut Tx, ids: impl IntoIterator<Item = IssuedCouponId>) -> Result<(), DbError> {
        let missing = self.issued.missing(ids);
        for coupon in issued::load(tx, &missing).await? {
            self.issued.add_stored(coupon.id, coupon);
        }
        Ok(())
    }

    /// Loads holds for a change.
    pub async fn load_holds(&mut self, tx: &mut Tx, orders: impl IntoIterator<Item = OrderId>) -> Result<(), DbError> {
        let missing = self.holds.missing(orders);
        for hold in holds::load(tx, &missing).await? {
            self.holds.add_stored(hold.order_id, hold);
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

    /// Notes that this transaction settles the claim of a permit. The gate frees its slot with the commit.
    pub fn settle_permit(&mut self, coupon_id: CouponId, permit: &ClaimPermit) {
        if let Some(slot) = permit.slot() {
            self.gate_changes.add_settled_slot(coupon_id, slot);
        }
    }

    /// Saves the changed issued coupons now, for a later query of this transaction on their table.
    pub async fn save_issued(&mut self, tx: &mut Tx) -> Result<(), DbError> {
        issued::save(tx, &self.issued.take_changed().existing).await
    }

    /// Saves all changed rows and returns the changed definitions.
    async fn save(&mut self, tx: &mut Tx) -> Result<Vec<&Definition>, Fault> {
        holds::save(tx, &self.holds.take_changed()).await?;
        self.save_issued(tx).await?;
        let mut changed = self.definitions.take_changed().existing;
        definitions::save(tx, &mut changed).await?;
        Ok(changed.into_iter().map(|definition| &*definition).collect())
    }
}

/// Changes of coupons that the gate must learn and the definition's row does not show.
#[derive(Debug, Default)]
pub struct GateChanges(HashMap<CouponId, GateChange>);

#[derive(Debug, Default)]
struct GateChange {
    /// By member: change of the number of coupons that count against the limit per member.
    member_counts: Vec<(MemberId, i64)>,
    /// Slots of the settled claims, granted or not.
    settled: Vec<Arc<Slot>>,
}

impl GateChanges {
    pub fn add_member_count(&mut self, coupon_id: CouponId, member_id: MemberId, change: i64) {
        self.0.entry(coupon_id).or_default().member_counts.push((member_id, change));
    }

    fn add_settled_slot(&mut self, coupon_id: CouponId, slot: &Arc<Slot>) {
        self.0.entry(coupon_id).or_default().settled.push(Arc::clone(slot));
    }

    fn take_update(&mut self, definition: &Definition) -> GateUpdate {
        let GateChange { member_counts, settled } = self.0.remove(&definition.id).unwrap_or_default();
        GateUpdate { coupon_id: definition.id, limits: definition.into(), member_counts, settled }
    }

    /// Updates of the coupons that did not change: all claims on them were refused.
    fn into_refused(self, definitions: &Rows<CouponId, Definition>) -> Vec<GateUpdate> {
        let update = |(coupon_id, change): (CouponId, GateChange)| {
            let limits = definitions.get(coupon_id)?.into();
            Some(GateUpdate { coupon_id, limits, member_counts: Vec::new(), settled: change.settled })
        };
        self.0.into_iter().filter_map(update).collect()
    }
}

impl Coupons {
    /// Saves the rows that the transaction changed. The gate or the refusal cache learns of them with the commit.
    pub(crate) async fn save(&self, work: &mut Work) -> Result<(), Fault> {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        let mut gate_changes = std::mem::take(&mut loaded.gate_changes);
        let changed = loaded.save(tx).await?;
        match &self.gate {
            Some(gate) => {
                let updates = changed.into_iter().map(|definition| gate_changes.take_update(definition)).collect();
                let guard = UpdateGuard::new(gate.clone(), updates);
                let refused = gate_changes.into_refused(&loaded.definitions);
                work.at_end(move |is_durable| guard.end(is_durable, refused));
            }
            None if changed.is_empty() => {}
            None => {
                let windows: Vec<_> = changed.into_iter().map(|definition| (definition.id, definition.into())).collect();
                let refusals = Arc::clone(&self.refusals);
                work.after_commit(move || refusals.apply(windows));
            }
        }
        Ok(())
    }
}
