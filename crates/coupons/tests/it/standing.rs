use crate::support::*;
use serde_json::json;

// C9, C24
#[tokio::test]
async fn a_member_sees_the_state_from_claim_to_use() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true, "valid_days": 2})).await;
    let (owner, waiter) = (member(), member());
    let _ = mall.standing(coupon, owner).await.expect_problem(404, "not-found");
    let issued = mall.get_one(coupon, owner).await;
    let standing = mall.standing(coupon, owner).await.expect(200).body;
    let expected = json!({
        "state": "issued", "issued_coupon_id": issued, "number": 1, "issued_at": mall.now(), "expires_at": mall.now().after(2 * DAY),
        "order_id": null,
    });
    assert_eq!(standing, expected);
    let _ = mall.claim(coupon, waiter).await.expect(202);
    assert_eq!(mall.standing(coupon, waiter).await.expect(200).body, json!({"state": "waiting", "ticket": 1, "position": 1}));

    let order = order();
    let state = async || mall.standing(coupon, owner).await.expect(200).body["state"].clone();
    mall.hold(order, owner, &[(issued, 5_000, 1_000)]).await;
    assert_eq!(state().await, "held");
    mall.use_up(order).await;
    assert_eq!(state().await, "used");
    assert_eq!(mall.standing(coupon, owner).await.body["order_id"], json!(order));
    mall.unhold(order).await;
    assert_eq!(state().await, "issued");
    mall.app.clock.advance(2 * DAY);
    assert_eq!(state().await, "expired", "by the clock");
}

// C10
#[tokio::test]
async fn of_several_coupons_the_last_owned_one_is_shown() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 9, "per_member": 2})).await;
    let owner = member();
    let first = mall.get_one(coupon, owner).await;
    mall.get_one(coupon, owner).await;
    let _ = mall.give_back(coupon, owner).await.expect(204);
    assert_eq!(mall.standing(coupon, owner).await.expect(200).body["issued_coupon_id"], json!(first));
    let _ = mall.give_back(coupon, owner).await.expect(204);
    assert_eq!(mall.standing(coupon, owner).await.expect(200).body["state"], "cancelled");
}

// A14
#[tokio::test]
async fn only_the_callers_own_coupon_is_shown() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({})).await;
    mall.get_one(coupon, member()).await;
    let _ = mall.standing(coupon, member()).await.expect_problem(404, "not-found");
    let _ = mall.app.get(format!("/v1/coupons/{coupon}/claims/mine")).send().await.expect_problem(401, "unauthenticated");
}
