//! `orders.set_cart_item`: sets the quantity of an item in the caller's cart. Any signed-in account.

use super::add_cart_item::check_on_sale;
use crate::{
    Orders,
    loaded::carts::{self, CartChange},
    model::Cart,
    view::CartView,
};
use axum::{extract::State, response::Response};
use contracts::{MemberId, Refusal, Sku};
use garde::Validate;
use kit::{
    Command, Outcome, Work,
    engine::Fault,
    extract::SignedIn,
    http::{Input, Path, Problem, ProblemBody, Trace},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetItem {
    /// 0 or less removes the item.
    #[garde(range(max = 1_000))]
    #[schema(maximum = 1000)]
    pub quantity: i64,
}

/// Sets the quantity of an item in the caller's cart
#[utoipa::path(put, path = "/v1/cart/items/{sku}", operation_id = "orders.set_cart_item", tag = "cart", request_body = SetItem,
    params(("sku" = Sku, Path, description = "The item")),
    responses((status = 200, body = CartView),
              (status = 409, description = "`not-on-sale`: unknown, deleted or paused", body = ProblemBody),
              (status = 422, description = "`invalid-field`: more than 1,000 of it, `order-too-large`: more than 100 lines", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn set_cart_item(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Path(sku): Path<Sku>,
    trace: Trace,
    input: Input<SetItem>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let quantity = u32::try_from(input.value.quantity).unwrap_or(0);
    kit::submit::run_prepared(&orders, key, trace, async {
        if quantity > 0 {
            check_on_sale(&orders, sku).await?;
        }
        Ok(SetCartItem { member_id: caller.member_id, sku, quantity })
    })
    .await
}

pub struct SetCartItem {
    member_id: MemberId,
    sku: Sku,
    quantity: u32,
}

impl CartChange for SetCartItem {
    fn member_id(&self) -> MemberId {
        self.member_id
    }
    fn apply(&self, cart: &mut Cart) -> Result<(), Refusal> {
        cart.set(self.sku, self.quantity)
    }
}

impl Command for SetCartItem {
    type Service = Orders;
    const OPERATION: &'static str = "orders.set_cart_item";

    async fn handle<'a>(_: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        carts::apply_changes(work, commands).await
    }
}
