use super::{Item, Line, LineState, Movement, Reservation, State, Step, reservation::Ask};
use contracts::{
    Code, Message, OrderId, Refusal, Sku, Timestamp,
    messages::{SkusListed, StepDone, StepRefused, StockLine, StockReserve, StockTake},
};
use std::{collections::HashMap, fmt::Write};

/// Short lines a refusal names; the rest is only counted, so that the text stays short.
const NAMED_LINES: usize = 5;

/// The rows a transaction works on: loaded once, changed in memory by any number of commands and messages, saved once.
#[derive(Debug, Default)]
pub struct Book {
    items: HashMap<Sku, Kept<Item>>,
    orders: HashMap<OrderId, Kept<Reservation>>,
    movements: Vec<Movement>,
}

/// A row in memory, whether the database has it, and whether it differs from there.
#[derive(Debug)]
struct Kept<T> {
    row: Option<T>,
    stored: bool,
    changed: bool,
}

impl<T> Kept<T> {
    fn loaded(row: Option<T>) -> Self {
        Self { stored: row.is_some(), row, changed: false }
    }
}

/// A decision needed a row that was not loaded before it: a mistake in the code around the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLoaded(pub Sku);

/// What a commit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Now,
    Before,
    /// The order has nothing to sell, because it is in this state.
    NothingHeld(Option<State>),
}

/// A line that cannot be had.
struct Short {
    line_no: u32,
    wanted: u32,
    left: i64,
}

/// Rows to save: each is new (`true`) or known to the database.
pub struct Changes<'b> {
    pub items: Vec<(&'b Item, bool)>,
    pub reservations: Vec<(&'b Reservation, bool)>,
    pub movements: &'b [Movement],
}

impl Book {
    /// Of `skus`, those to load: sorted, so that every transaction locks rows in the same order.
    pub fn unknown_items(&self, mut skus: Vec<Sku>) -> Vec<Sku> {
        skus.retain(|sku| !self.items.contains_key(sku));
        skus.sort_unstable();
        skus.dedup();
        skus
    }

    /// Of `orders`, those to load: sorted, as above.
    pub fn unknown_orders(&self, mut orders: Vec<OrderId>) -> Vec<OrderId> {
        orders.retain(|order_id| !self.orders.contains_key(order_id));
        orders.sort_unstable();
        orders.dedup();
        orders
    }

    pub fn put_item(&mut self, sku: Sku, row: Option<Item>) {
        self.items.insert(sku, Kept::loaded(row));
    }

    pub fn put_order(&mut self, order_id: OrderId, row: Option<Reservation>) {
        self.orders.insert(order_id, Kept::loaded(row));
    }

    #[cfg(test)]
    pub fn item(&self, sku: Sku) -> Option<&Item> {
        self.items.get(&sku).and_then(|kept| kept.row.as_ref())
    }

    /// What is to be saved, by key: neighbours in the database are written one after the other.
    pub fn changes(&self) -> Changes<'_> {
        let mut items: Vec<_> = changed(self.items.values()).collect();
        items.sort_unstable_by_key(|(item, _)| item.sku);
        let mut reservations: Vec<_> = changed(self.orders.values()).collect();
        reservations.sort_unstable_by_key(|(reservation, _)| reservation.order_id);
        Changes { items, reservations, movements: &self.movements }
    }

    /// New SKUs; those that exist stay as they are.
    pub fn list(&mut self, listed: &SkusListed, at: Timestamp) {
        for entry in &listed.skus {
            let kept = self.items.entry(entry.sku).or_insert(Kept { row: None, stored: false, changed: false });
            if kept.row.is_none() {
                let (item, first) = Item::listed(entry.sku, listed.product_id, listed.store_id, listed.policy, entry.stock.max(0), at);
                kept.row = Some(item);
                kept.changed = true;
                self.movements.push(first);
            }
        }
    }

    /// Sets what is on hand. `None` for an unknown SKU.
    pub fn set(&mut self, sku: Sku, on_hand: i64, at: Timestamp) -> Option<Result<Item, Refusal>> {
        let kept = self.items.get_mut(&sku)?;
        let item = kept.row.as_mut()?;
        Some(item.set(on_hand, at).map(|movement| {
            kept.changed |= movement.is_some();
            self.movements.extend(movement);
            *item
        }))
    }

    /// Adds to, or takes from, what is on hand. `None` for an unknown SKU.
    pub fn adjust(&mut self, sku: Sku, delta: i64, reason: &str, at: Timestamp) -> Option<Result<Item, Refusal>> {
        let kept = self.items.get_mut(&sku)?;
        let item = kept.row.as_mut()?;
        Some(item.adjust(delta, reason, at).map(|movement| {
            kept.changed = true;
            self.movements.push(movement);
            *item
        }))
    }

    /// Holds all lines of an order (and finds the check-only ones available), or none.
    pub fn reserve(&mut self, ask: &StockReserve) -> Result<Message, NotLoaded> {
        let order_id = ask.order_id;
        Ok(match self.step(Ask::Reserve, order_id, &ask.reserve, &ask.check_only, ask.expires_at)? {
            Step::Done => Message::StockReserved(StepDone { order_id }),
            Step::Refused(Refusal { code, detail }) => Message::StockRefused(StepRefused { order_id, code, detail }),
        })
    }

    /// Holds, right before payment, the lines that were only looked at before: all or none.
    pub fn take(&mut self, ask: &StockTake) -> Result<Message, NotLoaded> {
        let order_id = ask.order_id;
        Ok(match self.step(Ask::Take, order_id, &ask.lines, &[], ask.expires_at)? {
            Step::Done => Message::StockTaken(StepDone { order_id }),
            Step::Refused(Refusal { code, detail }) => Message::StockTakeRefused(StepRefused { order_id, code, detail }),
        })
    }

    /// The order is paid: everything it holds is sold.
    pub fn commit(&mut self, order_id: OrderId, at: Timestamp) -> Result<Committed, NotLoaded> {
        let Some(kept) = self.orders.get_mut(&order_id) else { return Ok(Committed::NothingHeld(None)) };
        let Some(reservation) = kept.row.as_mut() else { return Ok(Committed::NothingHeld(None)) };
        match reservation.state {
            State::Held => {}
            State::Committed => return Ok(Committed::Before),
            other => return Ok(Committed::NothingHeld(Some(other))),
        }
        for line in reservation.lines.iter_mut().filter(|line| line.state == LineState::Active) {
            let item = to_change(&mut self.items, line.sku)?;
            self.movements.push(item.sell(line.quantity, order_id, line.line_no, at));
            line.state = LineState::Committed;
        }
        reservation.state = State::Committed;
        kept.changed = true;
        Ok(Committed::Now)
    }

    /// The order is undone: what it holds is free again, what it bought comes back. Without anything before it, this leaves a tombstone.
    pub fn release(&mut self, order_id: OrderId, at: Timestamp) -> Result<Message, NotLoaded> {
        let kept = self.orders.entry(order_id).or_insert(Kept { row: None, stored: false, changed: false });
        let Some(reservation) = kept.row.as_mut() else {
            kept.row = Some(Reservation::tombstone(order_id));
            kept.changed = true;
            return Ok(Message::StockReleased(StepDone { order_id }));
        };
        match reservation.state {
            State::Held => {
                for line in reservation.lines.iter_mut().filter(|line| line.state == LineState::Active) {
                    to_change(&mut self.items, line.sku)?.let_go(line.quantity);
                    line.state = LineState::Released;
                }
                reservation.state = State::Released;
                kept.changed = true;
            }
            State::Committed => {
                for line in reservation.lines.iter().filter(|line| line.state == LineState::Committed) {
                    let item = to_change(&mut self.items, line.sku)?;
                    self.movements.push(item.take_back(line.quantity, order_id, line.line_no, at));
                }
                reservation.state = State::Returned;
                kept.changed = true;
            }
            State::Released | State::Returned | State::Refused | State::Tombstone => {}
        }
        Ok(Message::StockReleased(StepDone { order_id }))
    }

    fn step(
        &mut self,
        ask: Ask,
        order_id: OrderId,
        hold: &[StockLine],
        check: &[StockLine],
        expires_at: Timestamp,
    ) -> Result<Step, NotLoaded> {
        let kept = self.orders.entry(order_id).or_insert(Kept { row: None, stored: false, changed: false });
        if let Some(settled) = kept.row.as_ref().and_then(|reservation| reservation.settled(ask)) {
            return Ok(settled);
        }
        let short = short_lines(&self.items, hold, check);
        let mut held = Vec::new();
        let step = if short.is_empty() {
            held.reserve_exact(hold.len());
            for line in hold {
                let quantity = i64::from(line.quantity);
                to_change(&mut self.items, line.sku)?.hold(quantity);
                held.push(Line { line_no: line.line_no, sku: line.sku, quantity, state: LineState::Active, stored: None });
            }
            Step::Done
        } else {
            Step::Refused(Refusal::new(Code::OutOfStock, describe(&short)))
        };
        let reservation = kept.row.get_or_insert_with(|| Reservation::begun(order_id, &step));
        reservation.lines.append(&mut held);
        reservation.record(ask, step.clone(), expires_at);
        kept.changed = true;
        Ok(step)
    }
}

