use crate::{
    participants_stub::Reaction,
    world::{Code, World, header, history, id_of, states, with_field},
};
use contracts::{Message, Sku, calls::CouponScope, messages::PaymentMethod};
use kit::ports::new_id;
use serde_json::{Value, json};
use uuid::Uuid;

const ALL_STEPS: [&str; 9] = [
    "stock.reserve",
    "coupon.hold",
    "points.hold",
    "stock.take",
    "payment.request",
    "stock.commit",
    "coupon.use",
    "points.use",
    "order.paid",
];

// O1, G1, G2
#[tokio::test]
async fn one_call_places_and_pays_an_order() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let made = world.order("k", &world.full_paid()).await.expect(201);
        let id = id_of(&made);
        assert_eq!(header(&made, "location"), Some(format!("/v1/orders/{id}").as_str()));
        let order = &made.body;
        assert_eq!(
            [&order["state"], &order["subtotal"], &order["discount"], &order["points_used"], &order["shipping"], &order["total"]],
            [&json!("PAID"), &json!(14_000), &json!(1_000), &json!(500), &json!(0), &json!(12_500)]
        );
        assert_eq!(states(order), ["PENDING", "PAYING", "PAID"]);
        assert_eq!(
            history(order),
            ["stock.reserve DO OK", "coupon.hold DO OK", "points.hold DO OK", "stock.take DO OK", "payment.request DO OK"]
        );
        assert_eq!((&order["saga"]["state"], &order["saga"]["step"]), (&json!("DONE"), &Value::Null));
        assert!(order["paid_at"].is_string() && order["reason"].is_null());
        assert_eq!(world.get(id).await, *order);
        assert_eq!(world.emitted_kinds(id).await, ALL_STEPS);
        world.expect_received(id, &ALL_STEPS[..8]).await;
        world.audit().await;
    }
}

// decision 3: an order without a payment rests until the buyer pays.
#[tokio::test]
async fn an_order_without_payment_awaits_one() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let made = world.order("k", &world.full()).await.expect(201);
        assert_eq!(states(&made.body), ["PENDING", "AWAITING_PAYMENT"]);
        assert_eq!((&made.body["saga"]["state"], &made.body["saga"]["step"]), (&json!("WAITING"), &json!("await.payment")));
        assert_eq!(made.body["expires_at"], "2026-11-20T00:10:00.000000Z");
        assert_eq!(world.emitted_kinds(id_of(&made)).await, ["stock.reserve", "coupon.hold", "points.hold"]);
        world.audit().await;
    }
}

#[tokio::test]
async fn unneeded_steps_are_left_out() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.plain_paid(), "PAID").await;
        assert_eq!(world.emitted_kinds(id).await, ["stock.reserve", "payment.request", "stock.commit", "order.paid"]);
        let id = world.order_in_state(&with_field(world.plain_paid(), "points", json!(1)), "PAID").await;
        assert_eq!(
            world.emitted_kinds(id).await,
            ["stock.reserve", "points.hold", "payment.request", "stock.commit", "points.use", "order.paid"]
        );
        let id = world.order_in_state(&with_field(world.plain_paid(), "coupons", json!([world.coupon(1)])), "PAID").await;
        assert_eq!(
            world.emitted_kinds(id).await,
            ["stock.reserve", "coupon.hold", "payment.request", "stock.commit", "coupon.use", "order.paid"]
        );
    }
}

// decision 1: stock with the policy `deduct_on_payment` is only checked before the payment.
#[tokio::test]
async fn stock_deducted_on_payment_is_checked_first_and_taken_last() {
    let world = World::new().await;
    let (now, late) = (world.sell(1_000), world.sell_deduct_on_payment(2_000));
    let body = json!({"items": [{"sku": now, "quantity": 3}, {"sku": late, "quantity": 4}], "payment": {"method": "wallet"}});
    let id = world.order_in_state(&body, "PAID").await;
    let messages = world.messages(id).await;
    let [Message::StockReserve(reserve), Message::StockTake(take), ..] = messages.as_slice() else { panic!("{messages:?}") };
    let lines = |lines: &[contracts::messages::StockLine]| lines.iter().map(|line| (line.sku, line.quantity)).collect::<Vec<_>>();
    assert_eq!(
        (lines(&reserve.reserve), lines(&reserve.check_only), lines(&take.lines)),
        (vec![(now, 3)], vec![(late, 4)], vec![(late, 4)])
    );
}

