//! Stock: the units of each SKU on hand, held by orders, and sold.
//!
//! Owns quantities, holds and movements. It never knows prices, buyers or payments, and never decides that an order ends:
//! it carries out the steps of the checkout saga and answers them.

mod api;
mod cache;
mod checks;
mod jobs;
mod links;
mod messages;
mod model;
mod store;

use cache::{AvailabilityCache, SHARED_TTL};
use kit::Kit;
use std::sync::Arc;

pub struct Stock {
    kit: Kit,
    availability: Arc<AvailabilityCache>,
}

impl Stock {
    pub fn new(kit: Kit) -> Self {
        let ttl = kit.is_shared().then_some(SHARED_TTL);
        Self { kit, availability: Arc::new(AvailabilityCache::new(ttl)) }
    }
}

kit::module! {
    impl Module for Stock {
        name: "stock",
        migrations: kit::migrations!("init", postgres "room"),
        checks: checks::checks,
        reads: &messages::READS,
        consume: messages::consume,
        flush: messages::flush,
        router: api::router,
        calls: links::register,
        jobs: jobs::all,
    }
}
