//! `orders.list_sold`: orders with lines of a store, newest first. The seller of the store, or an operator.

use crate::{
    Orders, store,
    view::{self, OrderHistory, OrderView},
};
use axum::{Json, extract::State};
use contracts::{Code, OrderId, StoreId, calls::GetStore};
use kit::{
    auth::{Caller, Role},
    extract::Seller,
    http::{Listing, Path, Problem, ProblemBody, Query, page_limit},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSold {
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<i64>,
    /// `next_cursor` of the previous page.
    #[param(min_length = 1)]
    pub cursor: Option<String>,
}

/// Orders with lines of a store, newest first
///
/// The seller of the store, or an operator.
#[utoipa::path(get, path = "/v1/stores/{id}/orders", operation_id = "orders.list_sold", tag = "orders",
    params(("id" = StoreId, Path, description = "The store"), ListSold),
    responses((status = 200, description = "Lines of other stores are left out", body = Listing<OrderView>), (status = 404, description = "`not-found`: unknown, or not yours", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn list_sold(
    State(orders): State<Arc<Orders>>,
    Seller(caller): Seller,
    Path(store_id): Path<StoreId>,
    Query(query): Query<ListSold>,
) -> Result<Json<Listing<OrderView>>, Problem> {
    check_runs_store(&orders, caller, store_id).await?;
    let limit = page_limit(query.limit)?;
    let before: Option<OrderId> = query.cursor.map(|cursor| orders.kit.cursors.decode("sold", &cursor)).transpose()?;
    let mut reader = orders.kit.db.heavy_reader().await?;
    let mut ids = store::order_ids_of_store(&mut reader, store_id, before, limit + 1).await?;
    let has_more = ids.len() > limit as usize;
    ids.truncate(limit as usize);
    let next_cursor = ids.last().filter(|_| has_more).map(|last| orders.kit.cursors.encode("sold", last));
    let found = store::orders(&mut reader, &ids).await?;
    let mut lines = store::lines(&mut reader, &ids).await?;
    let histories = OrderHistory::load(&mut reader, &found.iter().collect::<Vec<_>>()).await?;
    let mut items = Vec::with_capacity(found.len());
    for (order, history) in found.iter().zip(&histories) {
        let mut lines = lines.remove(&order.id).unwrap_or_default();
        lines.retain(|line| line.store_id == store_id);
        items.push(view::order_view(order, &lines, &[], history));
    }
    Ok(Json(Listing { items, next_cursor }))
}

/// Lets operators and the seller of the store pass. `Err`: `not-found` for all others, as for an unknown store.
pub async fn check_runs_store(orders: &Orders, caller: Caller, store_id: StoreId) -> Result<(), Problem> {
    if matches!(caller.role, Role::Operator) {
        return Ok(());
    }
    let store = orders.kit.links.call(GetStore { store_id }).await?;
    match store {
        Some(store) if store.seller_id == Some(caller.member_id) => Ok(()),
        _ => Err(Code::NotFound.into()),
    }
}
