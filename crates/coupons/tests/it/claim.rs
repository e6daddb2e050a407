use crate::support::*;
use contracts::Message;
use serde_json::json;
use testkit::TestResponse;

// C1, C4, C5, C7
#[tokio::test]
async fn a_claim_in_time_gets_one_coupon() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 2, "valid_days": 3})).await;
    let (first, second) = (member(), member());
    let answer = mall.claim(coupon, first).await.expect(201);
    assert_eq!((&answer.body["state"], &answer.body["number"]), (&json!("issued"), &json!(1)));
    assert_eq!(answer.body["expires_at"], json!(mall.now().after(3 * DAY)));
    let _ = mall.claim(coupon, first).await.expect_problem(409, "already-issued");
    assert_eq!(mall.claim(coupon, second).await.expect(201).body["number"], 2);
    let _ = mall.claim(coupon, member()).await.expect_problem(409, "sold-out");
    let _ = mall.claim(coupon, first).await.expect_problem(409, "already-issued");
    mall.audit().await;
}

// C3, C7: row 64 of the bad inputs: before, at the start, just before the end, at the end
#[tokio::test]
async fn claims_are_granted_from_start_until_just_before_end() {
    let mall = Mall::open().await;
    let from = mall.now().after(HOUR);
    let coupon = mall.announce(json!({"quantity": 9, "issue_from": from, "issue_until": from.after(HOUR)})).await;
    let micro = std::time::Duration::from_micros(1);
    for (wait, expected) in [(HOUR - micro, "not-open"), (micro, ""), (HOUR - micro, ""), (micro, "closed")] {
        mall.app.clock.advance(wait);
        assert_eq!(mall.claim(coupon, member()).await.problem(), expected, "{}", mall.now());
    }
}

// C7: an owner gets already-issued, also when the coupon is sold out or closed
#[tokio::test]
async fn an_owner_gets_already_issued_after_the_end() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "issue_until": mall.now().after(HOUR)})).await;
    let owner = member();
    mall.get_one(coupon, owner).await;
    mall.app.clock.advance(HOUR);
    let _ = mall.claim(coupon, owner).await.expect_problem(409, "already-issued");
    let _ = mall.claim(coupon, member()).await.expect_problem(409, "closed");
}

// C5
#[tokio::test]
async fn a_member_gets_as_many_as_the_limit_allows() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 9, "per_member": 3})).await;
    let member = member();
    for number in 1..=3 {
        assert_eq!(mall.claim(coupon, member).await.expect(201).body["number"], number);
    }
    let _ = mall.claim(coupon, member).await.expect_problem(409, "already-issued");
    mall.audit().await;
}

// C5: also when all claims of a member arrive at once
#[tokio::test]
async fn concurrent_claims_do_not_exceed_the_member_limit() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 100, "per_member": 5})).await;
    let member = member();
    for (crowd, got) in [(1, vec![1]), (2, vec![2, 3]), (40, vec![4, 5])] {
        let answers = mall.claim_all(coupon, &vec![member; crowd]).await;
        assert_eq!((numbers(&answers), count(&answers, "already-issued")), (got.clone(), crowd - got.len()));
    }
    mall.audit().await;
}

// C1
#[tokio::test]
async fn an_unlimited_coupon_is_issued_to_every_claim() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"kind": "unlimited", "quantity": null})).await;
    let answers = mall.claim_all(coupon, &members(300)).await;
    assert_eq!(numbers(&answers), (1..=300).collect::<Vec<i64>>());
    mall.audit().await;
}

#[tokio::test]
async fn several_coupons_are_claimed_at_once() {
    let mall = Mall::open().await;
    let coupons = [mall.announce(json!({"quantity": 5})).await, mall.announce(json!({"quantity": 7})).await];
    let crowd = members(20);
    let (first, second) = tokio::join!(mall.claim_all(coupons[0], &crowd), mall.claim_all(coupons[1], &crowd));
    assert_eq!(numbers(&first), (1..=5).collect::<Vec<i64>>());
    assert_eq!(numbers(&second), (1..=7).collect::<Vec<i64>>());
    mall.audit().await;
}

#[tokio::test]
async fn each_issued_coupon_has_one_message() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 2})).await;
    let crowd = members(4);
    let answers = mall.claim_all(coupon, &crowd).await;
    let messages: Vec<_> = mall.app.messages("coupons").await;
    assert_eq!(messages.len(), 2);
    for (key, message) in messages {
        let Message::CouponIssued(issued) = message else { panic!("{}", message.kind()) };
        let answer = &answers[crowd.iter().position(|member| *member == issued.member_id).unwrap()];
        assert_eq!((key, issued.coupon_id, issued.promoted), (coupon.0, coupon, false));
        assert_eq!(
            (issued.number, issued.issued_coupon_id.0),
            (answer.body["number"].as_i64().unwrap(), id(&answer.body["issued_coupon_id"]))
        );
    }
}

// rows 57 and 60 of the bad inputs
#[tokio::test]
async fn a_repeat_with_a_key_gets_the_same_answer() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1})).await;
    let (owner, late) = (member(), member());
    let claim = |member, key: &str| mall.app.post(format!("/v1/coupons/{coupon}/claims")).bearer(&mall.shopper(member)).key(key).send();
    let is_replay = |answer: &TestResponse| answer.headers.contains_key("idempotent-replayed");
    let issued = claim(owner, "a").await.expect(201);
    let refused = claim(owner, "b").await.expect_problem(409, "already-issued");
    for (key, before) in [("a", &issued), ("b", &refused)] {
        let again = claim(owner, key).await;
        assert_eq!((again.status, &again.bytes, is_replay(&again)), (before.status, &before.bytes, true));
    }
    // finding 15: a refusal before the database leaves its key free.
    for _ in 0..2 {
        assert!(!is_replay(&claim(late, "a").await.expect_problem(409, "sold-out")));
    }
    let _ = mall.give_back(coupon, owner).await.expect(204);
    let issued = claim(late, "a").await.expect(201);
    let again = claim(late, "a").await;
    assert_eq!((again.status, &again.bytes, is_replay(&again)), (issued.status, &issued.bytes, true));
    // The owner's key still has its answer.
    assert!(is_replay(&claim(owner, "a").await.expect(201)));
}

// A14, C7
#[tokio::test]
async fn anonymous_claims_and_unknown_coupons_are_refused() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({})).await;
    let _ = mall.app.post(format!("/v1/coupons/{coupon}/claims")).send().await.expect_problem(401, "unauthenticated");
    let _ = mall.claim(member().0.into(), member()).await.expect_problem(404, "not-found");
    let claim = mall.app.post(format!("/v1/coupons/{coupon}/claims")).bearer(&mall.shopper(member()));
    let _ = claim.json(&json!({"member_id": member()})).send().await.expect_problem(422, "unknown-field");
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued").await, 0);
}
