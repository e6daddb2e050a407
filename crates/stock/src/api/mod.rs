//! The routes of stock, for sellers and operators.

mod adjust;
mod get;
mod set;

use crate::{Stock, model::StockItem, store};
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
pub struct StockLevel {
    sku: Sku,
    /// Units that are not sold, including those held by unpaid orders. A payment subtracts its units, also before they are dispatched, and a
    /// cancellation adds them again. So a cancellation can raise it above the 1,000,000,000 that can be set.
    on_hand: i64,
    /// Units held by unpaid orders.
    reserved: i64,
    /// Units that can be ordered now.
    available: i64,
    /// Units sold and not returned.
    sold: i64,
}

impl From<&StockItem> for StockLevel {
    fn from(item: &StockItem) -> Self {
        Self { sku: item.sku, on_hand: item.on_hand, reserved: item.reserved, available: item.available(), sold: item.sold }
    }
}

/// Reads an item for an operator or the seller of its store. All others get `not-found`.
async fn find_own_item(stock: &Stock, caller: &Caller, sku: Sku) -> Result<StockItem, Problem> {
    let item = store::item(&mut *stock.kit.db.reader().await?, sku).await?.ok_or(Code::NotFound)?;
    if !matches!(caller.role, Role::Operator) {
        let store = stock.kit.links.call(GetStore { store_id: item.store_id }).await?;
        if store.and_then(|store| store.seller_id) != Some(caller.member_id) {
            return Err(Code::NotFound.into());
        }
    }
    Ok(item)
}

fn item_outcome(changed: Option<Result<StockItem, contracts::Refusal>>) -> Result<Outcome, Fault> {
    Ok(match changed {
        Some(Ok(item)) => Answer::json(200, &StockLevel::from(&item))?.into(),
        Some(Err(refusal)) => refusal.into(),
        None => Code::NotFound.into(),
    })
}
