//! The operations of payments. Paying itself is asked for at the order.

pub mod read;
pub mod settle;
pub mod settle_refund;

use crate::Payments;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(payments: Arc<Payments>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(read::read)).with_state(payments)
}
