//! The routes of stock, for the people who fill the shelves.

mod adjust;
mod get;
mod set;

use crate::{Stock, model::Item, store};
use contracts::{Code, Sku, calls::GetStore};
use kit::{
    Answer, Fault, Outcome,
    auth::{Caller, Role},
    http::Problem,
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(stock: Arc<Stock>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(get::get, set::set)).routes(routes!(adjust::adjust)).with_state(stock)
}

/// The quantities of one SKU.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StockLevel)]
pub struct Level {
    sku: Sku,
    /// Units in the house.
    on_hand: i64,
    /// Held by orders that are not paid yet.
    reserved: i64,
    /// What could be ordered now.
    available: i64,
    /// Sold and not given back.
    sold: i64,
}

impl From<&Item> for Level {
    fn from(item: &Item) -> Self {
        Self { sku: item.sku, on_hand: item.on_hand, reserved: item.reserved, available: item.available(), sold: item.sold }
    }
}

/// The item, for an operator or the seller of its store; to everyone else it does not exist.
async fn own_item(stock: &Stock, caller: &Caller, sku: Sku) -> Result<Item, Problem> {
    let item = store::item(&mut *stock.kit.db.reader().await?, sku).await?.ok_or(Code::NotFound)?;
    if !matches!(caller.role, Role::Operator) {
        let store = stock.kit.links.call(GetStore { store_id: item.store_id }).await?;
        if store.and_then(|store| store.seller_id) != Some(caller.member_id) {
            return Err(Code::NotFound.into());
        }
    }
    Ok(item)
}

fn answer(changed: Option<Result<Item, contracts::Refusal>>) -> Result<Outcome, Fault> {
    Ok(match changed {
        Some(Ok(item)) => Answer::json(200, &Level::from(&item))?.into(),
        Some(Err(refusal)) => refusal.into(),
        None => Code::NotFound.into(),
    })
}
