//! `orders.add_cart_item`: adds a quantity of an item to the caller's cart. Any signed-in account.

use crate::{
    Orders,
    loaded::carts::{self, CartChange},
    model::Cart,
    view::CartView,
};
use axum::{extract::State, response::Response};
use contracts::{Code, MemberId, Refusal, Sku, calls::GetPrices};
use garde::Validate;
use kit::{
    Command, Outcome, Work,
    engine::Fault,
    extract::SignedIn,
    http::{Input, Problem, ProblemBody, Trace},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddItem {
    #[garde(skip)]
    pub sku: Sku,
    /// Added to the quantity in the cart.
    #[garde(range(min = 1, max = 1_000))]
    #[schema(minimum = 1, maximum = 1000)]
    pub quantity: u32,
}

/// Adds a quantity of an item to the caller's cart
#[utoipa::path(post, path = "/v1/cart/items", operation_id = "orders.add_cart_item", tag = "cart", request_body = AddItem,
    responses((status = 200, body = CartView),
              (status = 409, description = "`not-on-sale`: unknown, deleted or paused", body = ProblemBody),
              (status = 422, description = "`invalid-field`: more than 1,000 of it, `order-too-large`: more than 100 lines", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn add_cart_item(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<AddItem>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let AddItem { sku, quantity } = input.value;
    kit::submit::run_prepared(&orders, key, trace, async {
        check_on_sale(&orders, sku).await?;
        Ok(AddCartItem { member_id: caller.member_id, sku, quantity })
    })
    .await
}

/// Checks that an item can be bought. `Err`: it is unknown, deleted or paused.
pub async fn check_on_sale(orders: &Orders, sku: Sku) -> Result<(), Problem> {
    let found = orders.kit.links.call(GetPrices { skus: vec![sku] }).await?;
    if found.is_empty() { Err(Problem::new(Code::NotOnSale, format!("{sku} is not on sale."))) } else { Ok(()) }
}

pub struct AddCartItem {
    member_id: MemberId,
    sku: Sku,
    quantity: u32,
}

impl CartChange for AddCartItem {
    fn member_id(&self) -> MemberId {
        self.member_id
    }
    fn apply(&self, cart: &mut Cart) -> Result<(), Refusal> {
        cart.add(self.sku, self.quantity)
    }
}

impl Command for AddCartItem {
    type Service = Orders;
    const OPERATION: &'static str = "orders.add_cart_item";

    async fn handle<'a>(_: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        carts::apply_changes(work, commands).await
    }
}
