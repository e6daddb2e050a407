//! B4, G6, O7: later effects of paid, failed and abandoned orders.

use crate::mall::{Mall, checkout_modes, count_answers, paid_order, send_all, tally, text, unpaid_order, with_field};
use serde_json::json;
use std::time::Duration;

/// B4, O5: a confirmed purchase earns points once: one percent of the cash paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_a_confirmed_purchase_earns_points() {
    for mode in checkout_modes() {
        let mall = Mall::with_checkouts(mode).await;
        let shop = mall.shop().await;
        let sku = mall.product_of(&json!({"name": "Tulips", "price": 12_345, "stock": 5, "store_id": shop.id})).await;
        let buyer = mall.shopper(50_000, 345).await;
        let order = mall.order_in_state(&buyer, &with_field(paid_order(&sku), "points", json!(345)), "PAID").await;
        let order = text(&order["id"]);
        for state in ["PREPARING", "SHIPPING", "DELIVERED"] {
            let moved =
                mall.post(&shop.seller, &format!("/v1/orders/{order}/fulfilment"), &json!({"state": state})).send().await.expect(200);
            assert_eq!(moved.body["state"], state);
        }
        let confirm = || mall.post(&buyer, &format!("/v1/orders/{order}/confirmation"), &json!({}));
        let answers = send_all(8, (0..8).map(|_| confirm()).collect()).await;
        assert_eq!(count_answers(&answers, 200, ""), 8, "{:?}", tally(&answers));
        mall.wait_until_quiet().await;
        assert_eq!(mall.wallet(&buyer).await, (38_000, 120));
        mall.finish().await;
    }
}

/// G6, O6: a failed order tells its reason, at once and later. The stream has the reason for notifications.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g6_a_failed_order_says_why() {
    for mode in checkout_modes() {
        let mall = Mall::with_checkouts(mode).await;
        let sku = mall.product(4_000, 3).await;
        let (poor, rich) = (mall.shopper(1_000, 0).await, mall.shopper(1_000_000, 0).await);
        let cases = [(&poor, 1, "insufficient-funds"), (&rich, 4, "out-of-stock")];
        for (buyer, quantity, reason) in cases {
            let body = json!({"items": [{"sku": sku, "quantity": quantity}], "payment": {"method": "wallet"}});
            let refused = mall.order(buyer, &body).send().await.expect_problem(409, reason);
            let order = text(&refused.body["order_id"]);
            let seen = mall.get(buyer, &format!("/v1/orders/{order}")).send().await.expect(200).body;
            assert_eq!((&seen["state"], &seen["reason"]["type"]), (&json!("FAILED"), &json!(reason)), "{seen}");
            assert!(!text(&seen["reason"]["detail"]).is_empty());
            assert_eq!(seen["saga"]["history"].as_array().expect("a list").iter().filter(|step| step["result"] == "REFUSED").count(), 1);
            let listed = mall.get(buyer, "/v1/orders?state=FAILED").send().await.expect(200).body;
            assert_eq!(listed["items"][0]["id"], order.as_str());
        }
        let mut told = Vec::new();
        for (_, message) in mall.app.messages("orders").await {
            if let contracts::Message::OrderFailed(ended) = message {
                told.push(serde_json::to_value(&ended).expect("messages serialize").to_string());
            }
        }
        assert_eq!(told.len(), 2);
        // The two messages may be in two partitions, so in any order.
        let both = |reason: &str| told.iter().filter(|told| told.contains(reason)).count() == 1;
        assert!(both("insufficient-funds") && both("out-of-stock"), "{told:?}");
        mall.assert_nothing_held().await;
        mall.finish().await;
    }
}

/// O7, C18, C19: an order not paid in time is undone once, completely.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o7_unpaid_orders_expire() {
    for mode in checkout_modes() {
        let mall = Mall::with_checkouts(mode).await;
        let sku = mall.product(4_000, 3).await;
        let coupon = mall.coupon(json!({})).await;
        let buyer = mall.shopper(10_000, 1_000).await;
        let issued = mall.claim_issued(&buyer, &coupon).await;
        let body = with_field(with_field(unpaid_order(&sku), "coupons", json!([issued])), "points", json!(500));
        let order = text(&mall.order_in_state(&buyer, &body, "AWAITING_PAYMENT").await["id"]);
        assert_eq!((mall.stock(&sku).await, mall.wallet(&buyer).await), ((3, 1, 0), (10_000, 500)));
        mall.app.clock.advance(Duration::from_secs(601));
        mall.app.job("orders.due").await;
        mall.app.eventually("select count(*) from orders_orders where state='EXPIRED' and saga_state='UNDONE'", 1).await;
        assert_eq!((mall.stock(&sku).await, mall.wallet(&buyer).await), ((3, 0, 0), (10_000, 1_000)));
        let _ = mall.pay(&buyer, &order).send().await.expect_problem(409, "order-expired");
        mall.assert_nothing_held().await;
        mall.finish().await;
    }
}
