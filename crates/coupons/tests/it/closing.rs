//! Closed accounts: they leave the waitlists, and their unused coupons go to the next in line.

use crate::support::*;
use contracts::{MemberId, Message, messages::MemberClosed};
use serde_json::json;

async fn close(mall: &Mall, member_id: MemberId) {
    mall.app.emit("accounts", member_id, Message::MemberClosed(MemberClosed { member_id })).await;
}

// R3: the smallest input of the row, with the coupon of the closed account on top.
#[tokio::test]
async fn a_closed_account_leaves_the_line_and_returns_its_coupon() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    let [owner, gone, next] = [member(), member(), member()];
    let issued = mall.get_one(coupon, owner).await;
    for waiting in [gone, next] {
        let _ = mall.claim(coupon, waiting).await.expect(202);
    }
    mall.app.faults.repeat("coupons", "member.closed", 1);
    close(&mall, gone).await;
    assert_eq!(mall.coupon_now(coupon).await["waiting"], 1);
    close(&mall, owner).await;
    assert_eq!(mall.state(issued).await, "CANCELLED");
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_waiting where state='LEFT'").await, 1);
    let served: Vec<(MemberId,)> = mall.app.rows("select member_id from coupons_issued where state='ISSUED'").await;
    assert_eq!(served, [(next,)]);
    // The second message finds nothing, and changes nothing.
    close(&mall, owner).await;
    close(&mall, gone).await;
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued where state='ISSUED'").await, 1);
    mall.audit().await;
}

// R3: a coupon held by an order returns with the end of the order, and a used one stays used.
#[tokio::test]
async fn a_held_coupon_of_a_closed_account_returns_later() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 2, "waitlist": true})).await;
    let [holder, user, next] = [member(), member(), member()];
    let (held, used) = (mall.get_one(coupon, holder).await, mall.get_one(coupon, user).await);
    let _ = mall.claim(coupon, next).await.expect(202);
    let (unpaid, paid) = (order(), order());
    mall.hold(unpaid, holder, &[(held, 5_000, 1_000)]).await;
    mall.hold(paid, user, &[(used, 5_000, 1_000)]).await;
    mall.use_up(paid).await;
    close(&mall, holder).await;
    close(&mall, user).await;
    assert_eq!((mall.state(held).await.as_str(), mall.state(used).await.as_str()), ("HELD", "USED"));
    mall.unhold(unpaid).await;
    assert_eq!(mall.state(held).await, "CANCELLED");
    let served: Vec<(MemberId,)> = mall.app.rows("select member_id from coupons_issued where state='ISSUED'").await;
    assert_eq!(served, [(next,)]);
    mall.audit().await;
}

// R3: what an account got after its first message goes back with the second.
#[tokio::test]
async fn a_late_claim_of_a_closed_account_is_returned() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 3})).await;
    let gone = member();
    close(&mall, gone).await;
    let late = mall.get_one(coupon, gone).await;
    close(&mall, gone).await;
    assert_eq!((mall.state(late).await.as_str(), &mall.coupon_now(coupon).await["remaining"]), ("CANCELLED", &json!(3)));
    mall.audit().await;
}