// row 46, decision 5: an order that costs nothing gets the payment method `none`, even when the buyer chose another.
#[tokio::test]
async fn an_order_that_costs_nothing_is_paid_by_method_none() {
    for (method, fold) in [("none", true), ("wallet", true), ("none", false)] {
        let world = World::with_fold(fold).await;
        let body = with_field(world.plain(), "coupons", json!([world.coupon(1_000_000)]));
        let made = world.order("k", &with_field(body, "payment", json!({"method": method}))).await.expect(201);
        assert_eq!((&made.body["state"], &made.body["total"], &made.body["discount"]), (&json!("PAID"), &json!(0), &json!(5_000)));
        assert_eq!(made.body["payment"]["method"], "none");
        let requested = world.messages(id_of(&made)).await.into_iter().find_map(|message| match message {
            Message::PaymentRequest(request) => Some((request.method, request.amount.0)),
            _ => None,
        });
        assert_eq!(requested, Some((PaymentMethod::None, 0)));
        world.audit().await;
    }
}

// R11: without a choice of the buyer, too.
#[tokio::test]
async fn an_order_that_costs_nothing_is_paid_at_once() {
    for mode in World::run_modes() {
        let world = World::in_mode(mode).await;
        let made = world.order("k", &with_field(world.plain(), "coupons", json!([world.coupon(5_000)]))).await.expect(201);
        assert_eq!(
            (&made.body["state"], &made.body["total"], &made.body["payment"]["method"]),
            (&json!("PAID"), &json!(0), &json!("none"))
        );
        assert_eq!(states(&made.body), ["PENDING", "PAYING", "PAID"]);
        let made = world.order("points", &with_field(world.plain(), "points", json!(5_000))).await.expect(201);
        assert_eq!(made.body["state"], "PAID");
        world.audit().await;
    }
}

// R5
#[tokio::test]
async fn a_coupon_that_takes_nothing_off_is_refused_and_not_held() {
    let world = World::new().await;
    let free = json!({"items": [{"sku": world.sell(0), "quantity": 1}], "coupons": [world.coupon(1_000)]});
    let _ = world.order("k", &free).await.expect_problem(422, "coupon-not-applicable");
    let _ = world.app.post("/v1/quotes").bearer(&world.token).json(&free).send().await.expect_problem(422, "coupon-not-applicable");
    assert_eq!(world.order_count().await, 0);
}

// P13, rows 44 and 15: the client's amounts are only compared with ours.
#[tokio::test]
async fn a_differing_total_or_amount_is_refused() {
    let world = World::new().await;
    let body = world.plain();
    let refused = world.order("k1", &with_field(body.clone(), "expected_total", json!(4_999))).await.expect_problem(409, "price-changed");
    assert_eq!(refused.body["total"], 5_000);
    // Y2
    let wrong = with_field(body.clone(), "payment", json!({"method": "wallet", "amount": 5_001}));
    let refused = world.order("k2", &wrong).await.expect_problem(409, "amount-mismatch");
    assert_eq!((&refused.body["code"], &refused.body["total"]), (&json!(5002), &json!(5_000)));
    assert_eq!(world.order_count().await, 0);
    let right = with_field(with_field(body, "expected_total", json!(5_000)), "payment", json!({"method": "wallet", "amount": 5_000}));
    let made = world.order("k3", &right).await.expect(201);
    assert_eq!(made.body["state"], "PAID");
}

