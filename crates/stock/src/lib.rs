//! Stock: how many units of each SKU there are, how many orders hold, how many were sold.
//!
//! Owns quantities, holds and movements. Never knows prices, buyers or payments, and never decides that an order ends:
//! it answers the steps of the checkout saga and keeps its books exact.

mod api;
mod availability;
mod jobs;
mod messages;
mod model;
mod store;

use availability::{Availability, SHARED_TTL};
use contracts::{
    Sku,
    calls::{GetAvailability, GetStockVersion},
};
use futures::future::BoxFuture;
use kit::{DbError, Fault, Kit, Service, Work, db::Migration, engine::Envelope, jobs::Job, links::Answers};
use std::{collections::HashMap, sync::Arc};
use utoipa_axum::router::OpenApiRouter;

pub struct Stock {
    kit: Kit,
    availability: Arc<Availability>,
}

impl Stock {
    pub fn new(kit: Kit) -> Self {
        let ttl = kit.is_shared().then_some(SHARED_TTL);
        Self { kit, availability: Arc::new(Availability::new(ttl)) }
    }

    /// How many units could be ordered now; unknown SKUs are missing.
    async fn available(&self, skus: &[Sku]) -> Result<HashMap<Sku, i64>, DbError> {
        let (mut found, missing) = self.availability.look(skus);
        if !missing.is_empty() {
            let at = self.availability.now();
            let read = store::available(&mut *self.kit.db.reader().await?, &missing).await?;
            self.availability.learn(&read, at);
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

    fn reads(&self) -> &'static [&'static str] {
        messages::READS
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::flush(work, &self.availability))
    }

    fn answers(self: Arc<Self>, answers: &mut Answers) {
        let availability = Arc::clone(&self.availability);
        answers.add::<GetStockVersion, _, _, _>(move |_| std::future::ready(Ok::<_, DbError>(availability.version())));
        answers.add::<GetAvailability, _, _, _>(move |call| {
            let stock = Arc::clone(&self);
            async move { stock.available(&call.skus).await }
        });
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        jobs::all(&self)
    }
}
