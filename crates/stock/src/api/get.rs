//! `stock.get`: reads the quantities of a SKU. The seller of its store, or an operator.

use super::{StockLevel, find_own_item};
use crate::Stock;
use axum::{Json, extract::State};
use contracts::Sku;
use kit::{
    extract::Seller,
    http::{Path, Problem, ProblemBody},
};
use std::sync::Arc;

/// Reads the quantities of a SKU
///
/// The seller of its store, or an operator.
#[utoipa::path(get, path = "/v1/stock/{sku}", operation_id = "stock.get", tag = "stock",
    params(("sku" = Sku, Path, description = "The SKU")),
    responses(
        (status = 200, body = StockLevel),
        (status = 404, description = "unknown, or of another seller's store", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn get(State(stock): State<Arc<Stock>>, Seller(caller): Seller, Path(sku): Path<Sku>) -> Result<Json<StockLevel>, Problem> {
    let item = find_own_item(&stock, &caller, sku).await?;
    Ok(Json(StockLevel::from(&item)))
}