#[tokio::test]
async fn invalid_requests_are_refused_and_order_nothing() {
    let world = World::new().await;
    let sku = world.sell(5_000);
    let foreign = world.participants.issue(contracts::MemberId(new_id()), CouponScope::Order, 100);
    let expired = world.coupon(100);
    world.participants.change_coupon(expired, |terms| terms.refusal = Some(Code::CouponExpired));
    let used = world.coupon(100);
    world.participants.change_coupon(used, |terms| terms.refusal = Some(Code::CouponUsed));
    let early = world.coupon(100);
    world.participants.change_coupon(early, |terms| terms.refusal = Some(Code::CouponNotStarted));
    let big = world.coupon(100);
    world.participants.change_coupon(big, |terms| terms.min_order = contracts::Won(5_001));
    let dear = world.sell(i64::MAX / 500);
    let one = |sku: Sku| json!([{"sku": sku, "quantity": 1}]);
    let quantity = |quantity: Value| json!({"items": [{"sku": sku, "quantity": quantity}]});
    let with_coupon = |coupon: Value| json!({"items": one(sku), "coupons": [coupon]});
    let cases = [
        (json!({"items": []}), 422, "empty-order"),
        (json!({}), 422, "empty-order"),
        (json!({"items": one(Sku(new_id()))}), 409, "not-on-sale"),
        // rows 42 and 7
        (quantity(json!(0)), 422, "invalid-field"),
        (quantity(json!(-1)), 422, "invalid-field"),
        (quantity(json!(1_001)), 422, "invalid-field"),
        (quantity(json!(4_294_967_297_i64)), 422, "invalid-field"),
        (quantity(json!(1.5)), 422, "invalid-field"),
        (quantity(json!("1")), 422, "invalid-field"),
        // row 8
        (json!({"items": vec![json!({"sku": sku, "quantity": 1}); 101]}), 422, "too-many"),
        // row 43
        (json!({"items": [{"sku": dear, "quantity": 1_000}]}), 422, "amount-out-of-range"),
        (json!({"items": vec![json!({"sku": dear, "quantity": 400}); 3]}), 422, "amount-out-of-range"),
        // row 6
        (json!({"items": one(sku), "total": 1}), 422, "unknown-field"),
        (json!({"items": [{"sku": sku, "quantity": 1, "unit_price": 1}]}), 422, "unknown-field"),
        // rows 38 and 48
        (with_coupon(json!(foreign)), 422, "coupon-not-usable"),
        (with_coupon(json!(new_id())), 422, "coupon-not-usable"),
        (with_coupon(json!(expired)), 409, "coupon-expired"),
        (with_coupon(json!(used)), 409, "coupon-used"),
        (with_coupon(json!(early)), 409, "coupon-not-started"),
        (with_coupon(json!(big)), 422, "coupon-not-applicable"),
        (json!({"items": one(sku), "points": -1}), 422, "invalid-field"),
        (json!({"items": one(sku), "points": 5_001}), 422, "invalid-field"),
        (json!({"items": one(sku), "payment": {"method": "none"}}), 422, "payment-method-not-allowed"),
        (json!({"items": one(sku), "payment": {"method": "barter"}}), 422, "invalid-field"),
        (json!({"items": one(sku), "payment": {"method": "wallet", "token": "\u{0}"}}), 422, "invalid-field"),
    ];
    for (n, (body, status, slug)) in cases.into_iter().enumerate() {
        let refused = world.order(&format!("k{n}"), &body).await;
        assert_eq!((refused.status, refused.problem()), (status, slug), "{body}: {}", refused.body);
    }
    assert_eq!(world.order_count().await, 0);
    assert_eq!(world.app.messages("orders").await.len(), 0);
}

// rows 23 and 56
#[tokio::test]
async fn creating_requires_a_member_and_a_key() {
    let world = World::new().await;
    let _ =
        world.app.post("/v1/orders").bearer(&world.token).json(&world.plain()).send().await.expect_problem(400, "idempotency-key-missing");
    let _ = world.app.post("/v1/orders").key("k").json(&world.plain()).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(world.order_count().await, 0);
}

