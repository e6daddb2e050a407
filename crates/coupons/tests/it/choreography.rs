//! The coupon step of a routing slip (G3): forward and back, in any order and twice.

use crate::support::*;
use contracts::{
    Code, IssuedCouponId, MemberId, OrderId, Won,
    messages::{CouponApplication, CouponHold, RoutingSlip, SlipStep},
};
use serde_json::json;

fn stops(mall: &Mall, order_id: OrderId, member_id: MemberId, coupon: IssuedCouponId) -> Vec<SlipStep> {
    let application = CouponApplication { issued_coupon_id: coupon, base: Won(5_000), discount: Won(1_000), store_id: None };
    vec![SlipStep::CouponHold(CouponHold { order_id, member_id, coupons: vec![application], expires_at: mall.now().after(HOUR) })]
}

// G3, G4, C17, C18
#[tokio::test]
async fn a_slip_holds_and_releases_once() {
    for mall in [Mall::open().await, Mall::open_unfolded().await] {
        let (me, order) = (member(), order());
        let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
        let asked = stops(&mall, order, me, coupon);
        let answered = async |times: i64| mall.app.eventually("select count(*) from coupons_outbox where kind='coupons.slip'", times).await;
        mall.app.faults.repeat("coupons", "orders.slip", 2);
        mall.app.send_slip(RoutingSlip::forward(order, 1, asked.clone(), 0, false)).await;
        answered(2).await;
        assert_eq!((mall.state(coupon).await.as_str(), mall.app.slip_outcomes("coupons", order).await), ("HELD", vec!["done"; 2]));
        mall.app.send_slip(RoutingSlip::back(order, 2, asked.clone())).await;
        answered(4).await;
        assert_eq!(mall.state(coupon).await, "ISSUED");
        // A late slip forward finds the step undone, and so does a late use.
        mall.app.send_slip(RoutingSlip::forward(order, 1, asked, 0, false)).await;
        answered(5).await;
        mall.use_up(order).await;
        assert_eq!(mall.app.slip_outcomes("coupons", order).await[2..], ["undone", "undone", Code::StepTimedOut.slug()]);
        assert_eq!(mall.state(coupon).await, "ISSUED");
        mall.audit().await;
    }
}

// G3, G4: a slip back that arrives first leaves a tombstone.
#[tokio::test]
async fn a_slip_after_its_undo_is_refused() {
    let mall = Mall::open().await;
    let (me, order) = (member(), order());
    let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
    let asked = stops(&mall, order, me, coupon);
    mall.app.send_slip(RoutingSlip::back(order, 2, asked.clone())).await;
    mall.app.send_slip(RoutingSlip::forward(order, 1, asked, 0, false)).await;
    assert_eq!(mall.app.slip_outcomes("coupons", order).await, ["undone", Code::StepTimedOut.slug()]);
    assert_eq!(mall.state(coupon).await, "ISSUED");
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_holds where state='TOMBSTONE'").await, 1);
}

// G3, row 52: one coupon in two itineraries.
#[tokio::test]
async fn of_two_slips_one_gets_the_coupon() {
    let mall = Mall::open().await;
    let (me, first, second) = (member(), order(), order());
    let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
    for order in [first, second] {
        mall.app.send_slip(RoutingSlip::forward(order, 1, stops(&mall, order, me, coupon), 0, false)).await;
    }
    assert_eq!(
        (mall.app.slip_outcomes("coupons", first).await, mall.app.slip_outcomes("coupons", second).await),
        (vec!["done"], vec!["coupon-used"])
    );
    mall.audit().await;
}

// G3: slips that call for other services are ignored.
#[tokio::test]
async fn a_slip_for_another_service_is_ignored() {
    let mall = Mall::open().await;
    let (me, order) = (member(), order());
    let coupon = mall.get_one(mall.announce(json!({})).await, me).await;
    let slip = RoutingSlip::forward(order, 1, stops(&mall, order, me, coupon), 0, false);
    mall.app.send_slip(RoutingSlip { next: None, ..slip }).await;
    assert_eq!((mall.state(coupon).await.as_str(), mall.app.slip_outcomes("coupons", order).await), ("ISSUED", vec![]));
}
