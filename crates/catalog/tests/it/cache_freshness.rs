//! The cache of the catalogue is never older than the last commit.

use crate::world::World;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

// P13
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replaced_price_is_never_read_again() {
    let world = World::new().await;
    let (of, sku) = world.product("Rose", 0, 5).await;
    let (acknowledged, done) = (AtomicI64::new(0), AtomicBool::new(false));
    let writer = async {
        for price in 1..=200 {
            let _ = world.change(of, &json!({"price": price})).await.expect(200);
            acknowledged.store(price, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    };
    let reader = async || {
        let mut reads = 0;
        while !done.load(Ordering::SeqCst) {
            let before = acknowledged.load(Ordering::SeqCst);
            let priced = world.prices(&[sku]).await[0].price.0;
            assert!(priced >= before, "{priced} after {before} was acknowledged");
            let before = acknowledged.load(Ordering::SeqCst);
            let shown = world.detail(of).await["price"].as_i64().expect("a price");
            assert!(shown >= before, "{shown} after {before} was acknowledged");
            let before = acknowledged.load(Ordering::SeqCst);
            let listed = world.list("?sort=price_asc").await["items"][0]["price"].as_i64().expect("a price");
            assert!(listed >= before, "{listed} after {before} was acknowledged");
            reads += 1;
            tokio::task::yield_now().await;
        }
        reads
    };
    let (_, first, second) = futures::join!(writer, reader(), reader());
    assert!(first > 0 && second > 0);
}
