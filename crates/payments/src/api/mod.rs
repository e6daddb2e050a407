//! Operations of payments. Paying itself is an operation of orders.

pub mod read;
pub mod settle;
pub mod settle_refund;

use crate::Payments;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(payments: Arc<Payments>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(read::read)).with_state(payments)
}
