//! Rows 43, 44, 46 and 54: amounts out of range, amounts that differ from the server's, and money spent twice.

use super::{Case, World, refused, scenario};
use crate::mall::{Mall, count_answers, number, paid_order, send_all, tally, with_field};
use serde_json::json;

pub fn cases(world: &World) -> Vec<Case<'_>> {
    let mall = &world.mall;
    let charge = |amount: i64| mall.post(&world.buyer, "/v1/wallet/charges", &json!({"amount": amount}));
    let product = |body| mall.post(&mall.operator, "/v1/products", &body);
    let grant = |amount: i64| {
        let body = json!({"member_id": world.other.id, "amount": amount, "reason": "a slip"});
        mall.post(&mall.operator, "/v1/wallet/grants", &body)
    };
    let order = |name: &str, value| world.order(&with_field(json!({"items": [{"sku": world.sku, "quantity": 1}]}), name, value));
    vec![
        refused("row 43: the largest charge there is", charge(i64::MAX), 422, "amount-out-of-range"),
        refused("row 43: the smallest", charge(i64::MIN), 422, "charge-too-small"),
        refused("row 43: a negative charge", charge(-5_000), 422, "charge-too-small"),
        refused("row 43: too large a grant", grant(i64::MAX), 422, "amount-out-of-range"),
        refused("row 43: a negative grant", grant(-1), 422, "amount-out-of-range"),
        refused("row 43: over 64 bits", world.raw_post("/v1/wallet/charges", r#"{"amount":9223372036854775808}"#), 422, "invalid-field"),
        refused(
            "row 43: an option's price over the limit",
            product(json!({"name": "Dear", "price": 1_000_000_000, "options": [{"name": "gold", "price_delta": 1}]})),
            422,
            "amount-out-of-range",
        ),
        refused(
            "row 43: an option's price below zero",
            product(json!({"name": "Cheap", "price": 10, "options": [{"name": "lead", "price_delta": -11}]})),
            422,
            "amount-out-of-range",
        ),
        refused("row 44: another total", order("expected_total", json!(9_999)), 409, "price-changed"),
        refused("row 44: a total of nothing", order("expected_total", json!(0)), 409, "price-changed"),
        refused("row 44: another amount to pay", order("payment", json!({"method": "wallet", "amount": 1})), 409, "amount-mismatch"),
        scenario("row 44: the answer has our price", async move {
            let answer = order("expected_total", json!(1)).send().await.expect_problem(409, "price-changed");
            assert_eq!(answer.body["total"], 10_000);
        }),
        refused("row 54: negative points", order("points", json!(-1)), 422, "invalid-field"),
        scenario("row 46: more discount than there is to pay", larger_discount(world)),
        scenario("row 46: two of 60 %", two_of_sixty_percent(world)),
        scenario("row 54: the same money and points in 20 orders", spent_once()),
    ]
}

async fn larger_discount(world: &World) {
    let mall = &world.mall;
    let coupon = mall.coupon(json!({"discount": {"type": "amount", "won": 50_000}})).await;
    let issued = mall.claim_issued(&world.buyer, &coupon).await;
    let before = mall.wallet(&world.buyer).await;
    let body = with_field(with_field(paid_order(&world.sku), "coupons", json!([issued])), "points", json!(0));
    let made = mall.order_in_state(&world.buyer, &body, "PAID").await;
    assert_eq!((number(&made["discount"]), number(&made["total"])), (10_000, 0));
    assert_eq!(mall.wallet(&world.buyer).await, before);
}

async fn two_of_sixty_percent(world: &World) {
    let mall = &world.mall;
    let percent = |scope: &str| json!({"discount": {"type": "rate", "basis_points": 6_000}, "scope": scope});
    let (item, order) = (mall.coupon(percent("item")).await, mall.coupon(percent("order")).await);
    let (item, order) = (mall.claim_issued(&world.buyer, &item).await, mall.claim_issued(&world.buyer, &order).await);
    let lines = json!([{"sku": world.sku, "quantity": 1, "issued_coupon_id": item}]);
    let body = json!({"items": lines, "coupons": [order], "payment": {"method": "wallet"}});
    let made = mall.order_in_state(&world.buyer, &body, "PAID").await;
    // 60 % off the line, then 60 % off the rest: 1,600 of 10,000.
    assert_eq!((number(&made["discount"]), number(&made["total"])), (8_400, 1_600));
}

async fn spent_once() {
    let mall = Mall::open().await;
    let sku = mall.product(3_000, 100).await;
    let shopper = mall.shopper(5_400, 600).await;
    let body = with_field(paid_order(&sku), "points", json!(300));
    let answers = send_all(20, (0..20).map(|_| mall.order(&shopper, &body)).collect()).await;
    let short = count_answers(&answers, 409, "insufficient-points") + count_answers(&answers, 409, "insufficient-funds");
    assert_eq!((count_answers(&answers, 201, ""), short), (2, 18), "{:?}", tally(&answers));
    mall.wait_until_quiet().await;
    assert_eq!(mall.wallet(&shopper).await, (0, 0));
    mall.finish().await;
}
