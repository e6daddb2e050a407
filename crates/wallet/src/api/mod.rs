//! The routes of the wallet.

pub mod charge;
pub mod entries;
pub mod grant;
pub mod read;

use crate::Wallet;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(wallet: Arc<Wallet>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(read::read))
        .routes(routes!(charge::charge))
        .routes(routes!(entries::entries))
        .routes(routes!(grant::grant))
        .with_state(wallet)
}
