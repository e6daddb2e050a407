//! Orders placed from the cart.

use crate::{
    participants_stub::Reaction,
    world::{Code, World, header, id_of, with_field},
};
use contracts::{Sku, calls::CouponScope};
use serde_json::{Value, json};

impl World {
    pub async fn put(&self, sku: Sku, quantity: i64) -> Value {
        let body = json!({"quantity": quantity});
        self.app.put(format!("/v1/cart/items/{sku}")).bearer(&self.token).json(&body).send().await.expect(200).body
    }

    pub async fn cart(&self) -> Value {
        self.app.get("/v1/cart").bearer(&self.token).send().await.expect(200).body
    }

    /// Quantities of these items in the cart, 0 for absent ones.
    pub async fn quantities(&self, skus: &[Sku]) -> Vec<i64> {
        let cart = self.cart().await;
        let items = cart["items"].as_array().expect("a list");
        let of = |sku: &Sku| items.iter().find(|item| item["sku"] == json!(sku)).and_then(|item| item["quantity"].as_i64()).unwrap_or(0);
        skus.iter().map(of).collect()
    }
}

// O1, K4
#[tokio::test]
async fn paid_items_leave_the_cart() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let (a, b, c) = (world.sell(1_000), world.sell_deduct_on_payment(2_000), world.sell(3_000));
        world.put(a, 2).await;
        let version = world.put(b, 1).await["version"].clone();
        let body = json!({"from_cart": true, "cart_version": version, "expected_total": 4_000});
        let id = world.order_in_state(&body, "AWAITING_PAYMENT").await;
        assert_eq!(world.get(id).await["lines"].as_array().map(Vec::len), Some(2));
        // The items stay until the order is paid. Quantities added meanwhile stay after it, too.
        assert_eq!(world.quantities(&[a, b, c]).await, [2, 1, 0]);
        world.put(a, 3).await;
        world.put(c, 1).await;
        let _ = world.pay(id, "p").await.expect(200);
        assert_eq!(world.quantities(&[a, b, c]).await, [1, 0, 1]);
        world.audit().await;
    }
}

#[tokio::test]
async fn an_order_paid_in_one_call_empties_the_cart() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let sku = world.sell(1_000);
        world.put(sku, 2).await;
        let made = world.order("k", &json!({"from_cart": true, "payment": {"method": "wallet"}})).await.expect(201);
        assert_eq!((&made.body["state"], &made.body["total"]), (&json!("PAID"), &json!(2_000)));
        assert_eq!(world.quantities(&[sku]).await, [0]);
    }
}

// K4
#[tokio::test]
async fn unpaid_items_stay_in_the_cart() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let sku = world.sell(1_000);
        world.put(sku, 2).await;
        let body = json!({"from_cart": true, "payment": {"method": "wallet"}});
        world.set_reaction("payment.request", Reaction::Refuse(Code::InsufficientFunds));
        let _ = world.order("k", &body).await.expect_problem(409, "insufficient-funds");
        let id = world.order_in_state(&json!({"from_cart": true}), "AWAITING_PAYMENT").await;
        let _ = world.cancel(id, "c").await.expect(200);
        let id = world.order_in_state(&json!({"from_cart": true}), "AWAITING_PAYMENT").await;
        world.advance_clock(crate::world::PAST_UNPAID_TIMEOUT).await;
        world.wait_for_state(id, "EXPIRED").await;
        assert_eq!(world.quantities(&[sku]).await, [2]);
    }
}

#[tokio::test]
async fn orders_of_listed_items_do_not_change_the_cart() {
    let world = World::new().await;
    let sku = world.sell(1_000);
    let before = world.put(sku, 2).await;
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "payment": {"method": "wallet"}});
    let _ = world.order_in_state(&body, "PAID").await;
    assert_eq!(world.cart().await["version"], before["version"]);
    assert_eq!(world.quantities(&[sku]).await, [2]);
}

