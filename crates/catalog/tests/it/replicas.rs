//! Several processes on one database: a change on one is visible on the others within moments, and no change is lost.

use crate::world::{World, names};
use contracts::Won;
use serde_json::json;
use std::time::Duration;
use testkit::App;

async fn two_processes() -> (World, World) {
    let one = World::with(App::builder().on_postgres()).await;
    let other = one.beside().await;
    (one, other)
}

/// Waits for a condition: a change on one process is visible on the others within moments. Fails after 6 seconds.
async fn wait_until(is_met: impl AsyncFn() -> bool) {
    for _ in 0..300 {
        if is_met().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the condition was not met");
}

// P13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_changed_on_one_process_is_charged_by_the_other() {
    let (one, other) = two_processes().await;
    let (of, sku) = one.product("Rose", 100, 5).await;
    wait_until(async || !other.prices(&[sku]).await.is_empty()).await;
    for (price, changing) in [(150, &one), (200, &other), (250, &one)] {
        // Both processes cache the price before it changes.
        let _ = (one.prices(&[sku]).await, other.prices(&[sku]).await, one.list("").await, other.list("").await);
        let _ = changing.change(of, &json!({"price": price})).await.expect(200);
        assert_eq!(changing.prices(&[sku]).await[0].price, Won(price), "at once where it was changed");
        for world in [&one, &other] {
            wait_until(async || world.prices(&[sku]).await[0].price == Won(price)).await;
            wait_until(async || world.detail(of).await["price"] == price).await;
            wait_until(async || world.list("").await["items"][0]["price"] == price).await;
        }
    }
}

// P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_deleted_on_one_process_is_gone_on_both() {
    let (one, other) = two_processes().await;
    let (of, sku) = one.product("Rose", 100, 5).await;
    wait_until(async || names(&other.list("").await) == ["Rose"]).await;
    let _ = one.app.delete(format!("/v1/products/{of}")).bearer(&one.seller()).send().await.expect(204);
    wait_until(async || names(&other.list("").await).is_empty()).await;
    wait_until(async || other.prices(&[sku]).await.is_empty()).await;
    wait_until(async || other.app.get(format!("/v1/products/{of}")).send().await.status == 404).await;
}

// P1, P5, row 60: simultaneous changes of one product on both processes are all kept, and a key counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_on_two_processes_are_all_kept() {
    let (one, other) = two_processes().await;
    let (of, _) = one.product("Rose", 100, 5).await;
    let add = async |world: &World, name: String| {
        let body = json!({"add_options": [{"name": name}]});
        let request = world.app.patch(format!("/v1/products/{of}")).bearer(&world.seller()).key(&name).json(&body);
        request.send().await.expect(200)
    };
    for n in 0..10 {
        let (first, again, second) = tokio::join!(add(&one, format!("a{n}")), add(&other, format!("a{n}")), add(&other, format!("b{n}")));
        assert_eq!(first.bytes, again.bytes);
        assert_ne!(first.bytes, second.bytes);
    }
    assert_eq!(one.app.sql_i64("select count(*) from catalog_options where not deleted").await, 21);
    assert_eq!(one.app.sql_i64("select version from catalog_products").await, 21);
}
