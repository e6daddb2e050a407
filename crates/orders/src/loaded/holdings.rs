//! Reservations without payment in the current transaction: each member's row is locked and loaded once, and written once.

use crate::{
    model::{UnpaidHoldings, UnpaidLimits},
    store::unpaid as store,
};
use contracts::{MemberId, Timestamp};
use kit::{DbError, Tx};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct LoadedHoldings(BTreeMap<MemberId, LoadedHolding>);

struct LoadedHolding {
    /// `None`: the member has no row yet.
    stored: Option<(u32, Option<Timestamp>)>,
    holdings: UnpaidHoldings,
}

impl LoadedHoldings {
    /// Locks the rows of these members, and loads their holdings that are not in memory yet.
    ///
    /// The open orders are read under the lock. So each transaction sees the orders of all that placed one before it.
    pub async fn load(&mut self, tx: &mut Tx, members: BTreeSet<MemberId>) -> Result<(), DbError> {
        let missing: Vec<MemberId> = members.into_iter().filter(|member_id| !self.0.contains_key(member_id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut rows: BTreeMap<MemberId, (u32, Option<Timestamp>)> = BTreeMap::new();
        for (member_id, lapses, paused_until) in store::lock(tx, &missing).await? {
            rows.insert(member_id, (lapses, paused_until));
        }
        for member_id in &missing {
            let stored = rows.remove(member_id);
            let (lapses, paused_until) = stored.unwrap_or_default();
            let holdings = UnpaidHoldings { open: BTreeMap::new(), lapses, paused_until };
            self.0.insert(*member_id, LoadedHolding { stored, holdings });
        }
        for (member_id, order_id, units) in store::open_units(tx, &missing).await? {
            if let Some(loaded) = self.0.get_mut(&member_id) {
                loaded.holdings.open.entry(order_id).or_default().extend(units);
            }
        }
        Ok(())
    }

    /// The member's holdings. Empty when the member has none.
    pub fn holdings_mut(&mut self, member_id: MemberId) -> &mut UnpaidHoldings {
        &mut self.0.entry(member_id).or_insert_with(|| LoadedHolding { stored: None, holdings: UnpaidHoldings::default() }).holdings
    }

    pub async fn record_lapses(
        &mut self,
        tx: &mut Tx,
        members: BTreeSet<MemberId>,
        limits: &UnpaidLimits,
        now: Timestamp,
    ) -> Result<(), DbError> {
        self.load(tx, members.clone()).await?;
        for member_id in members {
            self.holdings_mut(member_id).record_lapse(limits, now);
        }
        Ok(())
    }

    /// Writes new and changed rows. When two transactions write a member's first row, the primary key refuses the second.
    pub async fn save(&self, tx: &mut Tx) -> Result<(), DbError> {
        let row = |(member_id, loaded): (&MemberId, &LoadedHolding)| (*member_id, loaded.holdings.lapses, loaded.holdings.paused_until);
        let is_used = |loaded: &LoadedHolding| !loaded.holdings.open.is_empty() || loaded.holdings.lapses > 0;
        let new = self.0.iter().filter(|(_, loaded)| loaded.stored.is_none() && is_used(loaded));
        store::insert(tx, &new.map(row).collect::<Vec<_>>()).await?;
        let is_changed =
            |loaded: &LoadedHolding| loaded.stored.is_some_and(|stored| stored != (loaded.holdings.lapses, loaded.holdings.paused_until));
        let changed = self.0.iter().filter(|(_, loaded)| is_changed(loaded));
        store::update(tx, &changed.map(row).collect::<Vec<_>>()).await
    }
}
