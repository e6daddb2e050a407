//! What stock does by the clock: it watches for holds that outlive their time. Ending them is the saga's work, so it only tells.

use crate::{Stock, store};
use kit::{
    DbError,
    jobs::{Job, Pass},
};
use std::{sync::Arc, time::Duration};

/// An order comes back for its hold within a minute of its deadline; ten minutes later something is wrong.
const GRACE: Duration = Duration::from_secs(600);
/// Often enough for an alarm.
const EVERY: Duration = Duration::from_secs(60);

pub fn all(stock: &Arc<Stock>) -> Vec<Job> {
    let stock = Arc::clone(stock);
    let expire = move || {
        let stock = Arc::clone(&stock);
        async move { watch_holds(&stock).await }
    };
    vec![Job::new("stock.expire", EVERY, expire)]
}

async fn watch_holds(stock: &Stock) -> Result<Pass, DbError> {
    let before = stock.kit.clock.now().before(GRACE);
    let (orders, oldest) = store::overdue(&mut *stock.kit.db.reader().await?, before).await?;
    metrics::gauge!("onrush_stock_overdue_orders").set(orders as f64);
    if let Some(oldest) = oldest {
        tracing::error!(orders, oldest = %oldest, "orders hold stock long past their deadline: their sagas are stuck");
    }
    Ok(Pass::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{
        Message, OrderId, ProductId, Sku, StoreId,
        messages::{SkuListed, SkusListed, StepCommand, StockLine, StockPolicy, StockReserve},
    };
    use kit::{
        Service,
        ports::new_id,
        testing::{App, Puppet, START},
    };

    // I-S5
    #[tokio::test]
    async fn only_what_is_held_past_its_time_is_overdue() {
        let app = App::start(|kit| {
            let stock = Arc::new(Stock::new(kit.clone())) as Arc<dyn Service>;
            vec![stock, Puppet::new(kit, "orders"), Puppet::new(kit, "catalog")]
        })
        .await;
        let (product_id, sku) = (ProductId(new_id()), Sku(new_id()));
        let (store_id, policy, skus) = (StoreId(new_id()), StockPolicy::ReserveOnOrder, vec![SkuListed { sku, stock: 9 }]);
        app.emit("catalog", product_id, Message::SkusListed(SkusListed { product_id, store_id, policy, skus })).await;
        let deadline = START.after(Duration::from_secs(600));
        let orders: Vec<OrderId> = (0..3).map(|_| OrderId(new_id())).collect();
        for order_id in &orders {
            let reserve = vec![StockLine { line_no: 1, sku, quantity: 1 }];
            let ask = StockReserve { order_id: *order_id, reserve, check_only: vec![], expires_at: deadline };
            app.emit("orders", *order_id, Message::StockReserve(ask)).await;
        }
        let ended = [Message::StockCommit(StepCommand { order_id: orders[1] }), Message::StockRelease(StepCommand { order_id: orders[2] })];
        for (message, order_id) in ended.into_iter().zip(&orders[1..]) {
            app.emit("orders", *order_id, message).await;
        }
        let mut reader = app.kit().db.reader().await.expect("a reader");
        assert_eq!(store::overdue(&mut reader, deadline).await.expect("it runs"), (0, None));
        let later = deadline.after(Duration::from_micros(1));
        assert_eq!(store::overdue(&mut reader, later).await.expect("it runs"), (1, Some(deadline)));
        drop(reader);
        app.job("stock.expire").await;
    }
}
