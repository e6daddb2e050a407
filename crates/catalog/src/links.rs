//! Answers to calls of other services.

use crate::Catalog;
use contracts::calls::{GetPrices, PricedSku};
use kit::{DbError, links::CallHandlers};
use std::sync::Arc;

pub fn register(catalog: &Arc<Catalog>, handlers: &mut CallHandlers) {
    handlers.register_for(catalog, prices);
}

async fn prices(catalog: Arc<Catalog>, call: GetPrices) -> Result<Vec<PricedSku>, DbError> {
    catalog.prices(&call.skus).await
}
