use crate::support::*;
use serde_json::json;

#[tokio::test]
async fn remaining_units_and_waitlist_are_public() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 2, "waitlist": true})).await;
    for member in members(5) {
        mall.claim(coupon, member).await;
    }
    let shown = mall.coupon_now(coupon).await;
    assert_eq!((&shown["issued"], &shown["remaining"], &shown["waiting"]), (&json!(2), &json!(0), &json!(3)));
}

// C3: [start, end)
#[tokio::test]
async fn its_state_follows_the_clock() {
    let mall = Mall::open().await;
    let from = mall.now().after(HOUR);
    let coupon = mall.announce(json!({"issue_from": from, "issue_until": from.after(HOUR)})).await;
    for state in ["upcoming", "open", "closed"] {
        assert_eq!(mall.coupon_now(coupon).await["state"], state);
        mall.app.clock.advance(HOUR);
    }
}

#[tokio::test]
async fn unknown_coupons_are_not_found() {
    let mall = Mall::open().await;
    for id in [member().to_string(), "7".into(), "%20".into()] {
        let _ = mall.app.get(format!("/v1/coupons/{id}")).send().await.expect_problem(404, "not-found");
    }
}
