//! The stock rows of a transaction: loaded once, changed by any number of commands and messages, saved once.

use super::{LineState, Movement, Reservation, ReservationLine, ReservationState, StockItem, reservation::StockStep};
use contracts::{
    Code, OrderId, Refusal, Sku, Timestamp,
    messages::{SkusListed, StockLine, StockReserve, StockTake},
};
use std::{collections::HashMap, fmt::Write};

/// Most lines named by a refusal. The others are counted, to keep the text short.
const NAMED_LINES: usize = 5;

/// The items and reservations that a transaction has loaded, and its new movements.
#[derive(Debug, Default)]
pub struct LoadedStock {
    items: HashMap<Sku, StockRow<StockItem>>,
    orders: HashMap<OrderId, StockRow<Reservation>>,
    movements: Vec<Movement>,
}

/// A loaded row.
#[derive(Debug)]
struct StockRow<T> {
    /// `None`: the row does not exist.
    row: Option<T>,
    /// The row exists in the database.
    is_stored: bool,
    /// The row differs from the database.
    is_changed: bool,
}

impl<T> StockRow<T> {
    fn loaded(row: Option<T>) -> Self {
        Self { is_stored: row.is_some(), row, is_changed: false }
    }
}

/// A decision needed the row of this SKU, but the caller had not loaded it: a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLoaded(pub Sku);

/// Outcome of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed,
    AlreadyCommitted,
    /// Nothing to sell, because the order is in this state. `None`: stock does not know the order.
    NothingHeld(Option<ReservationState>),
}

/// A line of an order that asks for more units than are available.
struct Shortage {
    line_no: u32,
    wanted: u32,
    left: i64,
}

/// Rows to save. `true`: the row is new to the database.
pub struct StockChanges<'s> {
    pub items: Vec<(&'s StockItem, bool)>,
    pub reservations: Vec<(&'s Reservation, bool)>,
    pub movements: &'s [Movement],
}

impl LoadedStock {
    /// The SKUs not loaded yet, sorted so that all transactions lock rows in one order.
    pub fn missing_items(&self, mut skus: Vec<Sku>) -> Vec<Sku> {
        skus.retain(|sku| !self.items.contains_key(sku));
        skus.sort_unstable();
        skus.dedup();
        skus
    }

    /// The orders not loaded yet, sorted so that all transactions lock rows in one order.
    pub fn missing_orders(&self, mut orders: Vec<OrderId>) -> Vec<OrderId> {
        orders.retain(|order_id| !self.orders.contains_key(order_id));
        orders.sort_unstable();
        orders.dedup();
        orders
    }

    pub fn insert_item(&mut self, sku: Sku, row: Option<StockItem>) {
        self.items.insert(sku, StockRow::loaded(row));
    }

    pub fn insert_order(&mut self, order_id: OrderId, row: Option<Reservation>) {
        self.orders.insert(order_id, StockRow::loaded(row));
    }

    #[cfg(test)]
    pub fn item(&self, sku: Sku) -> Option<&StockItem> {
        self.items.get(&sku).and_then(|entry| entry.row.as_ref())
    }

    /// Rows to save, sorted by key so that neighbours in the database are written together.
    pub fn changes(&self) -> StockChanges<'_> {
        let mut items: Vec<_> = changed_rows(self.items.values()).collect();
        items.sort_unstable_by_key(|(item, _)| item.sku);
        let mut reservations: Vec<_> = changed_rows(self.orders.values()).collect();
        reservations.sort_unstable_by_key(|(reservation, _)| reservation.order_id);
        StockChanges { items, reservations, movements: &self.movements }
    }

    /// Creates new SKUs. Existing ones stay unchanged.
    pub fn list_skus(&mut self, listed: &SkusListed, at: Timestamp) {
        for listed_sku in &listed.skus {
            let entry = self.items.entry(listed_sku.sku).or_insert(StockRow::loaded(None));
            if entry.row.is_none() {
                let (item, first) =
                    StockItem::listed(listed_sku.sku, listed.product_id, listed.store_id, listed.policy, listed_sku.stock.max(0), at);
                entry.row = Some(item);
                entry.is_changed = true;
                self.movements.push(first);
            }
        }
    }

    /// Sets the units on hand. `None`: the SKU is unknown.
    pub fn set(&mut self, sku: Sku, on_hand: i64, at: Timestamp) -> Option<Result<StockItem, Refusal>> {
        let entry = self.items.get_mut(&sku)?;
        let item = entry.row.as_mut()?;
        Some(item.set(on_hand, at).map(|movement| {
            entry.is_changed |= movement.is_some();
            self.movements.extend(movement);
            *item
        }))
    }

    /// Adds `delta` to the units on hand. `None`: the SKU is unknown.
    pub fn adjust(&mut self, sku: Sku, delta: i64, reason: &str, at: Timestamp) -> Option<Result<StockItem, Refusal>> {
        let entry = self.items.get_mut(&sku)?;
        let item = entry.row.as_mut()?;
        Some(item.adjust(delta, reason, at).map(|movement| {
            entry.is_changed = true;
            self.movements.push(movement);
            *item
        }))
    }

    /// Holds all lines of an order, or none. Lines to check only must be available, but are not held.
    pub fn reserve(&mut self, request: &StockReserve) -> Result<Result<(), Refusal>, NotLoaded> {
        self.run_step(StockStep::Reserve, request.order_id, &request.reserve, &request.check_only, request.expires_at)
    }

    /// Holds the check-only lines right before payment, all or none.
    pub fn take(&mut self, request: &StockTake) -> Result<Result<(), Refusal>, NotLoaded> {
        self.run_step(StockStep::Take, request.order_id, &request.lines, &[], request.expires_at)
    }

    /// Sells everything that a paid order holds.
    pub fn commit(&mut self, order_id: OrderId, at: Timestamp) -> Result<CommitOutcome, NotLoaded> {
        let Some(entry) = self.orders.get_mut(&order_id) else { return Ok(CommitOutcome::NothingHeld(None)) };
        let Some(reservation) = entry.row.as_mut() else { return Ok(CommitOutcome::NothingHeld(None)) };
        match reservation.state {
            ReservationState::Held => {}
            ReservationState::Committed => return Ok(CommitOutcome::AlreadyCommitted),
            other => return Ok(CommitOutcome::NothingHeld(Some(other))),
        }
        for line in reservation.lines.iter_mut().filter(|line| line.state == LineState::Active) {
            let item = item_mut(&mut self.items, line.sku)?;
            self.movements.push(item.sell(line.quantity, order_id, line.line_no, at));
            line.state = LineState::Committed;
        }
        reservation.state = ReservationState::Committed;
        entry.is_changed = true;
        Ok(CommitOutcome::Committed)
    }

    /// Undoes an order: releases its holds, or returns its sold units. An unknown order gets a tombstone.
    pub fn release(&mut self, order_id: OrderId, at: Timestamp) -> Result<(), NotLoaded> {
        let entry = self.orders.entry(order_id).or_insert(StockRow::loaded(None));
        let Some(reservation) = entry.row.as_mut() else {
            entry.row = Some(Reservation::tombstone(order_id));
            entry.is_changed = true;
            return Ok(());
        };
        match reservation.state {
            ReservationState::Held => {
                for line in reservation.lines.iter_mut().filter(|line| line.state == LineState::Active) {
                    item_mut(&mut self.items, line.sku)?.unhold(line.quantity);
                    line.state = LineState::Released;
                }
                reservation.state = ReservationState::Released;
                entry.is_changed = true;
            }
            ReservationState::Committed => {
                for line in reservation.lines.iter().filter(|line| line.state == LineState::Committed) {
                    let item = item_mut(&mut self.items, line.sku)?;
                    self.movements.push(item.return_sold(line.quantity, order_id, line.line_no, at));
                }
                reservation.state = ReservationState::Returned;
                entry.is_changed = true;
            }
            ReservationState::Released | ReservationState::Returned | ReservationState::Refused | ReservationState::Tombstone => {}
        }
        Ok(())
    }

    fn run_step(
        &mut self,
        step: StockStep,
        order_id: OrderId,
        hold: &[StockLine],
        check: &[StockLine],
        expires_at: Timestamp,
    ) -> Result<Result<(), Refusal>, NotLoaded> {
        let entry = self.orders.entry(order_id).or_insert(StockRow::loaded(None));
        if let Some(known) = entry.row.as_ref().and_then(|reservation| reservation.known_outcome(step)) {
            return Ok(known);
        }
        let shortages = find_shortages(&self.items, hold, check);
        let mut held = Vec::new();
        let outcome = if shortages.is_empty() {
            held.reserve_exact(hold.len());
            for line in hold {
                let quantity = i64::from(line.quantity);
                item_mut(&mut self.items, line.sku)?.hold(quantity);
                held.push(ReservationLine { line_no: line.line_no, sku: line.sku, quantity, state: LineState::Active, stored: None });
            }
            Ok(())
        } else {
            Err(Refusal::new(Code::OutOfStock, describe(&shortages)))
        };
        let reservation = entry.row.get_or_insert_with(|| Reservation::started(order_id, &outcome));
        reservation.lines.append(&mut held);
        reservation.record(step, outcome.clone(), expires_at);
        entry.is_changed = true;
        Ok(outcome)
    }
}

