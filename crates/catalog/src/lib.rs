//! The catalogue: products, their options and prices.
//!
//! Owns the products on offer and their prices. It never knows quantities (stock does) or buyers. Orders are charged its prices,
//! even if a buyer claims to have seen others.

mod api;
mod cache;
mod model;
mod queries;
mod store;
mod view;

use cache::CatalogCache;
use contracts::calls::GetPrices;
use kit::{Kit, Service, db::Migration, links::CallHandlers};
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

pub struct Catalog {
    kit: Kit,
    cache: CatalogCache,
}

impl Catalog {
    pub fn new(kit: Kit) -> Self {
        let cache = CatalogCache::new(kit.is_shared());
        Self { kit, cache }
    }
}

impl Service for Catalog {
    fn name(&self) -> &'static str {
        "catalog"
    }

    fn migrations(&self) -> &'static [Migration] {
        store::MIGRATIONS
    }

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(self: Arc<Self>) -> OpenApiRouter {
        api::router(self)
    }

    fn register_calls(self: Arc<Self>, handlers: &mut CallHandlers) {
        handlers.register::<GetPrices, _, _, _>(move |call| {
            let catalog = Arc::clone(&self);
            async move { catalog.prices(&call.skus).await }
        });
    }
}
