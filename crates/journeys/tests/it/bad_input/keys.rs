//! Rows 56 to 62: idempotency keys, double clicks, and illegal transitions of orders.

use super::{Case, World, refused, scenario};
use crate::mall::{Mall, WAIT_SECONDS, fold_settings, paid_order, text, unpaid_order};
use serde_json::{Value, json};
use testkit::{TestRequest, TestResponse};

pub fn cases(world: &World) -> Vec<Case<'_>> {
    let mut cases = missing(world);
    cases.extend(unacceptable(world));
    cases.extend(vec![
        scenario("row 57: another body", another_body(world)),
        scenario("row 58: while the first still runs", still_running()),
        scenario("row 59: another member's key", independent(world)),
        scenario("row 60: replays", replays(world)),
        scenario("row 61: a double click", double_click(world)),
        scenario("row 62: cancelled, shipped, cancelled and paid", illegal_transitions(world)),
    ]);
    cases
}

fn missing(world: &World) -> Vec<Case<'_>> {
    let (app, order) = (&world.mall.app, &world.unpaid);
    let operator = &world.mall.operator.token;
    let grant = json!({"member_id": world.buyer.id, "amount": 5, "reason": "thanks"});
    let requests = [
        ("order", app.post("/v1/orders").bearer(&world.buyer.token).json(&paid_order(&world.sku))),
        ("pay", app.post(format!("/v1/orders/{order}/payments")).bearer(&world.buyer.token).json(&json!({"method": "wallet"}))),
        ("cancel, which refunds", app.post(format!("/v1/orders/{order}/cancellation")).bearer(&world.buyer.token).json(&json!({}))),
        ("charge", app.post("/v1/wallet/charges").bearer(&world.buyer.token).json(&json!({"amount": 5_000}))),
        ("grant", app.post("/v1/wallet/grants").bearer(operator).json(&grant)),
    ];
    let mut cases: Vec<Case<'_>> =
        requests.map(|(name, request)| refused(format!("row 56: {name}"), request, 400, "idempotency-key-missing")).into();
    cases.push(scenario("row 56: a claim needs none: a member has it once", async {
        let coupon = world.mall.coupon(json!({})).await;
        let _ = world.mall.claim(&world.other, &coupon).send().await.expect(201);
        let _ = world.mall.claim(&world.other, &coupon).send().await.expect_problem(409, "already-issued");
    }));
    cases
}

fn unacceptable(world: &World) -> Vec<Case<'_>> {
    let charge = |key: &str| world.mall.app.post("/v1/wallet/charges").bearer(&world.buyer.token).key(key).json(&json!({"amount": 5_000}));
    vec![
        refused("row 59: 256 characters", charge(&"k".repeat(256)), 400, "invalid-key"),
        refused("row 59: 10,000 characters", charge(&"k".repeat(10_000)), 400, "invalid-key"),
        refused("row 59: empty", charge(""), 400, "invalid-key"),
        refused("row 59: a tab", charge("a\tb"), 400, "invalid-key"),
        refused("row 59: two keys", charge("a").key("b"), 400, "invalid-key"),
    ]
}

fn charge(world: &World, key: &str, amount: i64) -> TestRequest {
    world.mall.app.post("/v1/wallet/charges").bearer(&world.buyer.token).key(key).json(&json!({"amount": amount}))
}

async fn another_body(world: &World) {
    let _ = charge(world, "row-57", 5_000).send().await.expect(201);
    let (cash, _) = world.mall.wallet(&world.buyer).await;
    let _ = charge(world, "row-57", 6_000).send().await.expect_problem(422, "idempotency-key-mismatch");
    assert_eq!(world.mall.wallet(&world.buyer).await.0, cash);
}

async fn still_running() {
    for fold in fold_settings() {
        let mall = Mall::with_fold(*fold).await;
        let sku = mall.product(1_000, 5).await;
        let shopper = mall.shopper(10_000, 0).await;
        mall.app.faults.hold("stock", "stock.reserve");
        let order =
            || mall.app.post("/v1/orders").bearer(&shopper.token).key("row-58").header("prefer", WAIT_SECONDS).json(&paid_order(&sku));
        let first = tokio::task::JoinSet::from_iter([order().send()]);
        mall.app.eventually("select count(*) from orders_open_answers", 1).await;
        let second = order().send().await.expect_problem(409, "idempotency-in-progress");
        assert!(second.headers.contains_key("retry-after"));
        mall.app.faults.release("stock", "stock.reserve");
        // The next write wakes the released reader.
        let _ = mall.post(&shopper, "/v1/wallet/charges", &json!({"amount": 1_000})).send().await.expect(201);
        let first = first.join_all().await.remove(0).expect(201);
        assert_eq!(first.body["state"], "PAID");
        same(&first, &order().send().await);
        mall.finish().await;
    }
}

