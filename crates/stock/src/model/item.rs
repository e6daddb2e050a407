//! The quantities of a SKU, and their movements.

use contracts::{Code, OrderId, ProductId, Refusal, Sku, StoreId, Timestamp, messages::StockPolicy};

/// Most units of one SKU: more than any warehouse has, and far below the limit of 64 bits.
pub const MAX_ON_HAND: i64 = 1_000_000_000;

/// The quantities of one SKU. `0 <= reserved <= on_hand` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockItem {
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub policy: StockPolicy,
    pub on_hand: i64,
    /// Units held by unpaid orders.
    pub reserved: i64,
    /// Units sold and not returned.
    pub sold: i64,
    /// Number of the last movement.
    pub moves: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovementKind {
    Initial,
    Set,
    Adjust,
    Sale,
    Return,
}

impl MovementKind {
    pub fn as_str(self) -> &'static str {
        match self {
            MovementKind::Initial => "INITIAL",
            MovementKind::Set => "SET",
            MovementKind::Adjust => "ADJUST",
            MovementKind::Sale => "SALE",
            MovementKind::Return => "RETURN",
        }
    }
}

/// One change of `on_hand`, which is the sum of the SKU's movements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    pub sku: Sku,
    pub n: i64,
    pub kind: MovementKind,
    pub quantity: i64,
    /// The order line that was sold or returned.
    pub cause: Option<(OrderId, u32)>,
    pub reason: Option<String>,
    pub at: Timestamp,
}

impl StockItem {
    /// Creates a SKU with its first movement.
    pub fn listed(
        sku: Sku,
        product_id: ProductId,
        store_id: StoreId,
        policy: StockPolicy,
        on_hand: i64,
        at: Timestamp,
    ) -> (StockItem, Movement) {
        let mut item = StockItem { sku, product_id, store_id, policy, on_hand: 0, reserved: 0, sold: 0, moves: 0 };
        let first = item.record_movement(MovementKind::Initial, on_hand, None, at);
        (item, first)
    }

    /// Units that can be ordered now.
    pub fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }

    /// Holds units for an order. The caller has compared them with [`StockItem::available`].
    pub(super) fn hold(&mut self, quantity: i64) {
        self.reserved += quantity;
    }

    /// Releases held units.
    pub(super) fn unhold(&mut self, quantity: i64) {
        self.reserved -= quantity;
    }

    /// Sells held units.
    pub(super) fn sell(&mut self, quantity: i64, order_id: OrderId, line_no: u32, at: Timestamp) -> Movement {
        self.reserved -= quantity;
        self.sold += quantity;
        self.record_movement(MovementKind::Sale, -quantity, Some((order_id, line_no)), at)
    }

    /// Returns sold units.
    pub(super) fn return_sold(&mut self, quantity: i64, order_id: OrderId, line_no: u32, at: Timestamp) -> Movement {
        self.sold -= quantity;
        self.record_movement(MovementKind::Return, quantity, Some((order_id, line_no)), at)
    }

    /// Sets the counted units, if `seen` is still right. `None`: the count equals the units on hand, so nothing moves.
    pub(super) fn set(&mut self, on_hand: i64, seen: Option<i64>, at: Timestamp) -> Result<Option<Movement>, Refusal> {
        if seen.is_some_and(|seen| seen != self.on_hand) {
            return Err(Refusal::new(Code::StockChanged, format!("{} units are on hand now", self.on_hand)));
        }
        self.check_on_hand(on_hand)?;
        if on_hand == self.on_hand {
            return Ok(None);
        }
        Ok(Some(self.record_movement(MovementKind::Set, on_hand - self.on_hand, None, at)))
    }

    /// Adds received units, or subtracts lost ones.
    pub(super) fn adjust(&mut self, delta: i64, reason: &str, at: Timestamp) -> Result<Movement, Refusal> {
        let on_hand = self.on_hand.checked_add(delta).ok_or(Code::AmountOutOfRange)?;
        self.check_on_hand(on_hand)?;
        let mut movement = self.record_movement(MovementKind::Adjust, delta, None, at);
        movement.reason = Some(reason.to_owned());
        Ok(movement)
    }

    fn check_on_hand(&self, on_hand: i64) -> Result<(), Refusal> {
        if on_hand < self.reserved {
            let detail = format!("{} units are held by orders; there cannot be {on_hand} on hand", self.reserved);
            return Err(Refusal::new(Code::StockBelowReserved, detail));
        }
        if on_hand > MAX_ON_HAND {
            return Err(Refusal::new(Code::AmountOutOfRange, format!("At most {MAX_ON_HAND} units can be on hand")));
        }
        Ok(())
    }

    fn record_movement(&mut self, kind: MovementKind, quantity: i64, cause: Option<(OrderId, u32)>, at: Timestamp) -> Movement {
        self.on_hand += quantity;
        self.moves += 1;
        Movement { sku: self.sku, n: self.moves, kind, quantity, cause, reason: None, at }
    }
}
