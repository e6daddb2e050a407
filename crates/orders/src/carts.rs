//! The carts a transaction works on: each is loaded once, changed in memory and written once.

use crate::{
    model::{Cart, Checkout, State},
    store::cart as store,
};
use contracts::{MemberId, Refusal, Sku};
use kit::{Answer, Outcome, Work, engine::Fault};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// What a cart holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartView {
    /// Give it as `cart_version` with an order from the cart: then two orders of one version cannot both be made.
    pub version: i64,
    pub items: Vec<CartItemView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CartItemView {
    pub sku: Sku,
    pub quantity: u32,
}

impl From<&Cart> for CartView {
    fn from(cart: &Cart) -> Self {
        let items = cart.items.iter().map(|(sku, quantity)| CartItemView { sku: *sku, quantity: *quantity });
        CartView { version: cart.version, items: items.collect() }
    }
}

#[derive(Default)]
pub struct Carts(BTreeMap<MemberId, Loaded>);

struct Loaded {
    stored: Cart,
    cart: Cart,
}

impl Carts {
    /// A cart that was loaded. A member without one has an empty one.
    pub fn of(&mut self, member_id: MemberId) -> &mut Cart {
        &mut self.0.entry(member_id).or_insert_with(|| Loaded { stored: Cart::default(), cart: Cart::default() }).cart
    }
}

/// Makes sure these carts are in memory.
pub async fn load(work: &mut Work, members: impl Iterator<Item = MemberId>) -> Result<(), Fault> {
    let members: BTreeSet<MemberId> = members.collect();
    for member_id in members {
        if work.stash::<Carts>().0.contains_key(&member_id) {
            continue;
        }
        let stored = store::cart_for_update(&mut work.tx, member_id).await?.unwrap_or_default();
        work.stash::<Carts>().0.insert(member_id, Loaded { cart: stored.clone(), stored });
    }
    Ok(())
}

/// A member's wish about their own cart.
pub trait Change {
    fn member_id(&self) -> MemberId;
    fn apply(&self, cart: &mut Cart) -> Result<(), Refusal>;
}

/// Settles changes in the order they came; each is answered with the cart as it left it.
pub async fn change<C: Change>(work: &mut Work, changes: &[&C]) -> Result<Vec<Outcome>, Fault> {
    load(work, changes.iter().map(|change| change.member_id())).await?;
    let carts = work.stash::<Carts>();
    changes
        .iter()
        .map(|change| {
            let cart = carts.of(change.member_id());
            Ok(match change.apply(cart) {
                Ok(()) => Answer::json(200, &CartView::from(&*cart))?.into(),
                Err(refusal) => refusal.into(),
            })
        })
        .collect()
}

/// Takes what this transaction sold out of its buyers' carts, and writes the carts that changed.
pub async fn flush(work: &mut Work, changed: &[&Checkout]) -> Result<(), Fault> {
    let sold = || {
        let from_cart = changed.iter().filter(|checkout| checkout.order.from_cart);
        from_cart.filter(|checkout| checkout.events.iter().any(|event| event.to == State::Paid))
    };
    load(work, sold().map(|checkout| checkout.order.member_id)).await?;
    for checkout in sold() {
        work.stash::<Carts>().of(checkout.order.member_id).bought(&checkout.lines);
    }
    let carts: Box<Carts> = work.take_stash();
    for (member_id, loaded) in carts.0.iter().filter(|(_, loaded)| loaded.cart != loaded.stored) {
        store::save_cart(&mut work.tx, *member_id, &loaded.stored, &loaded.cart).await?;
    }
    work.put_stash(carts);
    Ok(())
}
