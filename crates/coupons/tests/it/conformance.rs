//! One suite for every strategy (C25): the answers do not depend on the way to the database.

use crate::support::*;
use coupons::Strategy;
use serde_json::json;

macro_rules! every_strategy {
    ($($case:ident),* $(,)?) => {
        mod group_commit {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(coupons::Strategy::GroupCommit).await;
            })*
        }
        mod row_lock {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(coupons::Strategy::RowLock).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(coupons::Strategy::Redis).await;
            })*
        }
    };
}

every_strategy!(
    one_of_sixty_four,
    a_hundred_of_two_hundred,
    every_refusal_has_its_code,
    the_limit_per_member_holds,
    the_waitlist_is_served_in_its_order,
    answers_survive_a_restart,
);

// C6: row 51 of the bad inputs
async fn one_of_sixty_four(strategy: Strategy) {
    let mall = Mall::open_with(strategy).await;
    let coupon = mall.announce(json!({"quantity": 1})).await;
    let answers = mall.claim_all(coupon, &members(64)).await;
    assert_eq!((numbers(&answers), count(&answers, "sold-out")), (vec![1], 63));
    mall.audit().await;
}

// C6
async fn a_hundred_of_two_hundred(strategy: Strategy) {
    let mall = Mall::open_with(strategy).await;
    let coupon = mall.announce(json!({"quantity": 100})).await;
    let answers = mall.claim_all(coupon, &members(200)).await;
    assert_eq!((numbers(&answers), count(&answers, "sold-out")), ((1..=100).collect(), 100));
    mall.audit().await;
}

// C3, C7
async fn every_refusal_has_its_code(strategy: Strategy) {
    let mall = Mall::open_with(strategy).await;
    let later = mall.now().after(HOUR);
    let coupon = mall.announce(json!({"quantity": 1, "issue_from": later, "issue_until": later.after(HOUR)})).await;
    let owner = member();
    assert_eq!(mall.claim(coupon, owner).await.problem(), "not-open");
    mall.app.clock.advance(HOUR);
    let _ = mall.claim(coupon, owner).await.expect(201);
    assert_eq!(mall.claim(coupon, owner).await.problem(), "already-issued");
    assert_eq!(mall.claim(coupon, member()).await.problem(), "sold-out");
    mall.app.clock.advance(HOUR);
    assert_eq!(mall.claim(coupon, member()).await.problem(), "closed");
    let _ = mall.app.delete(format!("/v1/coupons/{coupon}")).bearer(&mall.operator()).send().await.expect(204);
    assert_eq!(mall.claim(coupon, member()).await.problem(), "not-found");
}

// C5
async fn the_limit_per_member_holds(strategy: Strategy) {
    let mall = Mall::open_with(strategy).await;
    let coupon = mall.announce(json!({"quantity": 50, "per_member": 2})).await;
    let answers = mall.claim_all(coupon, &[member(); 30]).await;
    assert_eq!((numbers(&answers), count(&answers, "already-issued")), (vec![1, 2], 28));
    mall.audit().await;
}

// C8, C9
async fn the_waitlist_is_served_in_its_order(strategy: Strategy) {
    let mall = Mall::open_with(strategy).await;
    let coupon = mall.announce(json!({"quantity": 2, "waitlist": true})).await;
    let crowd = members(6);
    for (index, member) in crowd.iter().enumerate() {
        let answer = mall.claim(coupon, *member).await;
        if index < 2 {
            assert_eq!((answer.status, &answer.body["number"]), (201, &json!(index + 1)));
        } else {
            assert_eq!((answer.status, &answer.body["ticket"], &answer.body["position"]), (202, &json!(index - 1), &json!(index - 1)));
        }
    }
    let _ = mall.give_back(coupon, crowd[0]).await.expect(204);
    assert_eq!(mall.standing(coupon, crowd[2]).await.body["number"], 3);
    assert_eq!(mall.claim(coupon, crowd[3]).await.expect(202).body, json!({"state": "waiting", "ticket": 2, "position": 1}));
    mall.audit().await;
}

// C20: decided, durable, then answered
async fn answers_survive_a_restart(strategy: Strategy) {
    let mall = Mall::open_with(strategy).await;
    let coupon = mall.announce(json!({"quantity": 20, "waitlist": true})).await;
    let crowd = members(30);
    let answers = mall.claim_all(coupon, &crowd).await;
    let mall = mall.restart().await;
    for (member, answer) in crowd.iter().zip(&answers) {
        let standing = mall.standing(coupon, *member).await.expect(200).body;
        let same = if answer.status == 201 { "issued_coupon_id" } else { "ticket" };
        assert_eq!(standing[same], answer.body[same]);
    }
    assert_eq!(mall.claim(coupon, member()).await.expect(202).body["ticket"], 11);
    mall.audit().await;
}

// C25: the baseline uses one transaction per claim
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_lock_takes_a_transaction_for_each_claim() {
    let mall = Mall::open_with(Strategy::RowLock).await;
    let coupon = mall.announce(json!({"quantity": 50})).await;
    let _ = mall.claim_all(coupon, &members(50)).await;
    assert_eq!(mall.app.sql_i64("select version from coupons_definitions").await, 50);
}
