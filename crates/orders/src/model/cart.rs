//! A member's cart: the items they intend to buy. It reserves no stock and stores no prices.

use super::{MAX_LINES, OrderLine};
use contracts::{Code, Refusal, Sku};
use std::collections::BTreeMap;

/// Maximum units of one line, in a cart and in an order.
pub const MAX_QUANTITY: u32 = 1_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cart {
    /// Counts changes and orders of the cart. A request with the current version shows that the buyer saw the current items. 0: unused.
    pub version: i64,
    pub items: BTreeMap<Sku, u32>,
}

impl Cart {
    /// Sets the quantity of an item. Zero removes it.
    pub fn set(&mut self, sku: Sku, quantity: u32) -> Result<(), Refusal> {
        if self.items.get(&sku).copied().unwrap_or(0) == quantity {
            return Ok(());
        }
        if quantity == 0 {
            self.items.remove(&sku);
        } else if quantity > MAX_QUANTITY {
            return Err(Refusal::new(Code::InvalidField, format!("At most {MAX_QUANTITY} of one thing can be in a cart.")));
        } else if !self.items.contains_key(&sku) && self.items.len() >= MAX_LINES {
            return Err(Refusal::new(Code::OrderTooLarge, format!("At most {MAX_LINES} different things can be in a cart.")));
        } else {
            self.items.insert(sku, quantity);
        }
        self.version += 1;
        Ok(())
    }

    /// Adds to the quantity of an item.
    pub fn add(&mut self, sku: Sku, quantity: u32) -> Result<(), Refusal> {
        let present = self.items.get(&sku).copied().unwrap_or(0);
        self.set(sku, present.saturating_add(quantity))
    }

    /// Removes all items.
    pub fn clear(&mut self) {
        if !self.items.is_empty() {
            self.items.clear();
            self.version += 1;
        }
    }

    /// Marks this version of the cart as ordered, so that a second order of it is refused. The items stay until the order is paid.
    pub fn mark_ordered(&mut self, version: i64) -> Result<(), Refusal> {
        if self.version != version {
            return Err(Code::CartChanged.into());
        }
        self.version += 1;
        Ok(())
    }

    /// Removes the bought quantities. Quantities added since the order stay.
    pub fn remove_bought(&mut self, lines: &[OrderLine]) {
        for line in lines {
            let Some(present) = self.items.get_mut(&line.sku) else { continue };
            *present = present.saturating_sub(line.quantity);
            if *present == 0 {
                self.items.remove(&line.sku);
            }
            self.version += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{ProductId, StoreId, Won, messages::StockPolicy};
    use uuid::Uuid;

    fn sku(n: u128) -> Sku {
        Sku(Uuid::from_u128(n))
    }

    fn line(n: u128, quantity: u32) -> OrderLine {
        OrderLine {
            line_no: 1,
            sku: sku(n),
            product_id: ProductId(Uuid::from_u128(n)),
            store_id: StoreId(Uuid::from_u128(1)),
            name: "thing".into(),
            quantity,
            unit_price: Won(1),
            line_discount: Won::ZERO,
            policy: StockPolicy::ReserveOnOrder,
        }
    }

    // K2
    #[test]
    fn adding_sums_up_and_zero_removes() {
        let mut cart = Cart::default();
        cart.add(sku(1), 2).expect("it fits");
        cart.add(sku(1), 3).expect("it fits");
        assert_eq!((cart.version, cart.items.get(&sku(1))), (2, Some(&5)));
        cart.set(sku(1), 0).expect("removed");
        cart.set(sku(1), 0).expect("already removed");
        assert_eq!((cart.version, cart.items.len()), (3, 0));
    }

    #[test]
    fn a_full_cart_refuses_more_and_stays_unchanged() {
        let mut cart = Cart::default();
        for n in 0..MAX_LINES as u128 {
            cart.set(sku(n), 1).expect("it fits");
        }
        let full = cart.clone();
        assert_eq!(cart.set(sku(9_999), 1).expect_err("one too many").code, Code::OrderTooLarge);
        assert_eq!(cart.add(sku(0), MAX_QUANTITY).expect_err("too many of one").code, Code::InvalidField);
        assert_eq!(cart.add(sku(0), u32::MAX).expect_err("too many of one").code, Code::InvalidField);
        assert_eq!(cart, full);
    }

    // K4, row 61
    #[test]
    fn one_version_is_ordered_once_and_only_bought_items_leave() {
        let mut cart = Cart::default();
        cart.set(sku(1), 2).expect("it fits");
        cart.set(sku(2), 1).expect("it fits");
        cart.mark_ordered(2).expect("the version is current");
        assert_eq!(cart.mark_ordered(2).expect_err("already ordered").code, Code::CartChanged);
        cart.add(sku(1), 1).expect("it fits");
        cart.remove_bought(&[line(1, 2), line(2, 1), line(3, 7)]);
        assert_eq!(cart.items, BTreeMap::from([(sku(1), 1)]));
    }
}
