//! Concurrent requests for limited goods, which are given out exactly once. Each race ends with an audit of all data. In shapes with
//! several processes, the processes share the work of every service (A13, E3).

mod afterwards;
mod waitlist;

use crate::mall::{
    CheckoutMode, Mall, Person, checkout_modes, count_answers, expect_all, fold_settings, number, paid_order, send_all, tally, text,
    unpaid_order, with_field,
};
use coupons::Strategy;
use onrush::settings::SagaMode;
use serde_json::json;
use std::collections::BTreeSet;
use testkit::TestResponse;

/// Below the queue's capacity, so that no request is rejected as overload.
const CROWD: usize = 512;
const STRATEGIES: [Strategy; 3] = [Strategy::GroupCommit, Strategy::RowLock, Strategy::Redis];

fn numbers(answers: &[TestResponse], status: u16, field: &str) -> Vec<i64> {
    let mut found: Vec<i64> = answers.iter().filter(|answer| answer.status == status).map(|answer| number(&answer.body[field])).collect();
    found.sort_unstable();
    found
}

/// C1, C6, C8, J2: 10,000 members and 100 coupons.
async fn rush_for_coupons(waitlist: bool) {
    let mall = Mall::open().await;
    let coupon = mall.coupon(json!({"quantity": 100, "waitlist": waitlist})).await;
    let members = mall.members(10_000).await;
    let answers = send_all(CROWD, members.iter().map(|member| mall.claim(member, &coupon)).collect()).await;
    assert_eq!(numbers(&answers, 201, "number"), (1..=100).collect::<Vec<_>>(), "{:?}", tally(&answers));
    let owners = mall.app.sql_i64("select count(distinct member_id) from coupons_issued").await;
    assert_eq!(owners, 100);
    if waitlist {
        assert_eq!(numbers(&answers, 202, "position"), (1..=9_900).collect::<Vec<_>>(), "{:?}", tally(&answers));
    } else {
        assert_eq!(count_answers(&answers, 409, "sold-out"), 9_900, "{:?}", tally(&answers));
    }
    let seen = mall.get(&mall.operator, &format!("/v1/coupons/{coupon}")).send().await.expect(200).body;
    assert_eq!((number(&seen["issued"]), number(&seen["remaining"])), (100, 0));
    assert_eq!(number(&seen["waiting"]), if waitlist { 9_900 } else { 0 });
    mall.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6_j2_ten_thousand_claims_for_a_hundred() {
    rush_for_coupons(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6_c9_ten_thousand_claims_for_a_hundred_with_a_waitlist() {
    rush_for_coupons(true).await;
}

/// Row 51, C5, C25, X2: under every strategy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c25_sixty_four_claims_for_one_coupon() {
    for strategy in STRATEGIES {
        let mall = Mall::with_claim_strategy(strategy).await;
        let coupon = mall.coupon(json!({"quantity": 1})).await;
        let members = mall.members(64).await;
        let answers = send_all(64, members.iter().map(|member| mall.claim(member, &coupon)).collect()).await;
        assert_eq!(
            (count_answers(&answers, 201, ""), count_answers(&answers, 409, "sold-out")),
            (1, 63),
            "{strategy:?}: {:?}",
            tally(&answers)
        );
        mall.finish().await;
    }
}

/// C5, C25: many concurrent claims of one member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_one_member_claims_twenty_times_at_once() {
    for strategy in STRATEGIES {
        let mall = Mall::with_claim_strategy(strategy).await;
        let coupon = mall.coupon(json!({"quantity": 5})).await;
        let member = mall.member().await;
        let answers = send_all(20, (0..20).map(|_| mall.claim(&member, &coupon)).collect()).await;
        assert_eq!(
            (count_answers(&answers, 201, ""), count_answers(&answers, 409, "already-issued")),
            (1, 19),
            "{strategy:?}: {:?}",
            tally(&answers)
        );
        mall.finish().await;
    }
}

/// S1, S2, B4, G1, J2: 1,000 buyers for a stock of 100, each with a coupon and points.
async fn rush_for_stock(mode: CheckoutMode) {
    const CASH: i64 = 50_000;
    const POINTS: i64 = 800;
    let mall = Mall::with_checkouts(mode).await;
    let sku = mall.product(10_000, 100).await;
    let coupon = mall.coupon(json!({"quantity": 1_000})).await;
    let buyers = mall.shoppers(1_000, CASH, POINTS).await;
    let claims = send_all(CROWD, buyers.iter().map(|buyer| mall.claim(buyer, &coupon)).collect()).await;
    let issued: Vec<String> = claims.into_iter().map(|claim| text(&claim.expect(201).body["issued_coupon_id"])).collect();
    let order = |(buyer, issued): (&Person, &String)| {
        mall.order(buyer, &with_field(with_field(paid_order(&sku), "coupons", json!([issued])), "points", json!(500)))
    };
    let answers = send_all(256, buyers.iter().zip(&issued).map(order).collect()).await;
    let verdict = (count_answers(&answers, 201, ""), count_answers(&answers, 409, "out-of-stock"));
    assert_eq!(verdict, (100, 900), "{:?}", tally(&answers));
    for answer in answers.iter().filter(|answer| answer.status == 201) {
        assert_eq!((&answer.body["state"], &answer.body["total"]), (&json!("PAID"), &json!(8_500)), "{}", answer.body);
    }
    assert_eq!(mall.stock(&sku).await, (0, 0, 100));
    mall.assert_nothing_held().await;
    let counts = [
        ("select count(*) from coupons_issued where state='USED'", 100),
        ("select count(*) from coupons_issued where state='ISSUED'", 900),
        ("select count(*) from orders_orders where state='PAID'", 100),
        ("select count(*) from orders_orders where state='FAILED'", 900),
        ("select count(*) from payments_payments where state='APPROVED' and amount=8500", 100),
        ("select count(*) from payments_payments where state<>'APPROVED' and captured_at is not null", 0),
    ];
    for (sql, wanted) in counts {
        mall.app.eventually(sql, wanted).await;
    }
    mall.wait_until_quiet().await;
    for (buyer, answer) in buyers.iter().zip(&answers).step_by(37) {
        let wanted = if answer.status == 201 { (CASH - 8_500, POINTS - 500) } else { (CASH, POINTS) };
        assert_eq!(mall.wallet(buyer).await, wanted, "{}", answer.body);
    }
    mall.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_a_thousand_buyers_for_a_hundred() {
    for fold in fold_settings() {
        rush_for_stock((*fold, SagaMode::Orchestrated)).await;
    }
}

// G3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_s1_a_thousand_buyers_for_a_hundred_choreographed() {
    for fold in fold_settings() {
        rush_for_stock((*fold, SagaMode::Choreographed)).await;
    }
}

/// S1, S9: under both policies, folded and hop by hop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s9_thirty_orders_for_a_stock_of_twenty() {
    for (mode, policy) in
        checkout_modes().into_iter().flat_map(|mode| ["reserve_on_order", "deduct_on_payment"].map(|policy| (mode, policy)))
    {
        let mall = Mall::with_checkouts(mode).await;
        let sku = mall.product_of(&json!({"name": "Scarf", "price": 2_000, "stock": 20, "stock_policy": policy})).await;
        let buyers = mall.shoppers(30, 10_000, 0).await;
        let answers = send_all(30, buyers.iter().map(|buyer| mall.order(buyer, &paid_order(&sku))).collect()).await;
        let verdict = (count_answers(&answers, 201, ""), count_answers(&answers, 409, "out-of-stock"));
        assert_eq!(verdict, (20, 10), "{mode:?}, {policy}: {:?}", tally(&answers));
        assert_eq!(mall.stock(&sku).await, (0, 0, 20), "{mode:?}, {policy}");
        mall.assert_nothing_held().await;
        mall.finish().await;
    }
}

