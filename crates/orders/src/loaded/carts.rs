//! Carts of the current transaction: each is loaded once, changed in memory and written once.

use crate::{
    model::{Cart, Checkout, OrderState},
    store::cart as store,
    view::CartView,
};
use contracts::{MemberId, Refusal};
use kit::{Answer, Outcome, Work, engine::Fault};
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
}

/// Loads and locks the carts of these members that are not in memory yet.
pub async fn load(work: &mut Work, members: impl Iterator<Item = MemberId>) -> Result<(), Fault> {
    let members: BTreeSet<MemberId> = members.collect();
    for member_id in members {
        if work.stash::<LoadedCarts>().0.contains_key(&member_id) {
            continue;
        }
        let stored = store::cart_for_update(&mut work.tx, member_id).await?.unwrap_or_default();
        work.stash::<LoadedCarts>().0.insert(member_id, LoadedCart { cart: stored.clone(), stored });
    }
    Ok(())
}

/// A change of a member's own cart.
pub trait CartChange {
    fn member_id(&self) -> MemberId;
    fn apply(&self, cart: &mut Cart) -> Result<(), Refusal>;
}

/// Applies the changes in arrival order. Each is answered with the cart right after it.
pub async fn apply_changes<C: CartChange>(work: &mut Work, changes: &[&C]) -> Result<Vec<Outcome>, Fault> {
    load(work, changes.iter().map(|change| change.member_id())).await?;
    let carts = work.stash::<LoadedCarts>();
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

/// Removes the lines sold by this transaction from their buyers' carts, and writes the changed carts.
pub async fn flush(work: &mut Work, changed: &[&Checkout]) -> Result<(), Fault> {
    let sold = || {
        let from_cart = changed.iter().filter(|checkout| checkout.order.from_cart);
        from_cart.filter(|checkout| checkout.events.iter().any(|event| event.to == OrderState::Paid))
    };
    load(work, sold().map(|checkout| checkout.order.member_id)).await?;
    for checkout in sold() {
        work.stash::<LoadedCarts>().cart_mut(checkout.order.member_id).remove_bought(&checkout.lines);
    }
    let carts: Box<LoadedCarts> = work.take_stash();
    for (member_id, loaded) in carts.0.iter().filter(|(_, loaded)| loaded.cart != loaded.stored) {
        store::save_cart(&mut work.tx, *member_id, &loaded.stored, &loaded.cart).await?;
    }
    work.put_stash(carts);
    Ok(())
}
