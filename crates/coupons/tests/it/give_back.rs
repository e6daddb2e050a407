use crate::support::*;
use serde_json::json;

// C10, decision 10
#[tokio::test]
async fn a_returned_unit_is_not_for_the_same_member() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1})).await;
    let owner = member();
    let issued = mall.get_one(coupon, owner).await;
    let _ = mall.claim(coupon, member()).await.expect_problem(409, "sold-out");
    let _ = mall.give_back(coupon, owner).await.expect(204);
    assert_eq!(mall.state(issued).await, "CANCELLED");
    assert_eq!(mall.coupon_now(coupon).await["remaining"], 1);
    let _ = mall.claim(coupon, owner).await.expect_problem(409, "already-issued");
    assert_eq!(mall.claim(coupon, member()).await.expect(201).body["number"], 2, "a number is never given twice");
    mall.audit().await;
}

// C10, decision 10
#[tokio::test]
async fn a_reissuable_coupon_can_be_claimed_again() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "reissue_after_cancel": true})).await;
    let owner = member();
    for number in 1..=3 {
        assert_eq!(mall.claim(coupon, owner).await.expect(201).body["number"], number);
        let _ = mall.claim(coupon, owner).await.expect_problem(409, "already-issued");
        let _ = mall.give_back(coupon, owner).await.expect(204);
    }
    mall.audit().await;
}

// C10: also when both arrive together, behind a crowd that keeps the writer busy
#[tokio::test]
async fn a_return_and_a_new_claim_can_share_a_transaction() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 2, "reissue_after_cancel": true})).await;
    let (owner, strangers) = (member(), members(300));
    mall.get_one(coupon, owner).await;
    let crowd = futures::future::join_all(strangers.iter().map(|stranger| mall.give_back(coupon, *stranger)));
    let (_, returned, claimed) = tokio::join!(crowd, mall.give_back(coupon, owner), mall.claim(coupon, owner));
    assert_eq!((returned.status, claimed.status, &claimed.body["number"]), (204, 201, &json!(2)));
    mall.audit().await;
}

// C10
#[tokio::test]
async fn a_held_or_used_coupon_cannot_be_given_back() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1})).await;
    let owner = member();
    let issued = mall.get_one(coupon, owner).await;
    let order = order();
    mall.hold(order, owner, &[(issued, 5_000, 1_000)]).await;
    let _ = mall.give_back(coupon, owner).await.expect_problem(409, "coupon-not-returnable");
    mall.use_up(order).await;
    let _ = mall.give_back(coupon, owner).await.expect_problem(409, "coupon-not-returnable");
    mall.unhold(order).await;
    let _ = mall.give_back(coupon, owner).await.expect(204);
    mall.audit().await;
}

// C10: expired by the clock, and not marked yet
#[tokio::test]
async fn an_expired_coupon_cannot_be_given_back() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"valid_days": 1})).await;
    let owner = member();
    mall.get_one(coupon, owner).await;
    mall.app.clock.advance(DAY);
    let _ = mall.give_back(coupon, owner).await.expect_problem(409, "coupon-not-returnable");
    mall.app.job("coupons.expire").await;
    let _ = mall.give_back(coupon, owner).await.expect_problem(409, "coupon-not-returnable");
}

// C5, C10: one of several coupons at a time
#[tokio::test]
async fn of_several_the_last_is_given_back_first() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 9, "per_member": 2})).await;
    let owner = member();
    let (first, second) = (mall.get_one(coupon, owner).await, mall.get_one(coupon, owner).await);
    let order = order();
    mall.hold(order, owner, &[(first, 5_000, 1_000)]).await;
    let _ = mall.give_back(coupon, owner).await.expect(204);
    assert_eq!((mall.state(first).await, mall.state(second).await), ("HELD".into(), "CANCELLED".into()));
    let _ = mall.give_back(coupon, owner).await.expect_problem(409, "coupon-not-returnable");
    mall.audit().await;
}

// A14
#[tokio::test]
async fn giving_back_without_a_coupon_is_not_found() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({})).await;
    mall.get_one(coupon, member()).await;
    let _ = mall.give_back(coupon, member()).await.expect_problem(404, "not-found");
    let _ = mall.give_back(member().0.into(), member()).await.expect_problem(404, "not-found");
    let _ = mall.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(mall.coupon_now(coupon).await["remaining"], 0);
}

// G4: with a key, a repeat does not return a second coupon
#[tokio::test]
async fn a_repeat_with_a_key_gives_back_one() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 9, "per_member": 2})).await;
    let owner = member();
    let (first, _) = (mall.get_one(coupon, owner).await, mall.get_one(coupon, owner).await);
    for _ in 0..2 {
        let request = mall.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&mall.shopper(owner)).key("k");
        let _ = request.send().await.expect(204);
    }
    assert_eq!(mall.state(first).await, "ISSUED");
}
