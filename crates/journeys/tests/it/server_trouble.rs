//! Trouble of the database server that passes: no order is lost in it.

use crate::mall::Mall;
use kit::Db;
use serde_json::json;
use std::time::Duration;

/// Lets each reservation of stock fail as on a server without memory.
const OUT_OF_MEMORY: &str = "create function stock.out_of_memory() returns trigger language plpgsql as
     $$ begin raise exception 'out of memory' using errcode = '53200'; end $$;
     create trigger out_of_memory before insert on stock.stock_holds for each row execute function stock.out_of_memory();";
const MEMORY_AGAIN: &str = "drop trigger out_of_memory on stock.stock_holds";
const TROUBLE: Duration = Duration::from_secs(2);

async fn execute(mall: &Mall, sql: &str) {
    let postgres = mall.app.postgres().expect("the mall is on PostgreSQL");
    let db = Db::postgres(&postgres.url, contracts::SERVICES).expect("it is the URL of this test");
    db.open_writer().await.expect("the database is there").batch(sql).await.expect("the statement runs");
}

// finding 3: the test gives a message up after three tries of its own, but never for trouble of the server.
#[tokio::test(flavor = "multi_thread")]
async fn two_seconds_without_memory_cost_no_order() {
    let mall = Mall::on_postgres().await;
    let sku = mall.product(10_000, 50).await;
    let shoppers = mall.shoppers(5, 1_000_000, 0).await;
    execute(&mall, OUT_OF_MEMORY).await;
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "payment": {"method": "wallet"}});
    let orders = futures::future::join_all(shoppers.iter().map(|shopper| mall.order(shopper, &body).send()));
    let recovery = async {
        tokio::time::sleep(TROUBLE).await;
        execute(&mall, MEMORY_AGAIN).await;
    };
    let (orders, ()) = futures::join!(orders, recovery);
    for order in orders {
        assert_eq!(order.expect(201).body["state"], "PAID");
    }
    assert_eq!(mall.app.sql_i64("select count(*) from stock_dead_letters").await, 0);
    mall.assert_clean("after two seconds without memory").await;
}
