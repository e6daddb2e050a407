//! `stock.adjust`

use crate::world::{World, numbers, order};
use contracts::{MemberId, Sku};
use futures::future::join_all;
use kit::{auth::Role, ports::new_id};
use serde_json::json;

#[tokio::test]
async fn units_are_added_and_subtracted() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let adjust = |delta: i64| {
        let body = json!({"delta": delta, "reason": "two bottles broke"});
        world.app.post(format!("/v1/stock/{sku}/adjustments")).bearer(&world.seller()).json(&body).send()
    };
    assert_eq!(numbers(&adjust(3).await.expect(200).body), [8, 0, 8, 0]);
    assert_eq!(numbers(&adjust(-8).await.expect(200).body), [0, 0, 0, 0]);
    let _ = adjust(-1).await.expect_problem(409, "stock-below-reserved");
    let kept: Vec<(i64, String)> = world.app.rows("select quantity, reason from stock_movements where kind='ADJUST' order by n").await;
    assert_eq!(kept, [(3, "two bottles broke".to_owned()), (-8, "two bottles broke".to_owned())]);
    world.audit().await;
}

#[tokio::test]
async fn held_units_cannot_be_subtracted() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    world.send(of, vec![world.reserve(of, &[(sku, 3)])]).await;
    let body = json!({"delta": -3, "reason": "broken"});
    let answer = world.app.post(format!("/v1/stock/{sku}/adjustments")).bearer(&world.operator()).json(&body).send().await;
    let _ = answer.expect_problem(409, "stock-below-reserved");
    assert_eq!(world.levels(sku).await, [5, 3, 2, 0]);
}

/// 100 concurrent changes, as in the seeds: the result is exact.
// S1 S3
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_simultaneous_changes_add_up() {
    let world = World::new().await;
    let sku = world.sku(100).await;
    let seller = world.seller();
    let changes = (0..100).map(|n| {
        let body = json!({"delta": if n % 2 == 0 { 1 } else { -1 }, "reason": "count"});
        let post = world.app.post(format!("/v1/stock/{sku}/adjustments")).bearer(&seller).json(&body).send();
        async move { post.await.status }
    });
    assert_eq!(join_all(changes).await, [200; 100]);
    assert_eq!(world.levels(sku).await, [100, 0, 100, 0]);
    assert_eq!(world.app.sql_i64("select count(*) from stock_movements").await, 101);
    world.audit().await;
}

// row 60
#[tokio::test]
async fn a_repeat_with_the_same_key_adds_once() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let body = json!({"delta": 2, "reason": "delivery"});
    let adjust = |token: String| world.app.post(format!("/v1/stock/{sku}/adjustments")).bearer(&token).key("delivery-7").json(&body).send();
    let first = adjust(world.seller()).await.expect(200);
    let again = adjust(world.seller()).await.expect(200);
    assert_eq!((&first.bytes, again.headers.get("idempotent-replayed").is_some()), (&again.bytes, true));
    assert_eq!(numbers(&adjust(world.operator()).await.expect(200).body), [9, 0, 9, 0], "another account's key is another key");
}

// rows 23, 40
#[tokio::test]
async fn sellers_adjust_only_in_their_own_store() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let body = json!({"delta": 2, "reason": "delivery"});
    let adjust = |sku: Sku, token: String| world.app.post(format!("/v1/stock/{sku}/adjustments")).bearer(&token).json(&body).send();
    let _ = adjust(sku, world.app.token(MemberId(new_id()), Role::Seller)).await.expect_problem(404, "not-found");
    let _ = adjust(sku, world.app.token(MemberId(new_id()), Role::Customer)).await.expect_problem(403, "forbidden");
    let _ = adjust(Sku(new_id()), world.operator()).await.expect_problem(404, "not-found");
    let _ = world.app.post(format!("/v1/stock/{sku}/adjustments")).json(&body).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(world.levels(sku).await, [5, 0, 5, 0]);
}
