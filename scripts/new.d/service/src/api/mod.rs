//! The routes of @service@.

mod create;
mod get;
mod views;

use crate::@Service@;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(@service@: Arc<@Service@>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(create::create)).routes(routes!(get::get)).with_state(@service@)
}