fn changed_rows<'s, T: 's>(rows: impl Iterator<Item = &'s StockRow<T>>) -> impl Iterator<Item = (&'s T, bool)> {
    rows.filter(|entry| entry.is_changed).filter_map(|entry| Some((entry.row.as_ref()?, !entry.is_stored)))
}

fn item_mut(items: &mut HashMap<Sku, StockRow<StockItem>>, sku: Sku) -> Result<&mut StockItem, NotLoaded> {
    let entry = items.get_mut(&sku).ok_or(NotLoaded(sku))?;
    entry.is_changed = true;
    entry.row.as_mut().ok_or(NotLoaded(sku))
}

/// Finds the lines that request for too many units. Lines of the same SKU add up. An unknown SKU has none.
fn find_shortages(items: &HashMap<Sku, StockRow<StockItem>>, hold: &[StockLine], check: &[StockLine]) -> Vec<Shortage> {
    let mut wanted: Vec<(Sku, i64)> = Vec::with_capacity(hold.len() + check.len());
    let mut shortages = Vec::new();
    for line in hold.iter().chain(check) {
        let available = items.get(&line.sku).and_then(|entry| entry.row.as_ref()).map_or(0, StockItem::available);
        let before: i64 = wanted.iter().filter(|(sku, _)| *sku == line.sku).map(|(_, quantity)| quantity).sum();
        let left = (available - before).max(0);
        // A line with quantity 0 is refused, because it would pass for an unknown SKU as well.
        if line.quantity == 0 || i64::from(line.quantity) > left {
            shortages.push(Shortage { line_no: line.line_no, wanted: line.quantity, left });
        }
        wanted.push((line.sku, i64::from(line.quantity)));
    }
    shortages
}

fn describe(shortages: &[Shortage]) -> String {
    let mut text = String::from("Not enough in stock: ");
    for (index, Shortage { line_no, wanted, left }) in shortages.iter().take(NAMED_LINES).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}line {line_no} ({wanted} wanted, {left} left)");
    }
    if shortages.len() > NAMED_LINES {
        let _ = write!(text, " and {} more lines", shortages.len() - NAMED_LINES);
    }
    text
}
