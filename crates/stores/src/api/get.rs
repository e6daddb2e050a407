//! `stores.get`: reads one store. Anyone.

use super::views::StoreView;
use crate::Stores;
use axum::Json;
use contracts::{Code, StoreId};
use kit::http::{Path, Problem, ProblemBody, State};
use std::sync::Arc;

/// Reads one store
///
/// Anyone.
#[utoipa::path(
    get, path = "/v1/stores/{id}", operation_id = "stores.get", tag = "stores", params(("id" = StoreId, Path)),
    responses((status = 200, body = StoreView), (status = 404, description = "not-found", body = ProblemBody))
)]
pub async fn get(State(stores): State<Arc<Stores>>, Path(id): Path<StoreId>) -> Result<Json<StoreView>, Problem> {
    let all = stores.cache.snapshot(&stores.kit.db).await?;
    Ok(Json(all.get(id).ok_or(Code::NotFound)?.into()))
}