async fn independent(world: &World) {
    let _ = charge(world, "row-59", 5_000).send().await.expect(201);
    let other = world.mall.app.post("/v1/wallet/charges").bearer(&world.other.token).key("row-59").json(&json!({"amount": 5_000}));
    let other = other.send().await.expect(201);
    assert!(!other.headers.contains_key("idempotent-replayed"));
}

/// Expects the same bytes and the replay marker.
#[track_caller]
pub fn same(first: &TestResponse, replay: &TestResponse) {
    assert_eq!((first.status, &first.bytes), (replay.status, &replay.bytes));
    assert_eq!(first.headers.get("location"), replay.headers.get("location"));
    assert_eq!(replay.headers.get("idempotent-replayed").map(http::HeaderValue::as_bytes), Some(b"true".as_slice()));
    assert!(!first.headers.contains_key("idempotent-replayed"));
}

async fn replays(world: &World) {
    let order = |key: &str, quantity: i64| {
        let body = json!({"items": [{"sku": world.sku, "quantity": quantity}], "payment": {"method": "wallet"}});
        world.mall.app.post("/v1/orders").bearer(&world.buyer.token).key(key).header("prefer", WAIT_SECONDS).json(&body)
    };
    for (key, quantity, status) in [("row-60", 1, 201), ("row-60-refused", 1_000, 409)] {
        let first = order(key, quantity).send().await.expect(status);
        let before = world.mall.wallet(&world.buyer).await;
        for _ in 0..3 {
            same(&first, &order(key, quantity).send().await);
        }
        assert_eq!(world.mall.wallet(&world.buyer).await, before);
    }
}

async fn double_click(world: &World) {
    let mall = &world.mall;
    let put = mall.app.put(format!("/v1/cart/items/{}", world.sku)).bearer(&world.other.token).json(&json!({"quantity": 2}));
    let version = put.send().await.expect(200).body["version"].clone();
    let order = json!({"from_cart": true, "cart_version": version, "payment": {"method": "wallet"}});
    let answers = crate::mall::send_all(2, vec![mall.order(&world.other, &order), mall.order(&world.other, &order)]).await;
    let counts = (crate::mall::count_answers(&answers, 201, ""), crate::mall::count_answers(&answers, 409, "cart-changed"));
    assert_eq!(counts, (1, 1), "{:?}", crate::mall::tally(&answers));
    let _ = mall.order(&world.other, &order).send().await.expect_problem(409, "cart-changed");
}

async fn illegal_transitions(world: &World) {
    let mall = &world.mall;
    let buyer = &world.buyer;
    let order = text(&mall.order_in_state(buyer, &unpaid_order(&world.sku), "AWAITING_PAYMENT").await["id"]);
    let first = mall.cancel(buyer, &order).send().await.expect(200);
    let again = mall.cancel(buyer, &order).send().await.expect(200);
    assert_eq!((&first.body["state"], &first.bytes), (&json!("CANCELLED"), &again.bytes));
    let _ = mall.pay(buyer, &order).send().await.expect_problem(409, "illegal-transition");

    let shipped = text(&mall.order_in_state(buyer, &paid_order(&world.sku), "PAID").await["id"]);
    mall.wait_until_quiet().await;
    let ship = |state: &str| -> TestRequest {
        let body: Value = json!({"state": state});
        mall.post(&world.shop.seller, &format!("/v1/orders/{shipped}/fulfilment"), &body)
    };
    let _ = ship("SHIPPING").send().await.expect_problem(409, "illegal-transition");
    let _ = ship("PREPARING").send().await.expect(200);
    let _ = ship("SHIPPING").send().await.expect(200);
    let _ = mall.cancel(buyer, &shipped).send().await.expect_problem(409, "illegal-transition");
    let _ = mall.pay(buyer, &shipped).send().await.expect_problem(409, "already-paid");
}