/// S2: orders of two SKUs, of which one runs out, get all lines or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_all_lines_of_an_order_or_none() {
    for mode in checkout_modes() {
        let mall = Mall::with_checkouts(mode).await;
        let (plenty, scarce) = (mall.product(1_000, 100).await, mall.product(1_000, 7).await);
        let buyers = mall.shoppers(20, 10_000, 0).await;
        let body = json!({"items": [{"sku": plenty, "quantity": 2}, {"sku": scarce, "quantity": 1}], "payment": {"method": "wallet"}});
        let answers = send_all(20, buyers.iter().map(|buyer| mall.order(buyer, &body)).collect()).await;
        assert_eq!((count_answers(&answers, 201, ""), count_answers(&answers, 409, "out-of-stock")), (7, 13), "{:?}", tally(&answers));
        assert_eq!((mall.stock(&plenty).await, mall.stock(&scarce).await), ((86, 0, 14), (0, 0, 7)));
        mall.finish().await;
    }
}

/// Row 52, C17, C6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_one_coupon_in_five_orders_at_once() {
    for mode in checkout_modes() {
        let mall = Mall::with_checkouts(mode).await;
        let sku = mall.product(5_000, 50).await;
        let coupon = mall.coupon(json!({})).await;
        let buyer = mall.shopper(100_000, 0).await;
        let issued = mall.claim_issued(&buyer, &coupon).await;
        let body = with_field(paid_order(&sku), "coupons", json!([issued]));
        let answers = send_all(5, (0..5).map(|_| mall.order(&buyer, &body)).collect()).await;
        assert_eq!(
            (count_answers(&answers, 201, ""), count_answers(&answers, 409, "coupon-used")),
            (1, 4),
            "{mode:?}: {:?}",
            tally(&answers)
        );
        assert_eq!(mall.stock(&sku).await, (49, 0, 1));
        assert_eq!(mall.wallet(&buyer).await, (96_000, 0));
        mall.finish().await;
    }
}

