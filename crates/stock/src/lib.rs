//! Stock: the units of each SKU on hand, held by orders, and sold.
//!
//! Owns quantities, holds and movements. It never knows prices, buyers or payments, and never decides that an order ends:
//! it carries out the steps of the checkout saga and answers them.

mod api;
mod cache;
mod jobs;
mod messages;
mod model;
mod store;

use cache::{AvailabilityCache, SHARED_TTL};
use contracts::{
    Sku,
    calls::{GetAvailability, GetStockVersion},
};
use futures::future::BoxFuture;
use kit::{DbError, Fault, Kit, Service, Work, db::Migration, engine::Envelope, jobs::Job, links::CallHandlers};
use std::{collections::HashMap, sync::Arc};
use utoipa_axum::router::OpenApiRouter;

pub struct Stock {
    kit: Kit,
    availability: Arc<AvailabilityCache>,
}

impl Stock {
    pub fn new(kit: Kit) -> Self {
        let ttl = kit.is_shared().then_some(SHARED_TTL);
        Self { kit, availability: Arc::new(AvailabilityCache::new(ttl)) }
    }

    /// Units of each SKU that can be ordered now. Unknown SKUs are missing.
    async fn available(&self, skus: &[Sku]) -> Result<HashMap<Sku, i64>, DbError> {
        let (mut found, missing) = self.availability.get(skus);
        if !missing.is_empty() {
            let read_at = self.availability.now();
            let read = store::available(&mut *self.kit.db.reader().await?, &missing).await?;
            self.availability.insert_read(&read, read_at);
            found.extend(read);
        }
        Ok(found)
    }
}

impl Service for Stock {
    fn name(&self) -> &'static str {
        "stock"
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

    fn reads(&self) -> &'static [contracts::Kind] {
        messages::READS
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::flush(work, &self.availability))
    }

    fn register_calls(self: Arc<Self>, handlers: &mut CallHandlers) {
        let availability = Arc::clone(&self.availability);
        handlers.register::<GetStockVersion, _, _, _>(move |_| std::future::ready(Ok::<_, DbError>(availability.version())));
        handlers.register::<GetAvailability, _, _, _>(move |call| {
            let stock = Arc::clone(&self);
            async move { stock.available(&call.skus).await }
        });
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        jobs::all(&self)
    }
}
