//! `orders.list`: the caller's own orders, newest first. Any signed-in account.

use crate::{OrderSummary, Orders, model::OrderState, store};
use axum::{Json, extract::State};
use contracts::OrderId;
use kit::{
    extract::SignedIn,
    http::{Listing, Problem, ProblemBody, Query, page_limit},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListOrders {
    /// Only orders in this state.
    pub state: Option<OrderState>,
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<i64>,
    /// `next_cursor` of the previous page.
    #[param(min_length = 1)]
    pub cursor: Option<String>,
}

/// The caller's own orders, newest first
#[utoipa::path(get, path = "/v1/orders", operation_id = "orders.list", tag = "orders", params(ListOrders),
    responses((status = 200, body = Listing<OrderSummary>), (status = 422, description = "`invalid-parameter`", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn list(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Query(query): Query<ListOrders>,
) -> Result<Json<Listing<OrderSummary>>, Problem> {
    let limit = page_limit(query.limit)?;
    let before: Option<OrderId> = query.cursor.map(|cursor| orders.kit.cursors.decode("orders", &cursor)).transpose()?;
    let mut reader = orders.kit.db.reader().await?;
    let mut found = store::orders_of_member(&mut reader, caller.member_id, query.state, before, limit + 1).await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found.last().filter(|_| has_more).map(|last| orders.kit.cursors.encode("orders", &last.id));
    Ok(Json(Listing { items: found.iter().map(Into::into).collect(), next_cursor }))
}