fn changed<'b, T: 'b>(rows: impl Iterator<Item = &'b Kept<T>>) -> impl Iterator<Item = (&'b T, bool)> {
    rows.filter(|kept| kept.changed).filter_map(|kept| Some((kept.row.as_ref()?, !kept.stored)))
}

fn to_change(items: &mut HashMap<Sku, Kept<Item>>, sku: Sku) -> Result<&mut Item, NotLoaded> {
    let kept = items.get_mut(&sku).ok_or(NotLoaded(sku))?;
    kept.changed = true;
    kept.row.as_mut().ok_or(NotLoaded(sku))
}

/// The lines that cannot be had. Lines of the same SKU add up. An unknown SKU has nothing left.
fn short_lines(items: &HashMap<Sku, Kept<Item>>, hold: &[StockLine], check: &[StockLine]) -> Vec<Short> {
    let mut wanted: Vec<(Sku, i64)> = Vec::with_capacity(hold.len() + check.len());
    let mut short = Vec::new();
    for line in hold.iter().chain(check) {
        let available = items.get(&line.sku).and_then(|kept| kept.row.as_ref()).map_or(0, Item::available);
        let before: i64 = wanted.iter().filter(|(sku, _)| *sku == line.sku).map(|(_, quantity)| quantity).sum();
        let left = (available - before).max(0);
        // A line of nothing is never served: it would pass without the SKU even existing.
        if line.quantity == 0 || i64::from(line.quantity) > left {
            short.push(Short { line_no: line.line_no, wanted: line.quantity, left });
        }
        wanted.push((line.sku, i64::from(line.quantity)));
    }
    short
}

fn describe(short: &[Short]) -> String {
    let mut text = String::from("Not enough in stock: ");
    for (index, Short { line_no, wanted, left }) in short.iter().take(NAMED_LINES).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}line {line_no} ({wanted} wanted, {left} left)");
    }
    if short.len() > NAMED_LINES {
        let _ = write!(text, " and {} more lines", short.len() - NAMED_LINES);
    }
    text
}
