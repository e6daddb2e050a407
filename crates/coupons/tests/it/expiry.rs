use crate::support::*;
use contracts::Message;
use serde_json::json;

// C19
#[tokio::test]
async fn unused_coupons_are_marked_at_their_end() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 9, "valid_days": 2})).await;
    let early = mall.get_one(coupon, member()).await;
    mall.app.clock.advance(DAY);
    let late = mall.get_one(coupon, member()).await;
    for (wait, expected) in [(DAY - HOUR, ["ISSUED", "ISSUED"]), (HOUR, ["EXPIRED", "ISSUED"]), (DAY, ["EXPIRED", "EXPIRED"])] {
        mall.app.clock.advance(wait);
        mall.app.job("coupons.expire").await;
        assert_eq!([mall.state(early).await, mall.state(late).await], expected);
    }
    let messages = mall.app.messages("coupons").await;
    let expired: Vec<_> = messages
        .into_iter()
        .filter_map(|(_, message)| if let Message::CouponExpired(coupon) = message { Some(coupon.issued_coupon_id) } else { None })
        .collect();
    assert_eq!(expired, [early, late]);
    mall.audit().await;
}

// C9, C19: while the coupon is open, the unit of an expired one goes to the next member
#[tokio::test]
async fn the_unit_of_an_expired_coupon_serves_the_next() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true, "valid_days": 1})).await;
    let (owner, waiter) = (member(), member());
    mall.get_one(coupon, owner).await;
    let _ = mall.claim(coupon, waiter).await.expect(202);
    mall.app.clock.advance(DAY);
    mall.app.job("coupons.expire").await;
    let standing = mall.standing(coupon, waiter).await.expect(200).body;
    assert_eq!((&standing["number"], &standing["expires_at"]), (&json!(2), &json!(mall.now().after(DAY))));
    let _ = mall.claim(coupon, owner).await.expect_problem(409, "already-issued");
    mall.audit().await;
}

// C9, C19: after the end no unit is returned
#[tokio::test]
async fn after_the_end_an_expired_unit_is_not_returned() {
    let mall = Mall::open().await;
    let until = mall.now().after(HOUR);
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true, "issue_until": until, "valid_days": 1})).await;
    let (owner, waiter) = (member(), member());
    mall.get_one(coupon, owner).await;
    let _ = mall.claim(coupon, waiter).await.expect(202);
    mall.app.clock.advance(DAY);
    mall.app.job("coupons.expire").await;
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued where state = 'EXPIRED' and not slot_returned").await, 1);
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued").await, 1);
    mall.audit().await;
}

// C19: in bounded passes, over several coupons, each coupon once
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_expire_in_passes() {
    let mall = Mall::open().await;
    let coupons =
        [mall.announce(json!({"quantity": 3_000, "valid_days": 1})).await, mall.announce(json!({"quantity": 300, "valid_days": 1})).await];
    for (coupon, crowd) in coupons.iter().zip([2_500, 300]) {
        let _ = mall.claim_all(*coupon, &members(crowd)).await;
    }
    let spared = member();
    mall.app.clock.advance(HOUR);
    let spared = mall.get_one(coupons[0], spared).await;
    mall.app.clock.advance(DAY - HOUR);
    mall.app.job("coupons.expire").await;
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued where state = 'EXPIRED'").await, 2_800);
    assert_eq!(mall.state(spared).await, "ISSUED");
    // No number is checked twice: the next pass begins at the spared coupon, and the other definition has none left.
    let next: Vec<(i64, Option<i64>)> = mall.app.rows("select expire_number, expire_at from coupons_definitions order by id").await;
    assert_eq!(next, [(2_501, Some(mall.now().after(HOUR).0)), (301, None)]);
    mall.app.clock.advance(HOUR);
    mall.app.job("coupons.expire").await;
    mall.app.job("coupons.expire").await;
    let count = mall.app.messages("coupons").await.into_iter().filter(|(_, message)| matches!(message, Message::CouponExpired(_))).count();
    assert_eq!(count, 2_801);
    mall.audit().await;
}

// Finding 9: an operator's transaction locks one definition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_coupon_delays_no_other() {
    let mall = Mall::open_on_postgres().await;
    let mut coupons = Vec::new();
    for _ in 0..3 {
        let coupon = mall.announce(json!({"quantity": 1, "waitlist": true, "valid_days": 1})).await;
        coupons.push((coupon, mall.get_one(coupon, member()).await));
        let _ = mall.claim(coupon, member()).await.expect(202);
    }
    let mut operator = mall.app.kit().db.open_writer().await.expect("a connection");
    operator.begin().await.expect("the transaction begins");
    let lock = format!("select id from coupons_definitions where id='{}' for update", coupons[0].0);
    operator.batch(&lock).await.expect("the row is free");
    mall.app.clock.advance(DAY);
    mall.app.job("coupons.expire").await;
    let states = [mall.state(coupons[0].1).await, mall.state(coupons[1].1).await, mall.state(coupons[2].1).await];
    assert_eq!(states, ["ISSUED", "EXPIRED", "EXPIRED"]);
    operator.rollback().await.expect("the transaction ends");
    mall.app.job("coupons.expire").await;
    assert_eq!(mall.state(coupons[0].1).await, "EXPIRED");
    mall.audit().await;
}
