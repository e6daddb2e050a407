//! The coupon step of a checkout, as the orders service asks for it (G4): hold, use, undo, in every order and twice.

use crate::support::*;
use contracts::{Code, IssuedCouponId, Won, calls::GetIssuedCoupons, messages::CouponApplication};
use serde_json::json;

// C17, C18
#[tokio::test]
async fn a_coupon_is_held_used_and_given_back_by_its_order() {
    for mall in [Mall::open().await, Mall::open_unfolded().await] {
        let me = member();
        let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
        let order = order();
        let states = async |wanted: &str| {
            mall.app.eventually(&format!("select count(*) from coupons_issued where state = '{wanted}'"), 1).await;
        };
        mall.hold(order, me, &[(coupon, 5_000, 1_000)]).await;
        states("HELD").await;
        mall.use_up(order).await;
        states("USED").await;
        mall.unhold(order).await;
        states("ISSUED").await;
        assert_eq!(mall.answers(order).await, ["held", "released"]);
        mall.audit().await;
    }
}

// G4: every message twice, repeated in the stream and repeated at the reader
#[tokio::test]
async fn repeats_are_answered_and_change_nothing() {
    let mall = Mall::open().await;
    let me = member();
    let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
    let order = order();
    let rows = async || -> Vec<(String, Option<uuid::Uuid>, Option<i64>)> {
        mall.app.rows("select state, order_id, used_at from coupons_issued").await
    };
    for kind in ["coupon.hold", "coupon.use", "coupon.unhold"] {
        mall.app.faults.repeat("coupons", kind, 1);
    }
    mall.hold(order, me, &[(coupon, 5_000, 1_000)]).await;
    let held = rows().await;
    mall.hold(order, me, &[(coupon, 5_000, 1_000)]).await;
    assert_eq!(rows().await, held);
    assert_eq!(mall.answers(order).await, ["held"; 3]);
    let used_from = mall.now();
    mall.app.clock.advance(HOUR);
    mall.use_up(order).await;
    assert_eq!(rows().await, [("USED".to_owned(), Some(order.0), Some(used_from.0))]);
    mall.use_up(order).await;
    mall.hold(order, me, &[(coupon, 5_000, 1_000)]).await;
    assert_eq!(mall.answers(order).await, ["held"; 4]);
    mall.unhold(order).await;
    mall.unhold(order).await;
    assert_eq!(rows().await, [("ISSUED".to_owned(), None, None)]);
    assert_eq!(mall.answers(order).await[4..], ["released"; 3]);
    assert_eq!(mall.app.faults.times_applied("coupons", "coupon.unhold"), 1);
    // A late repeat of the hold finds it undone. The coupon is free for another order.
    mall.hold(order, me, &[(coupon, 5_000, 1_000)]).await;
    assert_eq!(mall.answers(order).await.last(), Some(&"step-timed-out"));
    let other = crate::support::order();
    mall.hold(other, me, &[(coupon, 5_000, 1_000)]).await;
    assert_eq!(mall.answers(other).await, ["held"]);
    // And a late repeat of the undo does not take it from that order.
    mall.unhold(order).await;
    assert_eq!(mall.state(coupon).await, "HELD");
    mall.audit().await;
}

// G4
#[tokio::test]
async fn an_undo_that_arrives_first_refuses_the_late_hold() {
    let mall = Mall::open().await;
    let me = member();
    let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
    let order = order();
    mall.unhold(order).await;
    mall.hold(order, me, &[(coupon, 5_000, 1_000)]).await;
    mall.use_up(order).await;
    assert_eq!(mall.answers(order).await, ["released", "step-timed-out"]);
    assert_eq!(mall.state(coupon).await, "ISSUED");
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_holds where state = 'TOMBSTONE'").await, 1);
}