// row 61: a double click sends two keys with one version, and places one order.
#[tokio::test]
async fn one_cart_version_is_ordered_once() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let version = world.put(world.sell(1_000), 1).await["version"].clone();
        let body = json!({"from_cart": true, "cart_version": version});
        let keys: Vec<String> = (0..6).map(|n| format!("k{n}")).collect();
        let clicks = futures::future::join_all(keys.iter().map(|key| world.order(key, &body))).await;
        assert_eq!(clicks.iter().filter(|click| click.status == 201).count(), 1);
        assert_eq!(clicks.iter().filter(|click| (click.status, click.problem()) == (409, "cart-changed")).count(), 5);
        let later = world.order("later", &body).await.expect_problem(409, "cart-changed");
        let again = world.order("later", &body).await.expect_problem(409, "cart-changed");
        assert_eq!((&again.bytes, header(&again, "idempotent-replayed")), (&later.bytes, Some("true")));
        assert_eq!(world.order_count().await, 1);
        world.audit().await;
    }
}

#[tokio::test]
async fn a_changed_cart_is_not_ordered_by_its_old_version() {
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
async fn an_order_names_items_or_the_cart() {
    let world = World::new().await;
    let _ = world.order("k1", &json!({"from_cart": true})).await.expect_problem(422, "empty-order");
    let sku = world.sell(1_000);
    world.put(sku, 1).await;
    let refused = world.order("k3", &with_field(world.plain(), "cart_version", json!(1))).await.expect_problem(422, "invalid-field");
    assert_eq!(refused.body["errors"][0]["pointer"], "/cart_version");
    world.participants.withdraw(sku);
    let _ = world.order("k4", &json!({"from_cart": true})).await.expect_problem(409, "not-on-sale");
    assert_eq!(world.order_count().await, 0);
}

// R8
#[tokio::test]
async fn named_lines_of_the_cart_are_ordered_with_their_coupons() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let (a, b) = (world.sell(1_000), world.sell(2_000));
        world.put(a, 3).await;
        let version = world.put(b, 1).await["version"].clone();
        let coupon = world.participants.issue(world.buyer, CouponScope::Item, 500);
        let order = |quantity: u32| json!({"sku": a, "quantity": quantity, "issued_coupon_id": coupon});
        let body = json!({"from_cart": true, "cart_version": version, "items": [order(2)]});
        let id = world.order_in_state(&body, "AWAITING_PAYMENT").await;
        let made = world.get(id).await;
        assert_eq!((&made["total"], made["lines"].as_array().map(Vec::len)), (&json!(1_500), Some(1)));
        assert_eq!(world.quantities(&[a, b]).await, [3, 1]);
        let _ = world.pay(id, "p").await.expect(200);
        assert_eq!(world.quantities(&[a, b]).await, [1, 1]);
        world.audit().await;
    }
}

// R8
#[tokio::test]
async fn lines_beyond_the_cart_are_refused() {
    let world = World::new().await;
    let (a, b) = (world.sell(1_000), world.sell(2_000));
    world.put(a, 3).await;
    let item = |sku, quantity: u32| json!({"sku": sku, "quantity": quantity});
    for (n, (items, pointer)) in [
        (json!([item(b, 1)]), "/items/0/sku"),
        (json!([item(a, 4)]), "/items/0/quantity"),
        (json!([item(a, 2), item(a, 2)]), "/items/1/quantity"),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = world.order(&format!("k{n}"), &json!({"from_cart": true, "items": items})).await;
        assert_eq!(refused.expect_problem(422, "invalid-field").body["errors"][0]["pointer"], pointer);
    }
    assert_eq!(world.order_count().await, 0);
}

// R10
#[tokio::test]
async fn items_that_are_not_on_sale_stay_out_of_the_cart() {
    let world = World::new().await;
    let sku = world.sell(1_000);
    world.put(sku, 2).await;
    world.participants.withdraw(sku);
    for unknown in [sku, Sku(kit::ports::new_id())] {
        let put = world.app.put(format!("/v1/cart/items/{unknown}")).bearer(&world.token).json(&json!({"quantity": 3}));
        let _ = put.send().await.expect_problem(409, "not-on-sale");
        let add = world.app.post("/v1/cart/items").bearer(&world.token).json(&json!({"sku": unknown, "quantity": 1}));
        let _ = add.send().await.expect_problem(409, "not-on-sale");
    }
    // It can still be taken out.
    assert_eq!(world.put(sku, 0).await["items"], json!([]));
}
