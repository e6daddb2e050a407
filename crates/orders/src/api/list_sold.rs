//! `orders.list_sold`: paid orders with lines of a store, newest first. The seller of the store, or an operator.

use crate::{
    Orders, store,
    view::{self, SoldOrderView},
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

/// Paid orders with lines of a store, newest first
///
/// The seller of the store, or an operator. An order is in the list from its payment on, also after a later cancellation. Orders that were
/// never paid are not in it.
#[utoipa::path(get, path = "/v1/stores/{id}/orders", operation_id = "orders.list_sold", tag = "orders",
    params(("id" = StoreId, Path, description = "The store"), ListSold),
    responses((status = 200, description = "Lines of other stores are left out, and the sums are those of the lines shown", body = Listing<SoldOrderView>), (status = 404, description = "`not-found`: unknown, or not yours", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn list_sold(
    State(orders): State<Arc<Orders>>,
    Seller(caller): Seller,
    Path(store_id): Path<StoreId>,
    Query(query): Query<ListSold>,
) -> Result<Json<Listing<SoldOrderView>>, Problem> {
    check_runs_store(&orders, caller, store_id).await?;
    let limit = page_limit(query.limit)?;
    let before: Option<OrderId> = query.cursor.map(|cursor| orders.kit.cursors.decode("sold", &cursor)).transpose()?;
    let mut reader = orders.kit.db.heavy_reader().await?;
    let mut ids = store::sold_order_ids(&mut reader, store_id, before, limit + 1).await?;
    let has_more = ids.len() > limit as usize;
    ids.truncate(limit as usize);
    let next_cursor = ids.last().filter(|_| has_more).map(|last| orders.kit.cursors.encode("sold", last));
    let found = store::orders(&mut reader, &ids).await?;
    let (mut lines, mut events) = (store::lines(&mut reader, &ids).await?, store::events(&mut reader, &ids).await?);
    let items = found.iter().map(|order| {
        let (lines, mut events) = (lines.remove(&order.id).unwrap_or_default(), events.remove(&order.id).unwrap_or_default());
        // Later rows belong to a later state of the order than the one read.
        events.retain(|event| event.n <= order.events);
        view::sold_order_view(order, &lines, &events, |line| line.store_id == store_id)
    });
    Ok(Json(Listing { items: items.collect(), next_cursor }))
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
