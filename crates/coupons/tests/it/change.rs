use crate::support::*;
use serde_json::{Value, json};

#[tokio::test]
async fn name_quantity_end_and_waitlist_can_change() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 3})).await;
    let until = mall.now().after(20 * DAY);
    let change = json!({"name": "Winter", "quantity": 5, "issue_until": until, "waitlist": true});
    let changed = mall.change(coupon, change.clone()).await.expect(200);
    for (name, value) in change.as_object().unwrap() {
        assert_eq!(&changed.body[name], value, "{name}");
    }
    assert_eq!(mall.coupon_now(coupon).await, changed.body);
    let same = mall.change(coupon, json!({})).await.expect(200);
    assert_eq!(same.body, changed.body);
}

// C9: a raise serves the waiting members in their order
#[tokio::test]
async fn a_raised_quantity_serves_exactly_the_next_members() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    let crowd = members(5);
    for member in &crowd {
        mall.claim(coupon, *member).await;
    }
    let changed = mall.change(coupon, json!({"quantity": 3})).await.expect(200);
    assert_eq!((&changed.body["issued"], &changed.body["remaining"], &changed.body["waiting"]), (&json!(3), &json!(0), &json!(2)));
    for (member, state, number) in [(0, "issued", 1), (1, "issued", 2), (2, "issued", 3)] {
        let standing = mall.standing(coupon, crowd[member]).await.expect(200);
        assert_eq!((&standing.body["state"], &standing.body["number"]), (&json!(state), &json!(number)));
    }
    for (member, position) in [(3, 1), (4, 2)] {
        let standing = mall.standing(coupon, crowd[member]).await.expect(200);
        assert_eq!((&standing.body["state"], &standing.body["position"]), (&json!("waiting"), &json!(position)));
    }
    mall.audit().await;
}

#[tokio::test]
async fn a_quantity_never_falls_below_the_issued_units() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 3})).await;
    for member in members(2) {
        mall.get_one(coupon, member).await;
    }
    let _ = mall.change(coupon, json!({"quantity": 1, "name": "Winter"})).await.expect_problem(409, "quantity-below-issued");
    assert_eq!(mall.coupon_now(coupon).await["name"], "Autumn", "all or nothing");
    let lowered = mall.change(coupon, json!({"quantity": 2})).await.expect(200);
    assert_eq!(lowered.body["remaining"], 0);
    let _ = mall.claim(coupon, member()).await.expect_problem(409, "sold-out");
}

#[tokio::test]
async fn the_terms_cannot_change() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({})).await;
    let unlimited = mall.announce(json!({"kind": "unlimited", "quantity": null})).await;
    for fields in [json!({"discount": {"type": "amount", "won": 1}}), json!({"valid_until": mall.now()}), json!({"min_order": 5})] {
        let _ = mall.change(coupon, fields).await.expect_problem(422, "unknown-field");
    }
    for (coupon, fields) in [
        (coupon, json!({"quantity": 0})),
        (coupon, json!({"issue_until": mall.now()})),
        (unlimited, json!({"quantity": 5})),
        (unlimited, json!({"waitlist": true})),
    ] {
        let _ = mall.change(coupon, fields).await.expect_problem(422, "invalid-field");
    }
}

// C9: a later end reopens it
#[tokio::test]
async fn a_later_end_reopens_the_coupon() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"issue_until": mall.now().after(HOUR)})).await;
    mall.app.clock.advance(HOUR);
    let _ = mall.claim(coupon, member()).await.expect_problem(409, "closed");
    let _ = mall.change(coupon, json!({"issue_until": mall.now().after(HOUR)})).await.expect(200);
    mall.get_one(coupon, member()).await;
}

// A5, A14: rows 39 and 40 of the bad inputs
#[tokio::test]
async fn a_seller_changes_only_coupons_of_an_own_store() {
    let mall = Mall::open().await;
    let own = mall.announce(json!({"scope": "store", "store_id": STORE})).await;
    let other = mall.announce(json!({"scope": "store", "store_id": OTHER_STORE})).await;
    let of_the_mall = mall.announce(json!({})).await;
    let patch = |coupon: contracts::CouponId, token: String| {
        mall.app.patch(format!("/v1/coupons/{coupon}")).bearer(&token).json(&json!({"name": "Mine"})).send()
    };
    let _ = patch(own, mall.seller()).await.expect(200);
    let _ = patch(other, mall.seller()).await.expect_problem(404, "not-found");
    let _ = patch(of_the_mall, mall.seller()).await.expect_problem(404, "not-found");
    let _ = patch(own, mall.shopper(member())).await.expect_problem(403, "forbidden");
    let _ = patch(member().0.into(), mall.operator()).await.expect_problem(404, "not-found");
    let anonymous = mall.app.patch(format!("/v1/coupons/{own}")).json(&Value::Object(Default::default())).send().await;
    let _ = anonymous.expect_problem(401, "unauthenticated");
}

// D1
#[tokio::test]
async fn a_change_of_nothing_saves_nothing() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 5})).await;
    let version = || mall.app.sql_i64("select version from coupons_definitions");
    let first = mall.change(coupon, json!({"quantity": 7})).await.expect(200).body;
    let before = version().await;
    for nothing in [json!({}), json!({"quantity": 7})] {
        assert_eq!(mall.change(coupon, nothing).await.expect(200).body, first);
    }
    assert_eq!(version().await, before);
    let without_body = mall.app.patch(format!("/v1/coupons/{coupon}")).bearer(&mall.operator()).send().await;
    let _ = without_body.expect_problem(400, "malformed-json");
}
