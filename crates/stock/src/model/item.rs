use contracts::{Code, OrderId, ProductId, Refusal, Sku, StoreId, Timestamp, messages::StockPolicy};

/// Most units of one SKU: more than any warehouse has, and thousands of additions away from 64 bits.
pub const MAX_ON_HAND: i64 = 1_000_000_000;

/// The quantities of one SKU. `0 <= reserved <= on_hand` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub policy: StockPolicy,
    pub on_hand: i64,
    /// Held by orders that are not paid yet.
    pub reserved: i64,
    /// Sold and not given back.
    pub sold: i64,
    /// The number of the last movement.
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

/// One change of `on_hand`. The sum of a SKU's movements is its `on_hand`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    pub sku: Sku,
    pub n: i64,
    pub kind: MovementKind,
    pub quantity: i64,
    /// The order line that bought it or gave it back.
    pub cause: Option<(OrderId, u32)>,
    pub reason: Option<String>,
    pub at: Timestamp,
}

impl Item {
    /// A SKU that came into being, and its first movement.
    pub fn listed(
        sku: Sku,
        product_id: ProductId,
        store_id: StoreId,
        policy: StockPolicy,
        on_hand: i64,
        at: Timestamp,
    ) -> (Item, Movement) {
        let mut item = Item { sku, product_id, store_id, policy, on_hand: 0, reserved: 0, sold: 0, moves: 0 };
        let first = item.moved(MovementKind::Initial, on_hand, None, at);
        (item, first)
    }

    /// What could be ordered now.
    pub fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }

    /// Holds units for an order. The caller has compared with [`Item::available`].
    pub(super) fn hold(&mut self, quantity: i64) {
        self.reserved += quantity;
    }

    /// The order does not want what it held.
    pub(super) fn let_go(&mut self, quantity: i64) {
        self.reserved -= quantity;
    }

    /// What the order held leaves the house.
    pub(super) fn sell(&mut self, quantity: i64, order_id: OrderId, line_no: u32, at: Timestamp) -> Movement {
        self.reserved -= quantity;
        self.sold += quantity;
        self.moved(MovementKind::Sale, -quantity, Some((order_id, line_no)), at)
    }

    /// What was sold comes back.
    pub(super) fn take_back(&mut self, quantity: i64, order_id: OrderId, line_no: u32, at: Timestamp) -> Movement {
        self.sold -= quantity;
        self.moved(MovementKind::Return, quantity, Some((order_id, line_no)), at)
    }

    /// The seller counted: there are `on_hand` units. Nothing moves when that is known already.
    pub(super) fn set(&mut self, on_hand: i64, at: Timestamp) -> Result<Option<Movement>, Refusal> {
        self.check(on_hand)?;
        if on_hand == self.on_hand {
            return Ok(None);
        }
        Ok(Some(self.moved(MovementKind::Set, on_hand - self.on_hand, None, at)))
    }

    /// Units came in or were lost.
    pub(super) fn adjust(&mut self, delta: i64, reason: &str, at: Timestamp) -> Result<Movement, Refusal> {
        let on_hand = self.on_hand.checked_add(delta).ok_or(Code::AmountOutOfRange)?;
        self.check(on_hand)?;
        let mut movement = self.moved(MovementKind::Adjust, delta, None, at);
        movement.reason = Some(reason.to_owned());
        Ok(movement)
    }

    fn check(&self, on_hand: i64) -> Result<(), Refusal> {
        if on_hand < self.reserved {
            let detail = format!("{} units are held by orders; there cannot be {on_hand} on hand", self.reserved);
            return Err(Refusal::new(Code::StockBelowReserved, detail));
        }
        if on_hand > MAX_ON_HAND {
            return Err(Refusal::new(Code::AmountOutOfRange, format!("At most {MAX_ON_HAND} units can be on hand")));
        }
        Ok(())
    }

    fn moved(&mut self, kind: MovementKind, quantity: i64, cause: Option<(OrderId, u32)>, at: Timestamp) -> Movement {
        self.on_hand += quantity;
        self.moves += 1;
        Movement { sku: self.sku, n: self.moves, kind, quantity, cause, reason: None, at }
    }
}
