//! Courses of an order. Together they send every message of a checkout.

use super::case::{CaseRun, ReaderMessage};
use crate::mall::Person;
use onrush::settings::SagaMode;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub enum OrderCase {
    /// Every step, paid in one call, delivered, confirmed.
    Confirmed,
    /// The cash does not suffice, so all holds are released.
    NotPaid,
    /// Paid, then cancelled. Everything is returned, the cash too.
    Cancelled,
    OutOfStock,
    /// Two orders for the last unit of a product that is taken at payment. One gets it.
    LastUnit,
    /// Two orders with the same coupon.
    CouponTwice,
    /// Two orders with the same points.
    PointsTwice,
}

impl OrderCase {
    pub const ALL: &[OrderCase] = &[
        OrderCase::Confirmed,
        OrderCase::NotPaid,
        OrderCase::Cancelled,
        OrderCase::OutOfStock,
        OrderCase::LastUnit,
        OrderCase::CouponTwice,
        OrderCase::PointsTwice,
    ];

    /// Order states without a fault.
    pub fn final_states(self) -> Vec<&'static str> {
        match self {
            OrderCase::Confirmed => vec!["CONFIRMED"],
            OrderCase::NotPaid | OrderCase::OutOfStock => vec!["FAILED"],
            OrderCase::Cancelled => vec!["CANCELLED"],
            OrderCase::LastUnit | OrderCase::CouponTwice | OrderCase::PointsTwice => vec!["PAID", "FAILED"],
        }
    }

    /// States in comparable form. Among concurrent orders any may win, so their states are sorted.
    pub fn comparable(self, mut states: Vec<String>) -> Vec<String> {
        if matches!(self, OrderCase::CouponTwice | OrderCase::PointsTwice) {
            states.sort_unstable_by(|one, other| other.cmp(one));
        }
        states
    }

    pub async fn run(self, run: &CaseRun<'_>) {
        match self {
            OrderCase::Confirmed => confirmed(run).await,
            OrderCase::NotPaid => not_paid(run).await,
            OrderCase::Cancelled => cancelled(run).await,
            OrderCase::OutOfStock => out_of_stock(run).await,
            OrderCase::LastUnit => last_unit(run).await,
            OrderCase::CouponTwice => coupon_twice(run).await,
            OrderCase::PointsTwice => points_twice(run).await,
        }
    }
}

/// SKU of a product that is taken at payment.
async fn taken_at_payment(run: &CaseRun<'_>, stock: i64) -> String {
    run.mall.product_of(&json!({"name": "Umbrella", "price": 7_000, "stock": stock, "stock_policy": "deduct_on_payment"})).await
}

/// Issues an unlimited coupon of 1,000 won off the order. Returns its issued id.
async fn issued(run: &CaseRun<'_>, shopper: &Person) -> String {
    let coupon = run.mall.coupon(json!({"kind": "unlimited", "quantity": null})).await;
    run.mall.claim_issued(shopper, &coupon).await
}

/// An order with every step: both stock policies, a coupon, points, the wallet.
async fn everything(run: &CaseRun<'_>, cash: i64) -> (Person, Value) {
    let (sku, late) = (run.mall.product(10_000, 5).await, taken_at_payment(run, 5).await);
    let shopper = run.mall.shopper(cash, 5_000).await;
    let issued = issued(run, &shopper).await;
    let items = json!([{"sku": sku, "quantity": 2}, {"sku": late, "quantity": 1}]);
    (shopper, json!({"items": items, "coupons": [issued], "points": 500, "payment": {"method": "wallet"}}))
}

async fn confirmed(run: &CaseRun<'_>) {
    let (shopper, basket) = everything(run, 1_000_000).await;
    run.arm_fault().await;
    let order = run.place(&shopper, &basket).await;
    run.wait_until_quiet().await;
    for state in ["PREPARING", "SHIPPING", "DELIVERED"] {
        // Refused if the fault has ended the order. The final states show the difference.
        let path = format!("/v1/orders/{order}/fulfilment");
        let moved = run.mall.post(&run.mall.operator, &path, &json!({"state": state})).send().await;
        assert!(moved.status < 500, "{moved:?}");
    }
    run.act(&shopper, &format!("/v1/orders/{order}/confirmation"), &json!({})).await;
    run.wait_until_quiet().await;
}

async fn not_paid(run: &CaseRun<'_>) {
    let (shopper, basket) = everything(run, 1_000).await;
    run.arm_fault().await;
    run.place(&shopper, &basket).await;
    run.wait_until_quiet().await;
}

async fn cancelled(run: &CaseRun<'_>) {
    let (shopper, basket) = everything(run, 1_000_000).await;
    run.arm_fault().await;
    let order = run.place(&shopper, &basket).await;
    run.wait_until_quiet().await;
    run.act(&shopper, &format!("/v1/orders/{order}/cancellation"), &json!({})).await;
    run.wait_until_quiet().await;
}

async fn out_of_stock(run: &CaseRun<'_>) {
    let (shopper, mut basket) = everything(run, 1_000_000).await;
    basket["items"][0]["quantity"] = json!(6);
    run.arm_fault().await;
    run.place(&shopper, &basket).await;
    run.wait_until_quiet().await;
}

async fn last_unit(run: &CaseRun<'_>) {
    let late = taken_at_payment(run, 1).await;
    let shoppers = run.mall.shoppers(2, 100_000, 0).await;
    run.arm_fault().await;
    let mut orders = Vec::new();
    for shopper in &shoppers {
        orders.push(run.place(shopper, &json!({"items": [{"sku": late, "quantity": 1}]})).await);
        run.wait_until_quiet().await;
    }
    for (shopper, order) in shoppers.iter().zip(&orders) {
        run.act(shopper, &format!("/v1/orders/{order}/payments"), &json!({"method": "wallet"})).await;
        run.wait_until_quiet().await;
    }
}

async fn coupon_twice(run: &CaseRun<'_>) {
    let sku = run.mall.product(10_000, 5).await;
    let shopper = run.mall.shopper(1_000_000, 0).await;
    let issued = issued(run, &shopper).await;
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "coupons": [issued], "payment": {"method": "wallet"}});
    run.arm_fault().await;
    place_two_at_once(run, &shopper, &body, first_message(run, "coupons", "coupon.hold")).await;
}

async fn points_twice(run: &CaseRun<'_>) {
    let sku = run.mall.product(10_000, 5).await;
    let shopper = run.mall.shopper(1_000_000, 800).await;
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "points": 800, "payment": {"method": "wallet"}});
    run.arm_fault().await;
    place_two_at_once(run, &shopper, &body, first_message(run, "wallet", "points.hold")).await;
}

/// The message after the reservation that reaches this participant: the command, or the slip.
fn first_message(run: &CaseRun<'_>, reader: &'static str, command: &'static str) -> ReaderMessage {
    match run.mall.settings.saga {
        SagaMode::Orchestrated => ReaderMessage { reader, source: "orders", kind: command },
        SagaMode::Choreographed => ReaderMessage { reader, source: "stock", kind: "stock.slip" },
    }
}

/// Places the same order twice. Both reach the step before either passes it.
async fn place_two_at_once(run: &CaseRun<'_>, shopper: &Person, body: &Value, step: ReaderMessage) {
    run.mall.app.faults.hold(step.reader, step.kind);
    for _ in 0..2 {
        run.place(shopper, body).await;
    }
    for _ in 0..1_000 {
        if run.count_unread(step).await == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(run.count_unread(step).await, 2, "both orders reached {step:?}");
    run.mall.app.faults.release(step.reader, step.kind);
    run.mall.wake().await;
    run.wait_until_quiet().await;
}
