//! The stock rows of a transaction: loaded once, changed by any number of commands and messages, saved once.

use super::{LineState, Movement, Reservation, ReservationLine, ReservationState, StockItem, reservation::StockStep};
use contracts::{
    Code, OrderId, Refusal, Sku, Timestamp,
    messages::{SkusListed, StockLine, StockReserve, StockTake},
};
use kit::rows::Rows;
use std::{fmt::Write, ops::DerefMut};

/// Most lines named by a refusal. The others are counted, to keep the text short.
const NAMED_LINES: usize = 5;

/// The items and reservations that a transaction has loaded, and its unsaved movements.
#[derive(Debug, Default)]
pub struct LoadedStock {
    pub items: Rows<Sku, StockItem>,
    pub orders: Rows<OrderId, Reservation>,
    pub movements: Vec<Movement>,
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

impl LoadedStock {
    /// Creates new SKUs. Existing ones stay unchanged.
    pub fn list_skus(&mut self, listed: &SkusListed, at: Timestamp) {
        for listed_sku in &listed.skus {
            if self.items.get(listed_sku.sku).is_none() {
                let (item, first) =
                    StockItem::listed(listed_sku.sku, listed.product_id, listed.store_id, listed.policy, listed_sku.stock.max(0), at);
                self.items.put(listed_sku.sku, item);
                self.movements.push(first);
            }
        }
    }

    /// Sets the units on hand, if `seen` is still right. `None`: the SKU is unknown.
    pub fn set(&mut self, sku: Sku, on_hand: i64, seen: Option<i64>, at: Timestamp) -> Option<Result<StockItem, Refusal>> {
        self.change_item(sku, |item| item.set(on_hand, seen, at))
    }

    /// Adds `delta` to the units on hand. `None`: the SKU is unknown.
    pub fn adjust(&mut self, sku: Sku, delta: i64, reason: &str, at: Timestamp) -> Option<Result<StockItem, Refusal>> {
        self.change_item(sku, |item| item.adjust(delta, reason, at).map(Some))
    }

    /// Keeps the changed item only with its movement, so that an item without one is not saved.
    fn change_item(
        &mut self,
        sku: Sku,
        change: impl FnOnce(&mut StockItem) -> Result<Option<Movement>, Refusal>,
    ) -> Option<Result<StockItem, Refusal>> {
        let mut item = *self.items.get(sku)?;
        Some(change(&mut item).map(|movement| {
            if let Some(movement) = movement {
                self.items.put(sku, item);
                self.movements.push(movement);
            }
            item
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
        let Some(reservation) = self.orders.get_mut(order_id) else { return Ok(CommitOutcome::NothingHeld(None)) };
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
        Ok(CommitOutcome::Committed)
    }

    /// Undoes an order: releases its holds, or returns its sold units. An unknown order gets a tombstone.
    pub fn release(&mut self, order_id: OrderId, at: Timestamp) -> Result<(), NotLoaded> {
        let Some(reservation) = self.orders.get_mut(order_id) else {
            self.orders.put(order_id, Reservation::tombstone(order_id));
            return Ok(());
        };
        match reservation.state {
            ReservationState::Held => {
                for line in reservation.lines.iter_mut().filter(|line| line.state == LineState::Active) {
                    item_mut(&mut self.items, line.sku)?.unhold(line.quantity);
                    line.state = LineState::Released;
                }
                reservation.state = ReservationState::Released;
            }
            ReservationState::Committed => {
                for line in reservation.lines.iter().filter(|line| line.state == LineState::Committed) {
                    let item = item_mut(&mut self.items, line.sku)?;
                    self.movements.push(item.return_sold(line.quantity, order_id, line.line_no, at));
                }
                reservation.state = ReservationState::Returned;
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
        if let Some(known) = self.orders.get(order_id).and_then(|reservation| reservation.known_outcome(step)) {
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
        let reservation = self.orders.get_or_add(order_id, || Reservation::started(order_id, &outcome));
        reservation.lines.append(&mut held);
        reservation.record(step, outcome.clone(), expires_at);
        Ok(outcome)
    }
}

fn item_mut(items: &mut Rows<Sku, StockItem>, sku: Sku) -> Result<&mut StockItem, NotLoaded> {
    items.get_mut(sku).map(DerefMut::deref_mut).ok_or(NotLoaded(sku))
}

/// Finds the lines that request for too many units. Lines of the same SKU add up. An unknown SKU has none.
fn find_shortages(items: &Rows<Sku, StockItem>, hold: &[StockLine], check: &[StockLine]) -> Vec<Shortage> {
    let mut wanted: Vec<(Sku, i64)> = Vec::with_capacity(hold.len() + check.len());
    let mut shortages = Vec::new();
    for line in hold.iter().chain(check) {
        let available = items.get(line.sku).map_or(0, StockItem::available);
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
