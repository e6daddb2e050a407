//! Orders from the cart.

use crate::{
    others::Reaction,
    world::{Code, World, header, id_of, with},
};
use contracts::Sku;
use serde_json::{Value, json};

impl World {
    pub async fn put(&self, sku: Sku, quantity: i64) -> Value {
        let body = json!({"quantity": quantity});
        self.app.put(format!("/v1/cart/items/{sku}")).bearer(&self.token).json(&body).send().await.expect(200).body
    }

    pub async fn cart(&self) -> Value {
        self.app.get("/v1/cart").bearer(&self.token).send().await.expect(200).body
    }

    /// The quantities of these in the cart; 0 for what is not there.
    pub async fn quantities(&self, skus: &[Sku]) -> Vec<i64> {
        let cart = self.cart().await;
        let items = cart["items"].as_array().expect("a list");
        let of = |sku: &Sku| items.iter().find(|item| item["sku"] == json!(sku)).and_then(|item| item["quantity"].as_i64()).unwrap_or(0);
        skus.iter().map(of).collect()
    }
}

// O1, K4
#[tokio::test]
async fn what_was_paid_leaves_the_cart() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        let (a, b, c) = (world.sell(1_000), world.sell_late(2_000), world.sell(3_000));
        world.put(a, 2).await;
        let version = world.put(b, 1).await["version"].clone();
        let body = json!({"from_cart": true, "cart_version": version, "expected_total": 4_000});
        let id = world.ordered(&body, "AWAITING_PAYMENT").await;
        assert_eq!(world.get(id).await["lines"].as_array().map(Vec::len), Some(2));
        // Unpaid it stays; what is added meanwhile stays too.
        assert_eq!(world.quantities(&[a, b, c]).await, [2, 1, 0]);
        world.put(a, 3).await;
        world.put(c, 1).await;
        let _ = world.pay(id, "p").await.expect(200);
        assert_eq!(world.quantities(&[a, b, c]).await, [1, 0, 1]);
        world.audit().await;
    }
}

#[tokio::test]
async fn paid_in_one_call_the_cart_is_empty_at_once() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        let sku = world.sell(1_000);
        world.put(sku, 2).await;
        let made = world.order("k", &json!({"from_cart": true, "payment": {"method": "wallet"}})).await.expect(201);
        assert_eq!((&made.body["state"], &made.body["total"]), (&json!("PAID"), &json!(2_000)));
        assert_eq!(world.quantities(&[sku]).await, [0]);
    }
}

// K4
#[tokio::test]
async fn what_was_not_paid_stays() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        let sku = world.sell(1_000);
        world.put(sku, 2).await;
        let body = json!({"from_cart": true, "payment": {"method": "wallet"}});
        world.meet("payment.request", Reaction::Refuse(Code::InsufficientFunds));
        let _ = world.order("k", &body).await.expect_problem(409, "insufficient-funds");
        let id = world.ordered(&json!({"from_cart": true}), "AWAITING_PAYMENT").await;
        let _ = world.cancel(id, "c").await.expect(200);
        let id = world.ordered(&json!({"from_cart": true}), "AWAITING_PAYMENT").await;
        world.pass(crate::world::UNPAID).await;
        world.reaches(id, "EXPIRED").await;
        assert_eq!(world.quantities(&[sku]).await, [2]);
    }
}

#[tokio::test]
async fn orders_that_do_not_come_from_the_cart_leave_it_alone() {
    let world = World::new().await;
    let sku = world.sell(1_000);
    let before = world.put(sku, 2).await;
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "payment": {"method": "wallet"}});
    let _ = world.ordered(&body, "PAID").await;
    assert_eq!(world.cart().await["version"], before["version"]);
    assert_eq!(world.quantities(&[sku]).await, [2]);
}

// row 61: double click. Two keys, one version: one order.
#[tokio::test]
async fn two_orders_of_one_version_are_one_order() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        let version = world.put(world.sell(1_000), 1).await["version"].clone();
        let body = json!({"from_cart": true, "cart_version": version});
        let keys: Vec<String> = (0..6).map(|n| format!("k{n}")).collect();
        let clicks = futures::future::join_all(keys.iter().map(|key| world.order(key, &body))).await;
        assert_eq!(clicks.iter().filter(|click| click.status == 201).count(), 1);
        assert_eq!(clicks.iter().filter(|click| (click.status, click.problem()) == (409, "cart-changed")).count(), 5);
        let later = world.order("later", &body).await.expect_problem(409, "cart-changed");
        let again = world.order("later", &body).await.expect_problem(409, "cart-changed");
        assert_eq!((&again.bytes, header(&again, "idempotent-replayed")), (&later.bytes, Some("true")));
        assert_eq!(world.count().await, 1);
        world.audit().await;
    }
}

#[tokio::test]
async fn a_cart_that_changed_since_it_was_seen_is_not_ordered() {
    let world = World::new().await;
    let (a, b) = (world.sell(1_000), world.sell(2_000));
    let seen = world.put(a, 1).await["version"].clone();
    world.put(b, 1).await;
    let body = json!({"from_cart": true, "cart_version": seen});
    let _ = world.order("k1", &body).await.expect_problem(409, "cart-changed");
    let quote = |body: Value| world.app.post("/v1/quotes").bearer(&world.token).json(&body).send();
    let _ = quote(body).await.expect_problem(409, "cart-changed");
    assert_eq!(quote(json!({"from_cart": true})).await.expect(200).body["total"], 3_000);
    let seen = world.cart().await["version"].clone();
    let made = world.order("k2", &json!({"from_cart": true, "cart_version": seen})).await.expect(201);
    assert_eq!(world.get(id_of(&made)).await["total"], 3_000);
}

#[tokio::test]
async fn a_cart_order_is_either_or() {
    let world = World::new().await;
    let _ = world.order("k1", &json!({"from_cart": true})).await.expect_problem(422, "empty-order");
    let sku = world.sell(1_000);
    world.put(sku, 1).await;
    let both = with(world.plain(), "from_cart", json!(true));
    let refused = world.order("k2", &both).await.expect_problem(422, "invalid-field");
    assert_eq!(refused.body["errors"][0]["pointer"], "/items");
    let refused = world.order("k3", &with(world.plain(), "cart_version", json!(1))).await.expect_problem(422, "invalid-field");
    assert_eq!(refused.body["errors"][0]["pointer"], "/cart_version");
    world.others.withdraw(sku);
    let _ = world.order("k4", &json!({"from_cart": true})).await.expect_problem(409, "not-on-sale");
    assert_eq!(world.count().await, 0);
}
