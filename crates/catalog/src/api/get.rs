//! `catalog.get`: reads one product with its options, prices and available units. Anyone.

use super::json_response;
use crate::{Catalog, view::ProductDetail};
use axum::{extract::State, response::Response};
use contracts::{Code, ProductId};
use kit::http::{Path, Problem, ProblemBody};
use std::sync::Arc;

/// Reads one product with its options, prices and available units
///
/// Anyone.
#[utoipa::path(get, path = "/v1/products/{id}", operation_id = "catalog.get", tag = "catalog",
    params(("id" = ProductId, Path, description = "The product")),
    responses(
        (status = 200, body = ProductDetail),
        (status = 404, description = "unknown or deleted", body = ProblemBody)))]
pub async fn get(State(catalog): State<Arc<Catalog>>, Path(id): Path<ProductId>) -> Result<Response, Problem> {
    let views = catalog.views(&[id]).await?;
    let view = views.first().ok_or(Code::NotFound)?;
    let available = catalog.available(views.iter()).await?;
    let mut body = Vec::with_capacity(1024);
    view.write_detail(&mut body, &available);
    Ok(json_response(body))
}
