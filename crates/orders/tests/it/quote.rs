use crate::world::{World, with_field};
use contracts::{MemberId, Won, calls::CouponScope, messages::StockPolicy};
use kit::ports::new_id;
use serde_json::{Value, json};

async fn quote(world: &World, body: &Value) -> testkit::TestResponse {
    world.app.post("/v1/quotes").bearer(&world.token).json(body).send().await
}

// O2, decision 8: the quote explains each line.
#[tokio::test]
async fn a_quote_shows_each_coupons_discount_by_line() {
    let world = World::new().await;
    let other_store = world.participants.open_store(MemberId(new_id()));
    let (ours, theirs) = (world.sell(5_000), world.participants.sell_in(other_store, 10_000, StockPolicy::ReserveOnOrder));
    let on_item = world.participants.issue(world.buyer, CouponScope::Item, 1_000);
    let on_store = world.participants.issue(world.buyer, CouponScope::Store, 2_000);
    world.participants.change_coupon(on_store, |terms| terms.store_id = Some(other_store));
    let on_order = world.coupon(1_700);
    let body = json!({
        "items": [{"sku": ours, "quantity": 2, "issued_coupon_id": on_item}, {"sku": theirs, "quantity": 1}],
        "coupons": [on_order, on_store], "points": 300,
    });
    let quoted = quote(&world, &body).await.expect(200).body;
    assert_eq!(
        [&quoted["subtotal"], &quoted["discount"], &quoted["points_used"], &quoted["shipping"], &quoted["total"]],
        [&json!(20_000), &json!(4_700), &json!(300), &json!(0), &json!(15_000)]
    );
    // 9,000 and 8,000 remain when the order coupon applies, so its 1,700 are split into 900 and 800.
    let takes = |coupon, amount| json!({"issued_coupon_id": coupon, "amount": amount});
    assert_eq!(quoted["lines"][0]["discounts"], json!([takes(on_item, 1_000), takes(on_order, 900)]));
    assert_eq!(quoted["lines"][1]["discounts"], json!([takes(on_store, 2_000), takes(on_order, 800)]));
    assert_eq!((&quoted["lines"][0]["total"], &quoted["lines"][1]["total"]), (&json!(8_100), &json!(7_200)));
    let coupons: Vec<&Value> = quoted["coupons"].as_array().expect("a list").iter().map(|coupon| &coupon["discount"]).collect();
    assert_eq!(coupons, [&json!(1_000), &json!(2_000), &json!(1_700)]);

    // The order gets the same prices.
    let made = world.order("k", &with_field(body, "expected_total", quoted["total"].clone())).await.expect(201);
    for field in ["subtotal", "discount", "points_used", "shipping", "total", "coupons"] {
        assert_eq!(made.body[field], quoted[field], "{field}");
    }
    world.audit().await;
}

#[tokio::test]
async fn a_quote_holds_nothing() {
    let world = World::new().await;
    let _ = quote(&world, &world.full_paid()).await.expect(200);
    assert_eq!((world.order_count().await, world.app.messages("orders").await.len()), (0, 0));
}

#[tokio::test]
async fn a_quote_refuses_the_same_as_an_order() {
    let world = World::new().await;
    let _ = quote(&world, &json!({"items": []})).await.expect_problem(422, "empty-order");
    let _ = quote(&world, &json!({"items": [{"sku": new_id(), "quantity": 1}]})).await.expect_problem(409, "not-on-sale");
    let foreign = world.participants.issue(MemberId(new_id()), CouponScope::Order, 100);
    let _ = quote(&world, &with_field(world.plain(), "coupons", json!([foreign]))).await.expect_problem(422, "coupon-not-usable");
    let refused = quote(&world, &with_field(world.plain(), "expected_total", json!(1))).await.expect_problem(409, "price-changed");
    assert_eq!(refused.body["total"], 5_000);
    let short = world.coupon(100);
    world.participants.change_coupon(short, |terms| terms.min_order = Won(5_001));
    let _ = quote(&world, &with_field(world.plain(), "coupons", json!([short]))).await.expect_problem(422, "coupon-not-applicable");
    let _ = world.app.post("/v1/quotes").json(&world.plain()).send().await.expect_problem(401, "unauthenticated");
}

// N9: a hint only, and not known while stock does not answer.
#[tokio::test]
async fn a_quote_says_what_is_sold_out() {
    let world = World::new().await;
    let (plenty, scarce, unknown) = (world.sell(1_000), world.sell(1_000), world.sell(1_000));
    world.participants.stock(plenty, 5);
    world.participants.stock(scarce, 3);
    let item = |sku, quantity: u32| json!({"sku": sku, "quantity": quantity});
    let body = json!({"items": [item(plenty, 5), item(scarce, 2), item(scarce, 2), item(unknown, 1)]});
    let quoted = quote(&world, &body).await.expect(200).body;
    let hints: Vec<&Value> = quoted["lines"].as_array().expect("a list").iter().map(|line| &line["in_stock"]).collect();
    assert_eq!(hints, [&json!(true), &json!(false), &json!(false), &json!(null)]);
}
