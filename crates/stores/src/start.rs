//! Runs once before the first request: creates the mall's own store.

use crate::{Stores, model::Store, store};
use contracts::{MALL_STORE, Message, messages::StoreCreated};
use kit::{Answer, Command, Fault, Outcome, Work, ports};
use std::sync::Arc;

const MALL_NAME: &str = "Onrush Mall";

pub async fn start(stores: Arc<Stores>) -> Result<(), Fault> {
    let known = {
        let mut reader = stores.kit.db.reader().await?;
        store::exists(&mut reader, MALL_STORE).await?
    };
    if !known {
        let reply = stores.kit.batch.submit(&stores, CreateMallStore, None, ports::new_id()).await;
        reply.map_err(|error| Fault::Bug(format!("the mall's own store was not created: {error}")))?;
    }
    Ok(())
}

/// Creates the mall's own store, unless it exists.
struct CreateMallStore;

impl Command for CreateMallStore {
    type Service = Stores;
    const OPERATION: &'static str = "stores.found_mall";

    async fn handle<'a>(stores: &'a Stores, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        if !store::exists(&mut work.tx, MALL_STORE).await? {
            let mall = Store { id: MALL_STORE, name: MALL_NAME.into(), seller_id: None, created_at: work.now };
            store::insert(&mut work.tx, [&mall]).await?;
            let created = StoreCreated { store_id: mall.id, seller_id: None, name: mall.name };
            work.emit(mall.id, Message::StoreCreated(created))?;
            let cache = Arc::clone(&stores.cache);
            work.after_commit(move || cache.invalidate());
        }
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
