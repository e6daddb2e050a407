//! Answers to calls of other services, from the cache.

use crate::Stores;
use contracts::calls::{GetStore, GetStores, GetStoresOfSeller, StoreCard};
use kit::{DbError, links::CallHandlers};
use std::sync::Arc;

pub fn register(stores: &Arc<Stores>, handlers: &mut CallHandlers) {
    handlers.register_for(stores, store);
    handlers.register_for(stores, several);
    handlers.register_for(stores, of_seller);
}

async fn store(stores: Arc<Stores>, call: GetStore) -> Result<Option<StoreCard>, DbError> {
    Ok(stores.cache.snapshot(&stores.kit.db).await?.get(call.store_id).map(|store| store.card()))
}

async fn several(stores: Arc<Stores>, call: GetStores) -> Result<Vec<StoreCard>, DbError> {
    let all = stores.cache.snapshot(&stores.kit.db).await?;
    Ok(call.store_ids.iter().filter_map(|id| all.get(*id)).map(|store| store.card()).collect())
}

async fn of_seller(stores: Arc<Stores>, call: GetStoresOfSeller) -> Result<Vec<StoreCard>, DbError> {
    let all = stores.cache.snapshot(&stores.kit.db).await?;
    Ok(all.of_seller(call.seller_id).map(|store| store.card()).collect())
}
