//! Closing an account, in every shape: refused while it has anything of value, and then nothing of it is left at any service.

use crate::mall::{Mall, Person, paid_order, send_all, text, unpaid_order, with_field};
use kit::auth::Role;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{TestRequest, TestResponse};

/// Longer than the time between a closing and its second message.
const PAST_SECOND_MESSAGE: Duration = Duration::from_secs(2 * 3600);

fn close(mall: &Mall, member: &Person) -> TestRequest {
    mall.app.delete("/v1/me").bearer(&member.token)
}

async fn reasons(mall: &Mall, member: &Person) -> Value {
    close(mall, member).send().await.expect_problem(409, "account-in-use").body["reasons"].clone()
}

/// R3: the waitlist goes on without the closed accounts, whether they wait or hold the unit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_the_next_in_line_is_served() {
    let mall = Mall::open().await;
    let coupon = mall.coupon(json!({"quantity": 1, "waitlist": true})).await;
    let members = mall.members(4).await;
    for member in &members {
        let _ = mall.claim(member, &coupon).send().await;
    }
    let _ = close(&mall, &members[1]).send().await.expect(204);
    mall.wait_until_quiet().await;
    let back = mall.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&members[0].token);
    let _ = back.send().await.expect(204);
    let state = async |member: &Person| {
        mall.get(member, &format!("/v1/coupons/{coupon}/claims/mine")).send().await.expect(200).body["state"].clone()
    };
    assert_eq!((state(&members[2]).await, state(&members[3]).await), (json!("issued"), json!("waiting")));
    let _ = close(&mall, &members[2]).send().await.expect(204);
    mall.wait_until_quiet().await;
    assert_eq!(state(&members[3]).await, "issued");
    mall.finish().await;
}

/// R3, L12, M12: an unpaid order with coupon and points, a cart, and all sessions end with the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_nothing_is_left_of_a_closed_account() {
    let mall = Mall::open().await;
    let (sku, coupon) = (mall.product(4_000, 5).await, mall.coupon(json!({"quantity": 5})).await);
    let member = mall.shopper(0, 1_000).await;
    let issued = mall.claim_issued(&member, &coupon).await;
    let body = with_field(with_field(unpaid_order(&sku), "coupons", json!([issued])), "points", json!(300));
    let order = text(&mall.order_in_state(&member, &body, "AWAITING_PAYMENT").await["id"]);
    let put = mall.app.put(format!("/v1/cart/items/{sku}")).bearer(&member.token).json(&json!({"quantity": 2}));
    let _ = put.send().await.expect(200);
    assert_eq!(mall.stock(&sku).await, (5, 1, 0));

    let _ = close(&mall, &member).send().await.expect(204);
    mall.assert_token_refused(&member.token).await;
    mall.wait_until_quiet().await;
    mall.assert_nothing_held().await;
    assert_eq!(mall.stock(&sku).await, (5, 0, 0));
    // Tokens of tests need no session.
    let ghost = Person { id: member.id, token: mall.app.token(member.id, Role::Customer) };
    assert_eq!((mall.state_of(&ghost, &order).await.as_str(), mall.wallet(&ghost).await), ("CANCELLED", (0, 0)));
    assert_eq!(mall.get(&ghost, "/v1/cart").send().await.expect(200).body["items"], json!([]));
    assert_eq!(mall.get(&mall.operator, &format!("/v1/coupons/{coupon}")).send().await.expect(200).body["issued"], 0);
    let entries = mall.get(&ghost, "/v1/wallet/entries?account=points").send().await.expect(200).body;
    let forfeited: i64 = entries["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["kind"] == "forfeit")
        .map(|entry| entry["amount"].as_i64().expect("a number"))
        .sum();
    assert_eq!(forfeited, -1_000);
    mall.finish().await;
}

/// R3, L12: the refusal names the reasons, and ends with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_an_account_in_use_stays() {
    let mall = Mall::open().await;
    let shop = mall.shop().await;
    assert_eq!(reasons(&mall, &shop.seller).await, json!(["store"]));
    let body = json!({"name": "Tulips", "price": 5_000, "stock": 5, "store_id": shop.id});
    let sku = mall.product_of(&body).await;
    let buyer = mall.shopper(5_000, 0).await;
    assert_eq!(reasons(&mall, &buyer).await, json!(["cash"]));
    let order = text(&mall.order_in_state(&buyer, &paid_order(&sku), "PAID").await["id"]);
    for state in ["PREPARING", "SHIPPING", "DELIVERED"] {
        assert_eq!(reasons(&mall, &buyer).await, json!(["open-orders"]), "before {state}");
        let moved = mall.post(&shop.seller, &format!("/v1/orders/{order}/fulfilment"), &json!({"state": state}));
        let _ = moved.send().await.expect(200);
    }
    let _ = close(&mall, &buyer).send().await.expect(204);
    mall.finish().await;
}

/// L7, R10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l7_a_member_without_an_account_gets_no_points_and_no_store() {
    let mall = Mall::open().await;
    let closed = mall.member().await;
    let _ = close(&mall, &closed).send().await.expect(204);
    for id in [closed.id, mall.stranger(Role::Customer).id] {
        let grant = mall.post(&mall.operator, "/v1/wallet/grants", &json!({"member_id": id, "amount": 5, "reason": "thanks"}));
        let refused = grant.send().await.expect_problem(422, "invalid-field");
        assert_eq!(refused.body["errors"][0]["pointer"], "/member_id");
        let store = mall.post(&mall.operator, "/v1/stores", &json!({"name": "Wine", "seller_id": id}));
        let refused = store.send().await.expect_problem(422, "invalid-field");
        assert_eq!(refused.body["errors"][0]["pointer"], "/seller_id");
    }
    mall.finish().await;
}

/// R3: requests that run beside the closing may come after its message. The second message ends what they left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_closing_beside_other_requests_leaves_nothing() {
    let mall = Mall::open().await;
    let (sku, coupon) = (mall.product(1_000, 500).await, mall.coupon(json!({"quantity": 10, "waitlist": true})).await);
    let members = mall.members(30).await;
    let mut requests: Vec<TestRequest> = Vec::new();
    for member in &members {
        requests.push(mall.claim(member, &coupon));
        requests.push(mall.app.put(format!("/v1/cart/items/{sku}")).bearer(&member.token).json(&json!({"quantity": 1})));
        requests.push(close(&mall, member));
        requests.push(mall.order(member, &unpaid_order(&sku)));
        requests.push(mall.claim(member, &coupon));
    }
    let answers: Vec<TestResponse> = send_all(40, requests).await;
    assert!(answers.iter().all(|answer| answer.status < 500), "{:?}", crate::mall::tally(&answers));
    assert_eq!(mall.app.sql_i64("select count(*) from accounts_members where state='closed'").await, 30);
    mall.wait_until_quiet().await;
    mall.app.clock.advance(PAST_SECOND_MESSAGE);
    mall.app.job("accounts.settle_closings").await;
    mall.wait_until_quiet().await;
    let settled = "select count(*) from accounts_members where closings=2";
    assert_eq!(mall.app.sql_i64(settled).await, 30);
    for left in [
        "select count(*) from coupons_issued where state='ISSUED'",
        "select count(*) from coupons_waiting where state='WAITING'",
        "select count(*) from orders_cart_items",
        "select count(*) from orders_orders where state='AWAITING_PAYMENT'",
    ] {
        mall.app.eventually(left, 0).await;
    }
    mall.finish().await;
}
