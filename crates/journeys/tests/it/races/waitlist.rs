//! C9, C10: returned coupons and the waitlist.

use crate::mall::{Mall, Person, expect_all, fold_settings, number, send_all};
use kit::auth::Role;
use serde_json::{Value, json};
use std::time::Duration;

async fn standing(mall: &Mall, person: &Person, coupon: &str) -> Value {
    mall.get(person, &format!("/v1/coupons/{coupon}/claims/mine")).send().await.expect(200).body
}

/// C9, C10: a returned coupon goes once to the first in line. Newcomers cannot overtake, and nothing is issued after the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c9_the_waitlist_is_served_in_order() {
    for fold in fold_settings() {
        let mall = Mall::with_fold(*fold).await;
        let coupon = mall.coupon(json!({"quantity": 2, "waitlist": true})).await;
        let members = mall.members(7).await;
        for (n, member) in members[..5].iter().enumerate() {
            let claim = mall.claim(member, &coupon).send().await;
            let wanted = if n < 2 { (201, "number", n as i64 + 1) } else { (202, "position", n as i64 - 1) };
            assert_eq!((claim.status, number(&claim.body[wanted.1])), (wanted.0, wanted.2), "{}", claim.body);
        }

        // C10: the first in line gets the returned coupon, and a newcomer joins at the end.
        let back = mall.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&members[0].token);
        let _ = back.send().await.expect(204);
        let promoted = standing(&mall, &members[2], &coupon).await;
        assert_eq!((&promoted["state"], &promoted["number"]), (&json!("issued"), &json!(3)));
        let newcomer = mall.claim(&members[5], &coupon).send().await.expect(202).body;
        assert_eq!(newcomer["position"], 3);

        // The quantity is raised by one, so exactly the next in line gets a coupon.
        let raise = |quantity: i64| {
            mall.app.patch(format!("/v1/coupons/{coupon}")).bearer(&mall.operator.token).json(&json!({"quantity": quantity}))
        };
        let _ = raise(3).send().await.expect(200);
        assert_eq!(standing(&mall, &members[3], &coupon).await["number"], 4);
        assert_eq!(standing(&mall, &members[4], &coupon).await["position"], 1);

        // One leaves: the members behind move up.
        let leave = mall.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&members[4].token);
        let _ = leave.send().await.expect(204);
        assert_eq!(standing(&mall, &members[5], &coupon).await["position"], 1);

        // After the end no member is promoted.
        mall.app.clock.advance(Duration::from_secs(3_601));
        let operator = mall.stranger(Role::Operator);
        let late = mall.app.patch(format!("/v1/coupons/{coupon}")).bearer(&operator.token).json(&json!({"quantity": 50}));
        let _ = late.send().await.expect(200);
        assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued").await, 4);
        mall.app.job("coupons.close").await;
        let waited = Person { id: members[5].id, token: mall.app.token(members[5].id, Role::Customer) };
        assert_eq!(standing(&mall, &waited, &coupon).await["state"], "closed");
        let last = Person { id: members[6].id, token: mall.app.token(members[6].id, Role::Customer) };
        let _ = mall.claim(&last, &coupon).send().await.expect_problem(409, "closed");
        mall.finish().await;
    }
}

/// C9: many concurrent returns. Each coupon goes to one waiting member, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c9_returned_coupons_go_to_the_first_in_line() {
    let mall = Mall::open().await;
    let coupon = mall.coupon(json!({"quantity": 20, "waitlist": true})).await;
    let members = mall.members(60).await;
    for member in &members {
        let _ = mall.claim(member, &coupon).send().await;
    }
    let back = |member: &Person| mall.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&member.token);
    expect_all(204, send_all(20, members[..20].iter().map(back).collect()).await);
    for (n, member) in members[20..].iter().enumerate() {
        let standing = standing(&mall, member, &coupon).await;
        if n < 20 {
            assert_eq!((&standing["state"], &standing["number"]), (&json!("issued"), &json!(21 + n)), "{n}");
        } else {
            assert_eq!((&standing["state"], &standing["position"]), (&json!("waiting"), &json!(n - 19)), "{n}");
        }
    }
    mall.finish().await;
}