// C17: rows 37, 38, 48 and 52 of the bad inputs
#[tokio::test]
async fn each_refusal_has_its_reason_and_holds_nothing() {
    let mall = Mall::open().await;
    let me = member();
    let later = mall.now().after(HOUR);
    let good = mall.get_one(mall.announce(json!({})).await, me).await;
    let coming = mall.get_one(mall.announce(json!({"valid_from": later})).await, me).await;
    let ending = mall.get_one(mall.announce(json!({"valid_until": later, "issue_until": later})).await, me).await;
    let dear = mall.get_one(mall.announce(json!({"min_order": 6_000})).await, me).await;
    let foreign = mall.get_one(mall.announce(json!({})).await, member()).await;
    let returned_from = mall.announce(json!({})).await;
    let returned = mall.get_one(returned_from, me).await;
    let _ = mall.give_back(returned_from, me).await.expect(204);
    let taken = mall.get_one(mall.announce(json!({})).await, me).await;
    mall.hold(order(), me, &[(taken, 5_000, 1_000)]).await;
    let refused = async |other: IssuedCouponId, base: i64, discount: i64, code: &str| {
        let order = order();
        mall.hold(order, me, &[(good, 5_000, 1_000), (other, base, discount)]).await;
        assert_eq!(mall.answers(order).await, [code]);
        mall.hold(order, me, &[(good, 5_000, 1_000), (other, base, discount)]).await;
        assert_eq!(mall.answers(order).await, [code; 2], "a repeat hears the same");
        mall.unhold(order).await;
        assert_eq!(mall.answers(order).await.last(), Some(&"released"));
        assert_eq!(mall.state(good).await, "ISSUED", "{code}: all or none");
    };
    refused(coming, 5_000, 1_000, "coupon-not-started").await;
    refused(dear, 5_999, 1_000, "coupon-not-applicable").await;
    refused(ending, 5_000, 1_001, "coupon-not-applicable").await;
    refused(ending, 500, 1_000, "coupon-not-applicable").await;
    refused(foreign, 5_000, 1_000, "coupon-not-usable").await;
    refused(member().0.into(), 5_000, 1_000, "coupon-not-usable").await;
    refused(returned, 5_000, 1_000, "coupon-not-usable").await;
    refused(taken, 5_000, 1_000, "coupon-used").await;
    refused(good, 5_000, 1_000, "coupon-used").await;
    mall.app.clock.advance(HOUR);
    refused(ending, 5_000, 1_000, "coupon-expired").await;
    mall.app.job("coupons.expire").await;
    refused(ending, 5_000, 1_000, "coupon-expired").await;
    // The refused ones are right now.
    let order = order();
    mall.hold(order, me, &[(good, 5_000, 1_000), (coming, 4_000, 1_000), (dear, 6_000, 1_000)]).await;
    assert_eq!(mall.answers(order).await, ["held"]);
    mall.audit().await;
}

// C15, C16, C21
#[tokio::test]
async fn a_store_coupon_is_for_its_store_and_capped() {
    let mall = Mall::open().await;
    let me = member();
    let fields = json!({
        "scope": "store", "store_id": STORE, "min_order": 10_000,
        "discount": {"type": "rate", "basis_points": 1_000, "max_won": 1_500},
    });
    let coupon = mall.get_one(mall.announce(fields).await, me).await;
    for (store_id, base, discount, expected) in [
        (Some(OTHER_STORE), 10_000, 1_000, "coupon-not-applicable"),
        (None, 10_000, 1_000, "coupon-not-applicable"),
        (Some(STORE), 9_999, 999, "coupon-not-applicable"),
        (Some(STORE), 20_000, 2_000, "coupon-not-applicable"),
        (Some(STORE), 20_000, 1_500, "held"),
        (Some(STORE), 10_000, 1_000, "held"),
    ] {
        let order = order();
        let application = CouponApplication { issued_coupon_id: coupon, base: Won(base), discount: Won(discount), store_id };
        mall.hold_with(order, me, vec![application]).await;
        assert_eq!(mall.answers(order).await, [expected], "{store_id:?} {base} {discount}");
        mall.unhold(order).await;
    }
}