/// Row 54, B1, B5: the same cash, and the same points, in 20 concurrent orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b5_one_balance_in_twenty_orders_at_once() {
    for mode in checkout_modes() {
        let mall = Mall::with_checkouts(mode).await;
        let sku = mall.product(3_000, 100).await;
        let buyer = mall.shopper(10_000, 0).await;
        let answers = send_all(20, (0..20).map(|_| mall.order(&buyer, &paid_order(&sku))).collect()).await;
        let verdict = (count_answers(&answers, 201, ""), count_answers(&answers, 409, "insufficient-funds"));
        assert_eq!(verdict, (3, 17), "{mode:?}: {:?}", tally(&answers));
        assert_eq!(mall.stock(&sku).await, (97, 0, 3));
        assert_eq!(mall.wallet(&buyer).await, (1_000, 0));

        let saver = mall.shopper(100_000, 1_000).await;
        let body = with_field(paid_order(&sku), "points", json!(300));
        let answers = send_all(20, (0..20).map(|_| mall.order(&saver, &body)).collect()).await;
        let verdict = (count_answers(&answers, 201, ""), count_answers(&answers, 409, "insufficient-points"));
        assert_eq!(verdict, (3, 17), "{mode:?}: {:?}", tally(&answers));
        mall.wait_until_quiet().await;
        assert_eq!(mall.wallet(&saver).await, (100_000 - 3 * 2_700, 100));
        mall.assert_nothing_held().await;
        mall.finish().await;
    }
}

/// B5: concurrent charges all count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_a_hundred_charges_at_once() {
    let mall = Mall::open().await;
    let shopper = mall.member().await;
    let charge = |n: i64| mall.post(&shopper, "/v1/wallet/charges", &json!({"amount": 1_000 + n}));
    expect_all(201, send_all(50, (0..100).map(charge).collect()).await);
    let (cash, _) = mall.wallet(&shopper).await;
    assert_eq!(cash, 100 * 1_000 + (0..100).sum::<i64>());
    let entries = mall.get(&shopper, "/v1/wallet/entries?limit=100").send().await.expect(200).body;
    let entries = entries["items"].as_array().expect("a list").clone();
    assert_eq!(entries.iter().map(|entry| number(&entry["amount"])).sum::<i64>(), cash);
    let balances: BTreeSet<i64> = entries.iter().map(|entry| number(&entry["balance_after"])).collect();
    assert_eq!((balances.len(), balances.last().copied()), (100, Some(cash)));
    mall.finish().await;
}

/// O5, O8: an order is paid and cancelled concurrently. Whichever wins, the amounts balance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_cancel_and_pay_at_once() {
    for mode in checkout_modes() {
        let mall = Mall::with_checkouts(mode).await;
        let sku = mall.product(4_000, 100).await;
        let coupon = mall.coupon(json!({})).await;
        let buyers = mall.shoppers(24, 10_000, 1_000).await;
        let mut requests = Vec::new();
        let mut orders = Vec::new();
        for (n, buyer) in buyers.iter().enumerate() {
            let issued = mall.claim_issued(buyer, &coupon).await;
            let body = with_field(with_field(unpaid_order(&sku), "coupons", json!([issued])), "points", json!(500));
            let order = text(&mall.order_in_state(buyer, &body, "AWAITING_PAYMENT").await["id"]);
            let pair = [mall.pay(buyer, &order), mall.cancel(buyer, &order)];
            requests.extend(pair);
            if n % 2 == 1 {
                let last = requests.len();
                requests.swap(last - 2, last - 1);
            }
            orders.push((order, issued));
        }
        let answers = send_all(48, requests).await;
        mall.wait_until_quiet().await;
        for (n, (buyer, (order, issued))) in buyers.iter().zip(&orders).enumerate() {
            let pair = &answers[2 * n..2 * n + 2];
            let (pay, cancel) = if n % 2 == 0 { (&pair[0], &pair[1]) } else { (&pair[1], &pair[0]) };
            settled(&mall, buyer, order, issued, pay, cancel).await;
        }
        mall.assert_nothing_held().await;
        mall.finish().await;
    }
}

/// State, cash, points, coupon and stock agree with the answers to the buyer.
async fn settled(mall: &Mall, buyer: &Person, order: &str, issued: &str, pay: &TestResponse, cancel: &TestResponse) {
    let state = mall.state_of(buyer, order).await;
    let told = format!("pay {} {}, cancel {} {}", pay.status, pay.problem(), cancel.status, cancel.problem());
    match (pay.status, cancel.status) {
        // A confirmed cancellation returns everything, whether or not the order was paid first.
        (_, 200) => assert_eq!(state, "CANCELLED", "{told}"),
        (200, 409) => assert_eq!(state, "PAID", "{told}"),
        _ => panic!("{told}, then {state}"),
    }
    if pay.status != 200 {
        assert_eq!(pay.status, 409, "{told}");
    }
    let coupons = mall.get(buyer, "/v1/me/coupons").send().await.expect(200).body;
    assert_eq!(coupons["items"][0]["issued_coupon_id"], issued);
    let (wallet, coupon) = if state == "PAID" { ((7_500, 500), "used") } else { ((10_000, 1_000), "issued") };
    assert_eq!((mall.wallet(buyer).await, &coupons["items"][0]["state"]), (wallet, &json!(coupon)), "{told}");
}
