//! Stores: the stores of the mall and their sellers.
//!
//! Owns stores. It knows nothing of their products. A store whose seller closes the account goes over to the mall.

mod api;
mod cache;
mod links;
mod messages;
mod model;
mod start;
mod store;

use cache::{SHARED_TTL, StoreCache};
use kit::Kit;
use std::sync::Arc;

pub struct Stores {
    kit: Kit,
    cache: Arc<StoreCache>,
}

impl Stores {
    pub fn new(kit: Kit) -> Stores {
        let ttl = kit.is_shared().then_some(SHARED_TTL);
        Stores { kit, cache: Arc::new(StoreCache::new(ttl)) }
    }
}

kit::module! {
    impl Module for Stores {
        name: "stores",
        migrations: kit::migrations!("init"),
        reads: messages::READS,
        consume: messages::consume,
        router: api::router,
        calls: links::register,
        start: start::start,
    }
}
