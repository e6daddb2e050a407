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

// finding 7: a repeat of a named return finds it gone, and gives back nothing more
#[tokio::test]
async fn a_named_coupon_is_given_back_once() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 9, "per_member": 2})).await;
    let (owner, stranger) = (member(), member());
    let (first, second) = (mall.get_one(coupon, owner).await, mall.get_one(coupon, owner).await);
    let foreign = mall.get_one(coupon, stranger).await;
    let named = format!("?issued_coupon_id={first}");
    for _ in 0..3 {
        let _ = mall.give_back_named(coupon, owner, &named).await.expect(204);
        assert_eq!((mall.state(first).await, mall.state(second).await), ("CANCELLED".into(), "ISSUED".into()));
    }
    let _ = mall.give_back_named(coupon, owner, &format!("?issued_coupon_id={foreign}")).await.expect_problem(404, "not-found");
    let order = order();
    mall.hold(order, owner, &[(second, 5_000, 1_000)]).await;
    let held = mall.give_back_named(coupon, owner, &format!("?issued_coupon_id={second}")).await;
    let _ = held.expect_problem(409, "coupon-not-returnable");
    let both = mall.give_back_named(coupon, owner, &format!("{named}&ticket=1")).await;
    let _ = both.expect_problem(422, "invalid-parameter");
    mall.audit().await;
}

// finding 7: without a name and a key, only a single thing can be given back
#[tokio::test]
async fn an_unnamed_repeat_gives_back_no_second_coupon() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 9, "per_member": 2})).await;
    let owner = member();
    let first = mall.get_one(coupon, owner).await;
    for _ in 0..2 {
        let _ = mall.give_back_named(coupon, owner, "").await.expect(204);
    }
    assert_eq!(mall.state(first).await, "CANCELLED");
    let other = member();
    let coupons = [mall.get_one(coupon, other).await, mall.get_one(coupon, other).await];
    for _ in 0..2 {
        let _ = mall.give_back_named(coupon, other, "").await.expect_problem(400, "idempotency-key-missing");
    }
    for issued in coupons {
        assert_eq!(mall.state(issued).await, "ISSUED");
    }
    mall.audit().await;
}

// finding 7: a repeated leave of the waitlist keeps the coupon
#[tokio::test]
async fn a_named_place_is_left_once() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 2, "per_member": 2, "waitlist": true})).await;
    let owner = member();
    let issued = mall.get_one(coupon, owner).await;
    mall.get_one(coupon, member()).await;
    let ticket = mall.claim(coupon, owner).await.expect(202).body["ticket"].clone();
    let _ = mall.give_back_named(coupon, owner, "").await.expect_problem(400, "idempotency-key-missing");
    for _ in 0..2 {
        let _ = mall.give_back_named(coupon, owner, &format!("?ticket={ticket}")).await.expect(204);
        assert_eq!(mall.state(issued).await, "ISSUED");
    }
    let again = mall.claim(coupon, owner).await.expect(202).body["ticket"].clone();
    assert_ne!(again, ticket);
    let _ = mall.give_back_named(coupon, owner, &format!("?ticket={ticket}")).await.expect_problem(404, "not-found");
    mall.audit().await;
}

// finding 7: with several per member, a keyless repeat is one more claim; with a key it is the same
#[tokio::test]
async fn a_claim_of_several_needs_a_key_to_be_repeated() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 9, "per_member": 2})).await;
    let owner = member();
    let claim = || mall.app.post(format!("/v1/coupons/{coupon}/claims")).bearer(&mall.shopper(owner)).key("k").json(&json!({}));
    let first = claim().send().await.expect(201).body["issued_coupon_id"].clone();
    assert_eq!(claim().send().await.expect(201).body["issued_coupon_id"], first);
    assert_ne!(mall.claim(coupon, owner).await.expect(201).body["issued_coupon_id"], first);
    mall.audit().await;
}