// I-C7: an order placed in time keeps its coupon, however late the payment is
#[tokio::test]
async fn a_held_coupon_outlives_its_end_only_in_its_order() {
    let mall = Mall::open().await;
    let (payer, quitter) = (member(), member());
    let campaign = mall.announce(json!({"quantity": 2, "valid_days": 1, "waitlist": true})).await;
    let (kept, lost) = (mall.get_one(campaign, payer).await, mall.get_one(campaign, quitter).await);
    let waiter = member();
    let _ = mall.claim(campaign, waiter).await.expect(202);
    let (paid, cancelled) = (order(), order());
    mall.hold(paid, payer, &[(kept, 5_000, 1_000)]).await;
    mall.hold(cancelled, quitter, &[(lost, 5_000, 1_000)]).await;
    mall.app.clock.advance(DAY);
    mall.app.job("coupons.expire").await;
    assert_eq!((mall.state(kept).await, mall.state(lost).await), ("HELD".into(), "HELD".into()));
    mall.use_up(paid).await;
    mall.audit().await;
    // C18: a coupon released too late is expired at once, and its unit goes to a waiting member.
    mall.unhold(cancelled).await;
    assert_eq!((mall.state(kept).await, mall.state(lost).await), ("USED".into(), "EXPIRED".into()));
    assert_eq!(mall.standing(campaign, waiter).await.expect(200).body["number"], 3);
    // C18: also when the paid order is cancelled before it is shipped.
    mall.unhold(paid).await;
    assert_eq!(mall.state(kept).await, "EXPIRED");
    mall.audit().await;
}

// row 52 of the bad inputs: one coupon in five orders at once
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_five_orders_keeps_the_coupon() {
    let mall = Mall::open().await;
    let me = member();
    let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
    let orders: Vec<_> = (0..5).map(|_| order()).collect();
    let coupons = [(coupon, 5_000, 1_000)];
    futures::future::join_all(orders.iter().map(|order| mall.hold(*order, me, &coupons))).await;
    let mut answers = Vec::new();
    for order in orders {
        answers.extend(mall.answers(order).await);
    }
    answers.sort_unstable();
    assert_eq!(answers, ["coupon-used", "coupon-used", "coupon-used", "coupon-used", "held"]);
}

// C20: holds survive a restart
#[tokio::test]
async fn a_hold_survives_a_restart() {
    let mall = Mall::open().await;
    let me = member();
    let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
    let (order, refused) = (order(), crate::support::order());
    mall.hold(order, me, &[(coupon, 5_000, 1_000)]).await;
    mall.hold(refused, me, &[(coupon, 5_000, 1_000)]).await;
    let mall = mall.restart().await;
    mall.hold(refused, me, &[(coupon, 5_000, 1_000)]).await;
    assert_eq!(mall.answers(refused).await, ["coupon-used"; 2]);
    mall.use_up(order).await;
    assert_eq!(mall.state(coupon).await, "USED");
}

// C15, C17, A14: the terms that orders read before a quote
#[tokio::test]
async fn orders_can_read_the_terms_of_a_members_coupons() {
    let mall = Mall::open().await;
    let me = member();
    let coupon = mall.announce(json!({"name": "Wine", "scope": "item", "store_id": STORE, "min_order": 3_000, "valid_days": 1})).await;
    let (mine, foreign) = (mall.get_one(coupon, me).await, mall.get_one(mall.announce(json!({})).await, member()).await);
    let ask = || mall.app.kit().links.call(GetIssuedCoupons { member_id: me, ids: vec![mine, foreign, member().0.into()] });
    let terms = ask().await.unwrap();
    let [found] = terms.as_slice() else { panic!("{terms:?}") };
    assert_eq!((found.issued_coupon_id, found.coupon_id, found.name.as_str()), (mine, coupon, "Wine"));
    assert_eq!((found.store_id, found.min_order, found.expires_at, found.refusal), (Some(STORE), Won(3_000), mall.now().after(DAY), None));
    mall.app.clock.advance(DAY);
    assert_eq!(ask().await.unwrap()[0].refusal, Some(Code::CouponExpired));
}
