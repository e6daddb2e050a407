//! `orders.get`: one order with its lines, state and history. The buyer, or an operator. Others get `not-found`.

use crate::{
    Orders, store,
    view::{self, OrderHistory, OrderView},
};
use axum::{Json, extract::State};
use contracts::{Code, OrderId};
use kit::{
    auth::Role,
    extract::SignedIn,
    http::{Path, Problem, ProblemBody},
};
use std::sync::Arc;

/// One order with its lines, state and history
///
/// The buyer, or an operator. Others get `not-found`.
#[utoipa::path(get, path = "/v1/orders/{id}", operation_id = "orders.get", tag = "orders", params(("id" = OrderId, Path, description = "The order")),
    responses((status = 200, body = OrderView), (status = 404, description = "`not-found`: unknown, or not yours", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn get(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Path(id): Path<OrderId>,
) -> Result<Json<OrderView>, Problem> {
    let mut reader = orders.kit.db.reader().await?;
    let order = store::order(&mut reader, id).await?;
    let may_read = |member_id| member_id == caller.member_id || matches!(caller.role, Role::Operator);
    let order = order.filter(|order| may_read(order.member_id)).ok_or(Code::NotFound)?;
    let lines = store::lines(&mut reader, &[id]).await?.remove(&id).unwrap_or_default();
    let coupons = store::coupons(&mut reader, &[id]).await?.remove(&id).unwrap_or_default();
    let history = OrderHistory::load(&mut reader, &[&order]).await?.pop().unwrap_or_default();
    Ok(Json(view::order_view(&order, &lines, &coupons, &history)))
}
