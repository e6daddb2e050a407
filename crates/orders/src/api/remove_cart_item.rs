//! `orders.remove_cart_item`: takes something out of the caller's cart.

use crate::{
    Orders,
    carts::{self, CartView, Change},
    model::Cart,
};
use axum::{extract::State, response::Response};
use contracts::{MemberId, Refusal, Sku};
use kit::{
    Command, Outcome, Work,
    auth::SignedIn,
    engine::Fault,
    http::{self, Empty, Input, Path, Problem, Trace},
};
use std::sync::Arc;

/// Takes something out of the caller's cart
#[utoipa::path(delete, path = "/v1/cart/items/{sku}", operation_id = "orders.remove_cart_item", tag = "cart",
    params(("sku" = Sku, Path, description = "The item")),
    responses((status = 200, description = "it is not in the cart, also when it was not before", body = CartView)), security(("bearer" = [])))]
pub async fn remove_cart_item(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Path(sku): Path<Sku>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    http::run(&orders, Remove { member_id: caller.member_id, sku }, key, trace).await
}

pub struct Remove {
    member_id: MemberId,
    sku: Sku,
}

impl Change for Remove {
    fn member_id(&self) -> MemberId {
        self.member_id
    }
    fn apply(&self, cart: &mut Cart) -> Result<(), Refusal> {
        cart.set(self.sku, 0)
    }
}

impl Command for Remove {
    type Service = Orders;
    const OPERATION: &'static str = "orders.remove_cart_item";

    async fn handle<'a>(_: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        carts::change(work, commands).await
    }
}
