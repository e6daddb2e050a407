//! Timed jobs of stock: reports overdue holds. Only the saga of an order may end its holds.

use crate::{Stock, store};
use kit::{
    DbError,
    jobs::{Job, Pass},
};
use std::{sync::Arc, time::Duration};

/// Time after the deadline of a hold until it is reported. The saga normally ends a hold within a minute of its deadline.
const GRACE: Duration = Duration::from_secs(600);
/// Time between two runs: short enough for an alarm.
const INTERVAL: Duration = Duration::from_secs(60);

pub fn all(stock: &Arc<Stock>) -> Vec<Job> {
    let stock = Arc::clone(stock);
    let report = move || {
        let stock = Arc::clone(&stock);
        async move { report_overdue_holds(&stock).await }
    };
    vec![Job::new("stock.expire", INTERVAL, report)]
}

async fn report_overdue_holds(stock: &Stock) -> Result<Pass, DbError> {
    let before = stock.kit.clock.now().before(GRACE);
    let (orders, oldest) = store::overdue(&mut *stock.kit.db.reader().await?, before).await?;
    metrics::gauge!("onrush_stock_overdue_orders").set(orders as f64);
    if let Some(oldest) = oldest {
        tracing::error!(orders, oldest = %oldest, "holds overdue: the sagas of these orders are stuck");
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
    use kit::{Module, ports::new_id};
    use testkit::{App, START, StubService};

    // I-S5
    #[tokio::test]
    async fn only_holds_past_their_deadline_are_overdue() {
        let app = App::start(|kit| {
            let stock = Arc::new(Stock::new(kit.clone())) as Arc<dyn Module>;
            vec![stock, Arc::new(StubService::new(kit, "orders")), Arc::new(StubService::new(kit, "catalog"))]
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
