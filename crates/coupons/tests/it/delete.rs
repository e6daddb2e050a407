use crate::support::*;
use serde_json::json;

// C7, C13: no more coupons are issued, and issued ones stay usable
#[tokio::test]
async fn a_withdrawn_coupon_is_gone_but_issued_ones_stay_usable() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    let (owner, waiter) = (member(), member());
    let issued = mall.get_one(coupon, owner).await;
    let _ = mall.claim(coupon, waiter).await.expect(202);
    let delete = || mall.app.delete(format!("/v1/coupons/{coupon}")).bearer(&mall.operator()).send();
    let _ = delete().await.expect(204);
    let _ = delete().await.expect_problem(404, "not-found");

    let _ = mall.claim(coupon, member()).await.expect_problem(404, "not-found");
    let _ = mall.claim(coupon, owner).await.expect_problem(404, "not-found");
    let _ = mall.app.get(format!("/v1/coupons/{coupon}")).send().await.expect_problem(404, "not-found");
    let _ = mall.change(coupon, json!({"quantity": 9})).await.expect_problem(404, "not-found");
    assert_eq!(mall.app.get("/v1/coupons").send().await.expect(200).body["items"], json!([]));

    mall.app.job("coupons.close").await;
    assert_eq!(mall.standing(coupon, waiter).await.expect(200).body["state"], "closed");
    let order = order();
    mall.hold(order, owner, &[(issued, 5_000, 1_000)]).await;
    assert_eq!(mall.answers(order).await, ["held"]);
    mall.audit().await;
}

// A5, A14
#[tokio::test]
async fn a_seller_withdraws_only_coupons_of_an_own_store() {
    let mall = Mall::open().await;
    let own = mall.announce(json!({"scope": "store", "store_id": STORE})).await;
    let other = mall.announce(json!({"scope": "store", "store_id": OTHER_STORE})).await;
    let delete = |coupon: contracts::CouponId, token: String| mall.app.delete(format!("/v1/coupons/{coupon}")).bearer(&token).send();
    let _ = delete(own, mall.shopper(member())).await.expect_problem(403, "forbidden");
    let _ = delete(other, mall.seller()).await.expect_problem(404, "not-found");
    let _ = delete(own, mall.seller()).await.expect(204);
    let _ = mall.app.delete(format!("/v1/coupons/{other}")).send().await.expect_problem(401, "unauthenticated");
}
