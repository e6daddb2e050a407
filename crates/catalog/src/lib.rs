//! The catalogue: products, their options and prices.
//!
//! Owns what is offered and at what price. Never knows how many there are (stock does) or who bought them; a price it gives is what an
//! order is charged, whatever the buyer claims to have seen.

mod api;
mod model;
mod query;
mod reading;
mod shelf;
mod store;
mod view;

use contracts::calls::GetPrices;
use kit::{Kit, Service, db::Migration, links::Answers};
use shelf::Shelf;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

pub struct Catalog {
    kit: Kit,
    shelf: Shelf,
}

impl Catalog {
    pub fn new(kit: Kit) -> Self {
        let shelf = Shelf::new(kit.is_shared());
        Self { kit, shelf }
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

    fn answers(self: Arc<Self>, answers: &mut Answers) {
        answers.add::<GetPrices, _, _, _>(move |call| {
            let catalog = Arc::clone(&self);
            async move { catalog.prices(&call.skus).await }
        });
    }
}
