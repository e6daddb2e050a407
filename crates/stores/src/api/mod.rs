//! The routes of stores.

mod create;
mod get;
mod list;
mod views;

use crate::Stores;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(stores: Arc<Stores>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(create::create, list::list)).routes(routes!(get::get)).with_state(stores)
}
