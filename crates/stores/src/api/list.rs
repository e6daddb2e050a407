//! `stores.list`: lists the stores of the mall, oldest first. Anyone.

use super::views::StoreView;
use crate::Stores;
use axum::Json;
use contracts::StoreId;
use kit::http::{Listing, Problem, ProblemBody, Query, State, page_limit};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

const CURSOR: &str = "stores.list";

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListStores {
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<i64>,
    #[param(min_length = 1)]
    pub cursor: Option<String>,
}

/// Lists the stores of the mall, oldest first
///
/// Anyone.
#[utoipa::path(
    get, path = "/v1/stores", operation_id = "stores.list", tag = "stores", params(ListStores),
    responses(
        (status = 200, body = Listing<StoreView>),
        (status = 400, description = "invalid-cursor, duplicate-parameter", body = ProblemBody),
        (status = 422, description = "invalid-parameter", body = ProblemBody),
    )
)]
pub async fn list(State(stores): State<Arc<Stores>>, Query(query): Query<ListStores>) -> Result<Json<Listing<StoreView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after: Option<StoreId> = query.cursor.map(|text| stores.kit.cursors.decode(CURSOR, &text)).transpose()?;
    let all = stores.cache.snapshot(&stores.kit.db).await?;
    let (page, more) = all.page(after, limit as usize);
    let next_cursor = page.last().filter(|_| more).map(|last| stores.kit.cursors.encode(CURSOR, &last.id));
    Ok(Json(Listing { items: page.iter().map(StoreView::from).collect(), next_cursor }))
}
