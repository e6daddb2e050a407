//! The courses an order can take; together they say every message of a checkout.

use super::trial::{Place, Trial};
use crate::mall::Person;
use onrush::settings::SagaMode;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub enum Story {
    /// Every step, paid in one call, delivered, confirmed.
    Confirmed,
    /// The wallet is too empty: everything that was held goes back.
    NotPaid,
    /// Paid, then cancelled: everything goes back, the money too.
    Cancelled,
    OutOfStock,
    /// Two orders see the last unit of a product that is taken at payment; one gets it.
    TakenAway,
    /// Two orders want the same coupon.
    CouponTwice,
    /// Two orders want the same points.
    PointsTwice,
}

impl Story {
    pub const ALL: &[Story] =
        &[Story::Confirmed, Story::NotPaid, Story::Cancelled, Story::OutOfStock, Story::TakenAway, Story::CouponTwice, Story::PointsTwice];

    /// How its orders end when nothing goes wrong.
    pub fn ends(self) -> Vec<&'static str> {
        match self {
            Story::Confirmed => vec!["CONFIRMED"],
            Story::NotPaid | Story::OutOfStock => vec!["FAILED"],
            Story::Cancelled => vec!["CANCELLED"],
            Story::TakenAway | Story::CouponTwice | Story::PointsTwice => vec!["PAID", "FAILED"],
        }
    }

    /// How its orders stand, such that two courses can be compared: of orders that want the same at the same time any may win.
    pub fn outcome(self, mut states: Vec<String>) -> Vec<String> {
        if matches!(self, Story::CouponTwice | Story::PointsTwice) {
            states.sort_unstable_by(|one, other| other.cmp(one));
        }
        states
    }

    pub async fn play(self, trial: &Trial<'_>) {
        match self {
            Story::Confirmed => confirmed(trial).await,
            Story::NotPaid => not_paid(trial).await,
            Story::Cancelled => cancelled(trial).await,
            Story::OutOfStock => out_of_stock(trial).await,
            Story::TakenAway => taken_away(trial).await,
            Story::CouponTwice => coupon_twice(trial).await,
            Story::PointsTwice => points_twice(trial).await,
        }
    }
}

/// Something that is taken at payment; its SKU.
async fn taken_at_payment(trial: &Trial<'_>, stock: i64) -> String {
    trial.mall.product_of(&json!({"name": "Umbrella", "price": 7_000, "stock": stock, "stock_policy": "deduct_on_payment"})).await
}

/// A coupon of 1,000 won off an order, of which there is no end; what the shopper was issued.
async fn issued(trial: &Trial<'_>, shopper: &Person) -> String {
    let coupon = trial.mall.coupon(json!({"kind": "unlimited", "quantity": null})).await;
    trial.mall.claimed(shopper, &coupon).await
}

/// An order that takes every step: both kinds of stock, a coupon, points, the wallet.
async fn everything(trial: &Trial<'_>, cash: i64) -> (Person, Value) {
    let (sku, late) = (trial.mall.product(10_000, 5).await, taken_at_payment(trial, 5).await);
    let shopper = trial.mall.shopper(cash, 5_000).await;
    let issued = issued(trial, &shopper).await;
    let items = json!([{"sku": sku, "quantity": 2}, {"sku": late, "quantity": 1}]);
    (shopper, json!({"items": items, "coupons": [issued], "points": 500, "payment": {"method": "wallet"}}))
}

async fn confirmed(trial: &Trial<'_>) {
    let (shopper, basket) = everything(trial, 1_000_000).await;
    trial.begins().await;
    let order = trial.place(&shopper, &basket).await;
    trial.rest().await;
    for state in ["PREPARING", "SHIPPING", "DELIVERED"] {
        // Refused when the trouble has ended the order; what state it is in is looked at in the end.
        let path = format!("/v1/orders/{order}/fulfilment");
        let moved = trial.mall.post(&trial.mall.operator, &path, &json!({"state": state})).send().await;
        assert!(moved.status < 500, "{moved:?}");
    }
    trial.act(&shopper, &format!("/v1/orders/{order}/confirmation"), &json!({})).await;
    trial.rest().await;
}

async fn not_paid(trial: &Trial<'_>) {
    let (shopper, basket) = everything(trial, 1_000).await;
    trial.begins().await;
    trial.place(&shopper, &basket).await;
    trial.rest().await;
}

async fn cancelled(trial: &Trial<'_>) {
    let (shopper, basket) = everything(trial, 1_000_000).await;
    trial.begins().await;
    let order = trial.place(&shopper, &basket).await;
    trial.rest().await;
    trial.act(&shopper, &format!("/v1/orders/{order}/cancellation"), &json!({})).await;
    trial.rest().await;
}

async fn out_of_stock(trial: &Trial<'_>) {
    let (shopper, mut basket) = everything(trial, 1_000_000).await;
    basket["items"][0]["quantity"] = json!(6);
    trial.begins().await;
    trial.place(&shopper, &basket).await;
    trial.rest().await;
}

async fn taken_away(trial: &Trial<'_>) {
    let late = taken_at_payment(trial, 1).await;
    let shoppers = trial.mall.shoppers(2, 100_000, 0).await;
    trial.begins().await;
    let mut orders = Vec::new();
    for shopper in &shoppers {
        orders.push(trial.place(shopper, &json!({"items": [{"sku": late, "quantity": 1}]})).await);
        trial.rest().await;
    }
    for (shopper, order) in shoppers.iter().zip(&orders) {
        trial.act(shopper, &format!("/v1/orders/{order}/payments"), &json!({"method": "wallet"})).await;
        trial.rest().await;
    }
}

async fn coupon_twice(trial: &Trial<'_>) {
    let sku = trial.mall.product(10_000, 5).await;
    let shopper = trial.mall.shopper(1_000_000, 0).await;
    let issued = issued(trial, &shopper).await;
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "coupons": [issued], "payment": {"method": "wallet"}});
    trial.begins().await;
    at_once(trial, &shopper, &body, arrival(trial, "coupons", "coupon.hold")).await;
}

async fn points_twice(trial: &Trial<'_>) {
    let sku = trial.mall.product(10_000, 5).await;
    let shopper = trial.mall.shopper(1_000_000, 800).await;
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "points": 800, "payment": {"method": "wallet"}});
    trial.begins().await;
    at_once(trial, &shopper, &body, arrival(trial, "wallet", "points.hold")).await;
}

/// The message that brings an order from stock, its first step, to this participant: the question itself, or the slip.
fn arrival(trial: &Trial<'_>, reader: &'static str, question: &'static str) -> Place {
    match trial.mall.settings.saga {
        SagaMode::Orchestrated => Place { reader, source: "orders", kind: question },
        SagaMode::Choreographed => Place { reader, source: "stock", kind: "stock.slip" },
    }
}

/// Places the same order twice; both come to the step before either passes it.
async fn at_once(trial: &Trial<'_>, shopper: &Person, body: &Value, step: Place) {
    trial.mall.app.faults.hold(step.reader, step.kind);
    for _ in 0..2 {
        trial.place(shopper, body).await;
    }
    for _ in 0..1_000 {
        if trial.is_waiting(step).await == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(trial.is_waiting(step).await, 2, "both have come to {step:?}");
    trial.mall.app.faults.release(step.reader, step.kind);
    trial.mall.wake().await;
    trial.rest().await;
}
