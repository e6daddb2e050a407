//! The catalogue: products, their options and prices.
//!
//! Owns the products on offer and their prices. It never knows quantities (stock does) or buyers. Orders are charged its prices,
//! even if a buyer claims to have seen others.

mod api;
mod cache;
mod jobs;
mod links;
mod model;
mod queries;
mod store;
mod view;

use cache::CatalogCache;
use kit::Kit;

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

kit::module! {
    impl Module for Catalog {
        name: "catalog",
        migrations: kit::migrations!("init", "summaries", "unpaid"),
        router: api::router,
        calls: links::register,
        jobs: jobs::all,
    }
}
