//! Stores: the stores of the mall and their sellers.
//!
//! Owns stores. It knows nothing of their products, and trusts the operator that a seller exists.

mod api;
mod cache;
mod model;
mod start;
mod store;

use cache::{SHARED_TTL, StoreCache};
use contracts::calls::{GetStore, GetStores, GetStoresOfSeller, StoreCard};
use futures::future::BoxFuture;
use kit::{DbError, Fault, Kit, Service, db::Migration, links::CallHandlers};
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

pub struct Stores {
    kit: Kit,
    cache: Arc<StoreCache>,
}

impl Stores {
    pub fn new(kit: Kit) -> Stores {
        let ttl = kit.is_shared().then_some(SHARED_TTL);
        Stores { kit, cache: Arc::new(StoreCache::new(ttl)) }
    }

    async fn store(&self, call: GetStore) -> Result<Option<StoreCard>, DbError> {
        Ok(self.cache.snapshot(&self.kit.db).await?.get(call.store_id).map(|store| store.card()))
    }

    async fn stores(&self, call: GetStores) -> Result<Vec<StoreCard>, DbError> {
        let stores = self.cache.snapshot(&self.kit.db).await?;
        Ok(call.store_ids.iter().filter_map(|id| stores.get(*id)).map(|store| store.card()).collect())
    }

    async fn stores_of_seller(&self, call: GetStoresOfSeller) -> Result<Vec<StoreCard>, DbError> {
        let stores = self.cache.snapshot(&self.kit.db).await?;
        Ok(stores.of_seller(call.seller_id).map(|store| store.card()).collect())
    }
}

impl Service for Stores {
    fn name(&self) -> &'static str {
        "stores"
    }

    fn migrations(&self) -> &'static [Migration] {
        const MIGRATIONS: &[Migration] = &[Migration::new(1, "init", include_str!("../migrations/V1__init.sql"))];
        MIGRATIONS
    }

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(self: Arc<Self>) -> OpenApiRouter {
        api::router(self)
    }

    fn register_calls(self: Arc<Self>, handlers: &mut CallHandlers) {
        let stores = Arc::clone(&self);
        handlers.register::<GetStore, _, _, _>(move |call| {
            let stores = Arc::clone(&stores);
            async move { stores.store(call).await }
        });
        let stores = Arc::clone(&self);
        handlers.register::<GetStores, _, _, _>(move |call| {
            let stores = Arc::clone(&stores);
            async move { stores.stores(call).await }
        });
        handlers.register::<GetStoresOfSeller, _, _, _>(move |call| {
            let stores = Arc::clone(&self);
            async move { stores.stores_of_seller(call).await }
        });
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(start::start(self))
    }
}
