//! Carts of the current transaction: each is loaded once, changed in memory and written once.

use super::LoadedOrders;
use crate::{
    model::{Cart, Checkout, OrderState},
    store::cart as store,
    view::CartView,
};
use contracts::{MemberId, Refusal};
use kit::{Answer, DbError, Outcome, Tx, Work, engine::Fault};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct LoadedCarts(BTreeMap<MemberId, LoadedCart>);

struct LoadedCart {
    stored: Cart,
    cart: Cart,
}

impl LoadedCarts {
    /// The member's cart. Empty when the member has none.
    pub fn cart_mut(&mut self, member_id: MemberId) -> &mut Cart {
        &mut self.0.entry(member_id).or_insert_with(|| LoadedCart { stored: Cart::default(), cart: Cart::default() }).cart
    }

    /// Loads and locks the carts of these members that are not in memory yet.
    pub async fn load(&mut self, tx: &mut Tx, members: impl Iterator<Item = MemberId>) -> Result<(), DbError> {
        let members: BTreeSet<MemberId> = members.collect();
        for member_id in members {
            if self.0.contains_key(&member_id) {
                continue;
            }
            let stored = store::cart_for_update(tx, member_id).await?.unwrap_or_default();
            self.0.insert(member_id, LoadedCart { cart: stored.clone(), stored });
        }
        Ok(())
    }

    /// Removes the lines sold by this transaction from their buyers' carts, and writes the changed carts.
    pub async fn save(&mut self, tx: &mut Tx, changed: &[&Checkout]) -> Result<(), DbError> {
        let sold = || {
            let from_cart = changed.iter().filter(|checkout| checkout.order.from_cart);
            from_cart.filter(|checkout| checkout.events.iter().any(|event| event.to == OrderState::Paid))
        };
        self.load(tx, sold().map(|checkout| checkout.order.member_id)).await?;
        for checkout in sold() {
            self.cart_mut(checkout.order.member_id).remove_bought(&checkout.lines);
        }
        for (member_id, loaded) in self.0.iter().filter(|(_, loaded)| loaded.cart != loaded.stored) {
            store::save_cart(tx, *member_id, &loaded.stored, &loaded.cart).await?;
        }
        Ok(())
    }
}

/// A change of a member's own cart.
pub trait CartChange {
    fn member_id(&self) -> MemberId;
    fn apply(&self, cart: &mut Cart) -> Result<(), Refusal>;
}

/// Applies the changes in arrival order. Each is answered with the cart right after it.
pub async fn apply_changes<C: CartChange>(work: &mut Work, changes: &[&C]) -> Result<Vec<Outcome>, Fault> {
    let (tx, LoadedOrders { carts, .. }) = work.rows::<LoadedOrders>();
    carts.load(tx, changes.iter().map(|change| change.member_id())).await?;
    changes
        .iter()
        .map(|change| {
            let cart = carts.cart_mut(change.member_id());
            Ok(match change.apply(cart) {
                Ok(()) => Answer::json(200, &CartView::from(&*cart))?.into(),
                Err(refusal) => refusal.into(),
            })
        })
        .collect()
}
