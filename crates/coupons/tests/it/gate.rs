//! The early refusal must never differ from what the batch would say (C25). Claims without a key pass it, claims with one do not.

use crate::support::*;
use contracts::{CouponId, MemberId};
use coupons::Strategy;
use serde_json::json;
use std::time::Duration;

/// What the gate and the batch say to the same claim.
async fn both(mall: &Mall, coupon: CouponId, member: MemberId) -> [String; 2] {
    let path = format!("/v1/coupons/{coupon}/claims");
    let early = mall.app.post(path.clone()).bearer(&mall.shopper(member)).send().await;
    let batch = mall.app.post(path).bearer(&mall.shopper(member)).key(&kit::ports::new_id().to_string()).send().await;
    [early.problem().to_owned(), batch.problem().to_owned()]
}

/// Waits until the gate in Redis offers so many units.
async fn on_offer(mall: &Mall, coupon: CouponId, units: i64) {
    let gate = mall.gate().expect("there is one");
    for _ in 0..500 {
        match gate.on_offer(coupon).await.expect("Redis answers") {
            Some(offered) if offered == units => return,
            Some(_) => {}
            // Nobody has asked for a while, so nobody has looked.
            None => {
                drop(gate.admit(coupon, member(), mall.now()).await);
                gate.told().await;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{units} units are not on offer");
}

// C25
#[tokio::test]
async fn the_gate_says_what_the_batch_says() {
    for strategy in [Strategy::GroupCommit, Strategy::Redis] {
        says_what_the_batch_says(&Mall::open_with(strategy).await).await;
    }
}

async fn says_what_the_batch_says(mall: &Mall) {
    let from = mall.now().after(HOUR);
    let coupon = mall.announce(json!({"quantity": 1, "issue_from": from, "issue_until": from.after(HOUR)})).await;
    let (owner, other) = (member(), member());
    for _ in 0..2 {
        assert_eq!(both(mall, coupon, other).await, ["not-open"; 2]);
    }
    mall.app.clock.advance(HOUR);
    mall.get_one(coupon, owner).await;
    for _ in 0..2 {
        assert_eq!(both(mall, coupon, other).await, ["sold-out"; 2]);
        assert_eq!(both(mall, coupon, owner).await, ["already-issued"; 2]);
    }
    mall.app.clock.advance(HOUR);
    for _ in 0..2 {
        assert_eq!(both(mall, coupon, other).await, ["closed"; 2]);
        assert_eq!(both(mall, coupon, owner).await, ["already-issued"; 2]);
    }
}

// C25: each way in which a unit can come free opens the gate at once
#[tokio::test]
async fn whatever_frees_a_unit_opens_the_gate() {
    for strategy in [Strategy::GroupCommit, Strategy::Redis] {
        opens_when_a_unit_is_freed(&Mall::open_with(strategy).await).await;
    }
}

async fn opens_when_a_unit_is_freed(mall: &Mall) {
    let coupon = mall.announce(json!({"quantity": 1, "valid_days": 1})).await;
    let mut owner = member();
    mall.get_one(coupon, owner).await;
    for round in 0..4 {
        let next = member();
        assert_eq!(both(mall, coupon, next).await, ["sold-out"; 2], "round {round}");
        match round {
            0 => assert_eq!(mall.give_back(coupon, owner).await.status, 204),
            1 => assert_eq!(mall.change(coupon, json!({"quantity": 2})).await.status, 200),
            2 => {
                mall.app.clock.advance(DAY);
                mall.app.job("coupons.expire").await;
                // Nobody waits for the answer of a job, and so for what the gate in Redis knows of it.
                if mall.setup.strategy == Strategy::Redis {
                    on_offer(mall, coupon, 2).await;
                }
            }
            _ => assert_eq!(mall.change(coupon, json!({"waitlist": true})).await.status, 200),
        }
        let answer = mall.claim(coupon, next).await;
        assert_eq!(answer.status, if round == 3 { 202 } else { 201 }, "round {round}");
        owner = next;
        // Both units that expired in round 2 came back.
        if round == 2 {
            mall.get_one(coupon, member()).await;
        }
    }
    mall.audit().await;
}

// C25: what it knows is rebuilt after a restart
#[tokio::test]
async fn after_a_restart_it_learns_again() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 3})).await;
    let owners = members(3);
    for owner in &owners {
        mall.get_one(coupon, *owner).await;
    }
    let mall = mall.restart().await;
    for _ in 0..2 {
        assert_eq!(both(&mall, coupon, member()).await, ["sold-out"; 2]);
        assert_eq!(both(&mall, coupon, owners[1]).await, ["already-issued"; 2]);
    }
}

// C25: refusals of the gate do not reach the writer
#[tokio::test]
async fn a_sold_out_coupon_costs_no_transaction() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1})).await;
    mall.get_one(coupon, member()).await;
    let _ = mall.claim(coupon, member()).await.expect_problem(409, "sold-out");
    // With the table gone from under it, only memory can answer.
    let writer = mall.app.kit().db.open_writer().await;
    writer.unwrap().execute("alter table coupons_definitions rename to coupons_definitions_away", &[]).await.unwrap();
    let answers = mall.claim_all(coupon, &members(20)).await;
    assert_eq!(count(&answers, "sold-out"), 20);
}
