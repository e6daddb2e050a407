//! Answers to calls of other services. Read-only.

use crate::{Orders, store};
use contracts::calls::CountOpenOrders;
use kit::{DbError, links::CallHandlers};
use std::sync::Arc;

pub fn register(orders: &Arc<Orders>, handlers: &mut CallHandlers) {
    handlers.register_for(orders, open_orders);
}

async fn open_orders(orders: Arc<Orders>, call: CountOpenOrders) -> Result<u64, DbError> {
    store::count_open(&mut *orders.kit.db.reader().await?, call.member_id).await
}
