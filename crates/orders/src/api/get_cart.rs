//! `orders.get_cart`: the caller's cart with current names and prices. Any signed-in account.

use crate::{Orders, store};
use axum::{Json, extract::State};
use contracts::{
    ProductId, Sku, StoreId, Won,
    calls::{GetPrices, PricedSku},
};
use kit::{extract::SignedIn, http::Problem};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc};
use utoipa::ToSchema;

/// A cart with current prices.
#[derive(Debug, Serialize, ToSchema)]
pub struct PricedCartView {
    /// Send it as `cart_version` with an order from the cart, so that one version is ordered at most once.
    pub version: i64,
    pub items: Vec<PricedItemView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PricedItemView {
    pub sku: Sku,
    pub quantity: u32,
    /// Null while the item is not on sale. An order of it would be refused.
    pub product: Option<CartProduct>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CartProduct {
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub name: String,
    /// Price of one unit.
    pub price: Won,
}

impl From<PricedSku> for CartProduct {
    fn from(priced: PricedSku) -> Self {
        CartProduct { product_id: priced.product_id, store_id: priced.store_id, name: priced.name, price: priced.price }
    }
}

/// The caller's cart with current names and prices
#[utoipa::path(get, path = "/v1/cart", operation_id = "orders.get_cart", tag = "cart",
    responses((status = 200, body = PricedCartView)), security(("bearer" = [])))]
pub async fn get_cart(State(orders): State<Arc<Orders>>, SignedIn(caller): SignedIn) -> Result<Json<PricedCartView>, Problem> {
    let cart = {
        let mut reader = orders.kit.db.reader().await?;
        store::cart::cart(&mut reader, caller.member_id).await?.unwrap_or_default()
    };
    let skus: Vec<Sku> = cart.items.keys().copied().collect();
    let prices = if skus.is_empty() { Vec::new() } else { orders.kit.links.call(GetPrices { skus }).await? };
    let mut prices: HashMap<Sku, PricedSku> = prices.into_iter().map(|priced| (priced.sku, priced)).collect();
    let items =
        cart.items.into_iter().map(|(sku, quantity)| PricedItemView { sku, quantity, product: prices.remove(&sku).map(Into::into) });
    Ok(Json(PricedCartView { version: cart.version, items: items.collect() }))
}
