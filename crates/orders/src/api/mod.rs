//! Routes of the orders service, one line for each path.

pub mod add_cart_item;
pub mod advance;
pub mod cancel;
pub mod confirm;
pub mod create;
pub mod get;
pub mod get_cart;
pub mod list;
pub mod list_sold;
pub mod pay;
pub mod quote;
pub mod remove_cart_item;
pub mod set_cart_item;

use crate::Orders;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(orders: Arc<Orders>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(get_cart::get_cart))
        .routes(routes!(add_cart_item::add_cart_item))
        .routes(routes!(set_cart_item::set_cart_item, remove_cart_item::remove_cart_item))
        .routes(routes!(quote::quote))
        .routes(routes!(create::create, list::list))
        .routes(routes!(list_sold::list_sold))
        .routes(routes!(get::get))
        .routes(routes!(pay::pay))
        .routes(routes!(cancel::cancel))
        .routes(routes!(advance::advance))
        .routes(routes!(confirm::confirm))
        .with_state(orders)
}