// rows 57, 59 and 60, I-O13, I-O14
#[tokio::test]
async fn a_repeat_gets_the_first_answer_after_any_change() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let sku = world.sell(5_000);
        let body = json!({"items": [{"sku": sku, "quantity": 1}], "expected_total": 5_000, "payment": {"method": "wallet"}});
        let first = world.order("k", &body).await.expect(201);
        assert_eq!((&first.body["state"], header(&first, "idempotent-replayed")), (&json!("PAID"), None));

        world.participants.change_price(sku, 9_000);
        let again = world.order("k", &body).await;
        world.participants.withdraw(sku);
        let world = world.restart().await;
        let last = world.order("k", &body).await;
        for repeat in [again, last] {
            assert_eq!((repeat.status, &repeat.bytes), (201, &first.bytes));
            assert_eq!((header(&repeat, "idempotent-replayed"), header(&repeat, "location")), (Some("true"), header(&first, "location")));
        }
        let other = with_field(body.clone(), "points", json!(1));
        let _ = world.order("k", &other).await.expect_problem(422, "idempotency-key-mismatch");
        let theirs = world.app.post("/v1/orders").bearer(&world.stranger_token()).key("k").json(&world.plain()).send().await.expect(201);
        assert_ne!(id_of(&theirs), id_of(&first));
        assert_eq!(world.order_count().await, 2);
        world.audit().await;
    }
}

// row 60: also after a refusal, even when the order would succeed by now.
#[tokio::test]
async fn a_repeat_of_a_refused_order_stays_refused() {
    let world = World::new().await;
    let sku = world.sell(5_000);
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "expected_total": 6_000});
    let first = world.order("k", &body).await.expect_problem(409, "price-changed");
    world.participants.change_price(sku, 6_000);
    let again = world.order("k", &body).await.expect_problem(409, "price-changed");
    assert_eq!((&again.bytes, header(&again, "idempotent-replayed")), (&first.bytes, Some("true")));
    assert_eq!(world.order_count().await, 0);
    let _ = world.order("another", &body).await.expect(201);

    world.set_reaction("stock.reserve", Reaction::Refuse(Code::OutOfStock));
    let body = world.plain_paid();
    let first = world.order("s", &body).await.expect_problem(409, "out-of-stock");
    world.set_reaction("stock.reserve", Reaction::Comply);
    let again = world.order("s", &body).await.expect_problem(409, "out-of-stock");
    assert_eq!((&again.bytes, header(&again, "location")), (&first.bytes, header(&first, "location")));
}

#[tokio::test]
async fn two_keys_make_two_orders_and_one_key_makes_one() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let body = world.plain_paid();
        let (first, second) = (world.order("k1", &body).await.expect(201), world.order("k2", &body).await.expect(201));
        assert_ne!(id_of(&first), id_of(&second));
        assert_eq!(world.order_count().await, 2);

        let together = futures::future::join_all((0..8).map(|_| world.order("same", &body))).await;
        let ids: std::collections::HashSet<Uuid> = together.iter().filter(|made| made.status == 201).map(|made| id_of(made).0).collect();
        assert_eq!(ids.len(), 1);
        // Requests that find the first one still running are refused.
        assert!(together.iter().all(|made| made.status == 201 || made.problem() == "idempotency-in-progress"));
        assert_eq!(world.order_count().await, 3);
        world.audit().await;
    }
}

#[tokio::test]
async fn many_orders_at_once_do_not_mix() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let bodies: Vec<Value> =
            (1..=40).map(|n| json!({"items": [{"sku": world.sell(n * 100), "quantity": 1}], "payment": {"method": "wallet"}})).collect();
        let keys: Vec<String> = (1..=40).map(|n| format!("k{n}")).collect();
        let made = futures::future::join_all(keys.iter().zip(&bodies).map(|(key, body)| world.order(key, body))).await;
        for (made, n) in made.into_iter().zip(1..) {
            let made = made.expect(201);
            assert_eq!((&made.body["state"], &made.body["total"]), (&json!("PAID"), &json!(n * 100)));
            assert_eq!(world.emitted_kinds(id_of(&made)).await, ["stock.reserve", "payment.request", "stock.commit", "order.paid"]);
        }
        world.audit().await;
    }
}

// decision 4: without folding and waiting, the answer is the order as created.
#[tokio::test]
async fn without_wait_the_answer_is_the_order_as_created() {
    let world = World::with_fold(false).await;
    let made = world.post("/v1/orders", "k", &world.full_paid()).send().await.expect(201);
    assert_eq!((&made.body["state"], &made.body["saga"]["step"]), (&json!("PENDING"), &json!("stock.reserve")));
    world.wait_for_state(id_of(&made), "PAID").await;
    assert_eq!(world.emitted_kinds(id_of(&made)).await, ALL_STEPS);
}
