//! `orders.remove_cart_item`: removes an item from the caller's cart. Any signed-in account.

use crate::{
    Orders,
    loaded::carts::{self, CartChange},
    model::Cart,
    view::CartView,
};
use axum::{extract::State, response::Response};
use contracts::{MemberId, Refusal, Sku};
use kit::{
    Command, Outcome, Work,
    engine::Fault,
    extract::SignedIn,
    http::{Empty, Input, Path, Problem, Trace},
};
use std::sync::Arc;

/// Removes an item from the caller's cart
#[utoipa::path(delete, path = "/v1/cart/items/{sku}", operation_id = "orders.remove_cart_item", tag = "cart",
    params(("sku" = Sku, Path, description = "The item")),
    responses((status = 200, description = "removed, or was not in the cart", body = CartView)), security(("bearer" = [])))]
pub async fn remove_cart_item(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Path(sku): Path<Sku>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run(&orders, RemoveCartItem { member_id: caller.member_id, sku }, key, trace).await
}

pub struct RemoveCartItem {
    member_id: MemberId,
    sku: Sku,
}

impl CartChange for RemoveCartItem {
    fn member_id(&self) -> MemberId {
        self.member_id
    }
    fn apply(&self, cart: &mut Cart) -> Result<(), Refusal> {
        cart.set(self.sku, 0)
    }
}

impl Command for RemoveCartItem {
    type Service = Orders;
    const OPERATION: &'static str = "orders.remove_cart_item";

    async fn handle<'a>(_: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        carts::apply_changes(work, commands).await
    }
}
