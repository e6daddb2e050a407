//! `stock.set`

use crate::world::{World, numbers, order};
use contracts::{MemberId, Sku};
use futures::future::join_all;
use kit::{auth::Role, ports::new_id};
use serde_json::json;

#[tokio::test]
async fn a_count_replaces_the_units_on_hand() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    for (token, on_hand) in [(world.seller(), 8), (world.operator(), 8), (world.seller(), 0)] {
        let answer = world.app.put(format!("/v1/stock/{sku}")).bearer(&token).json(&json!({"on_hand": on_hand})).send().await.expect(200);
        assert_eq!(numbers(&answer.body), [on_hand, 0, on_hand, 0]);
    }
    assert_eq!(world.app.sql_i64("select count(*) from stock_movements where kind='SET'").await, 2, "8 to 8 moves nothing");
    world.audit().await;
}

#[tokio::test]
async fn a_count_below_the_held_units_is_refused() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    world.send(of, vec![world.reserve(of, &[(sku, 3)])]).await;
    let put = |on_hand: i64| world.app.put(format!("/v1/stock/{sku}")).bearer(&world.seller()).json(&json!({"on_hand": on_hand})).send();
    let _ = put(2).await.expect_problem(409, "stock-below-reserved");
    assert_eq!(world.levels(sku).await, [5, 3, 2, 0]);
    assert_eq!(numbers(&put(3).await.expect(200).body), [3, 3, 0, 0]);
    world.audit().await;
}

// N6: nothing counted is written over what was sold meanwhile.
#[tokio::test]
async fn a_count_of_an_outdated_level_is_refused() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let put = |body| world.app.put(format!("/v1/stock/{sku}")).bearer(&world.seller()).json(&body).send();
    let refused = put(json!({"on_hand": 9, "seen": 4})).await.expect_problem(409, "stock-changed");
    assert_eq!(refused.body["detail"], "5 units are on hand now");
    assert_eq!(world.levels(sku).await, [5, 0, 5, 0]);
    assert_eq!(numbers(&put(json!({"on_hand": 9, "seen": 5})).await.expect(200).body), [9, 0, 9, 0]);
    world.audit().await;
}

// S1
#[tokio::test(flavor = "multi_thread")]
async fn counts_during_orders_never_oversell() {
    let world = World::new().await;
    let sku = world.sku(50).await;
    let orders: Vec<_> = (0..40).map(|_| order()).collect();
    let reserve = join_all(orders.iter().map(|of| world.send(*of, vec![world.reserve(*of, &[(sku, 1)])])));
    let seller = world.seller();
    let count = join_all((0..40).map(|n| {
        let put = world.app.put(format!("/v1/stock/{sku}")).bearer(&seller).json(&json!({"on_hand": n})).send();
        async move {
            let answer = put.await;
            assert!(matches!(answer.status, 200 | 409), "{answer:?}");
        }
    }));
    futures::join!(reserve, count);
    let held = world.count_messages("stock.reserved").await as i64;
    let [_, reserved, available, _] = world.levels(sku).await;
    assert_eq!((reserved, available >= 0), (held, true));
    world.audit().await;
}

// row 60
#[tokio::test]
async fn the_same_key_gets_the_same_answer() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let put = |on_hand: i64| {
        world.app.put(format!("/v1/stock/{sku}")).bearer(&world.seller()).key("count-1").json(&json!({"on_hand": on_hand})).send()
    };
    let first = put(7).await.expect(200);
    let again = put(7).await.expect(200);
    assert_eq!((first.bytes, again.headers.get("idempotent-replayed").is_some()), (again.bytes, true));
    let _ = put(8).await.expect_problem(422, "idempotency-key-mismatch");
}

// rows 23, 40
#[tokio::test]
async fn sellers_count_only_in_their_own_store() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let put = |sku: Sku, token: String| world.app.put(format!("/v1/stock/{sku}")).bearer(&token).json(&json!({"on_hand": 1})).send();
    let _ = put(sku, world.app.token(MemberId(new_id()), Role::Seller)).await.expect_problem(404, "not-found");
    let _ = put(sku, world.app.token(MemberId(new_id()), Role::Customer)).await.expect_problem(403, "forbidden");
    let _ = put(Sku(new_id()), world.operator()).await.expect_problem(404, "not-found");
    let _ = world.app.put(format!("/v1/stock/{sku}")).json(&json!({"on_hand": 1})).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(world.levels(sku).await, [5, 0, 5, 0]);
}
