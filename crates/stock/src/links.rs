//! Answers to calls of other services.

use crate::{Stock, store};
use contracts::{
    Sku,
    calls::{GetAvailability, GetStockVersion},
};
use kit::{DbError, links::CallHandlers};
use std::{collections::HashMap, sync::Arc};

pub fn register(stock: &Arc<Stock>, handlers: &mut CallHandlers) {
    handlers.register_for(stock, availability);
    handlers.register_for(stock, version);
}

/// Units of each SKU that can be ordered now. Unknown SKUs are missing.
async fn availability(stock: Arc<Stock>, call: GetAvailability) -> Result<HashMap<Sku, i64>, DbError> {
    let (mut found, missing) = stock.availability.get(&call.skus);
    if !missing.is_empty() {
        let read_at = stock.availability.now();
        let read = store::available(&mut *stock.kit.db.reader().await?, &missing).await?;
        stock.availability.insert_read(&read, read_at);
        found.extend(read);
    }
    Ok(found)
}

async fn version(stock: Arc<Stock>, _: GetStockVersion) -> Result<u64, DbError> {
    Ok(stock.availability.version())
}
