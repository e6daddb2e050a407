//! An early refusal must equal that of the database (C25), and leaves no trace there.

use crate::support::*;
use contracts::{CouponId, MemberId};
use coupons::{Strategy, admission::redis::GateTimes};
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;
use testkit::TestResponse;

/// The answers to the same claim without a key and with a new one.
async fn both(mall: &Mall, coupon: CouponId, member: MemberId) -> [String; 2] {
    let keyed = claim_with_new_key(mall, coupon, member).await;
    [mall.claim(coupon, member).await.problem().to_owned(), keyed.problem().to_owned()]
}

async fn claim_with_new_key(mall: &Mall, coupon: CouponId, member: MemberId) -> TestResponse {
    let path = format!("/v1/coupons/{coupon}/claims");
    mall.app.post(path).bearer(&mall.shopper(member)).key(&kit::ports::new_id().to_string()).send().await
}

/// Waits until the gate in Redis offers this number of units.
async fn wait_for_units(mall: &Mall, coupon: CouponId, units: i64) {
    let gate = mall.gate().expect("there is one");
    for _ in 0..500 {
        match gate.available_units(coupon).await.expect("Redis answers") {
            Some(offered) if offered == units => return,
            Some(_) => {}
            // The gate is stale after a quiet time. A claim refreshes it.
            None => {
                drop(gate.admit(coupon, member(), mall.now()).await);
                gate.flushed().await;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{units} units are not on offer");
}

// C25
#[tokio::test]
async fn early_refusals_equal_those_of_the_database() {
    for strategy in [Strategy::GroupCommit, Strategy::Redis] {
        for refuses_early in [true, false] {
            refusals_are_right(&Mall::open_at(Setup { refuses_early, ..Setup::of(strategy) }).await).await;
        }
    }
}

async fn refusals_are_right(mall: &Mall) {
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

// C25: each way to free a unit ends the refusals at once
#[tokio::test]
async fn a_freed_unit_ends_early_refusals() {
    for strategy in [Strategy::GroupCommit, Strategy::Redis] {
        freed_units_are_claimable(&Mall::open_with(strategy).await).await;
    }
}

async fn freed_units_are_claimable(mall: &Mall) {
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
                // A job does not wait for the gate to apply its commit.
                if mall.setup.strategy == Strategy::Redis {
                    wait_for_units(mall, coupon, 2).await;
                }
            }
            _ => assert_eq!(mall.change(coupon, json!({"waitlist": true})).await.status, 200),
        }
        let answer = mall.claim(coupon, next).await;
        assert_eq!(answer.status, if round == 3 { 202 } else { 201 }, "round {round}");
        owner = next;
        // Both units that expired in round 2 were returned.
        if round == 2 {
            mall.get_one(coupon, member()).await;
        }
    }
    mall.audit().await;
}

// C25: the cache is filled again after a restart
#[tokio::test]
async fn after_a_restart_refusals_are_right() {
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

// C25: early refusals do not reach the writer
#[tokio::test]
async fn a_sold_out_coupon_costs_no_transaction() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1})).await;
    mall.get_one(coupon, member()).await;
    let _ = mall.claim(coupon, member()).await.expect_problem(409, "sold-out");
    // Without the table only the cache can answer.
    let writer = mall.app.kit().db.open_writer().await;
    writer.unwrap().execute("alter table coupons_definitions rename to coupons_definitions_away", &[]).await.unwrap();
    let answers = mall.claim_all(coupon, &members(20)).await;
    assert_eq!(count(&answers, "sold-out"), 20);
}

// finding 15: a member cannot fill the disk with refusals under new keys
#[tokio::test]
async fn refusals_under_new_keys_leave_no_rows() {
    for strategy in [Strategy::GroupCommit, Strategy::Redis] {
        let setup = Setup::of(strategy);
        let gate = GateTimes { max_staleness: Duration::from_secs(600), ..setup.gate };
        let mall = Mall::open_at(Setup { gate, ..setup }).await;
        let coupon = mall.announce(json!({"quantity": 1})).await;
        mall.get_one(coupon, member()).await;
        let flooding = member();
        // The first refusal reads the owners.
        assert_eq!(both(&mall, coupon, flooding).await, ["sold-out"; 2]);
        let rows = "select count(*) from coupons_idempotency";
        let before = mall.app.sql_i64(rows).await;
        for _ in 0..10 {
            let answers = join_all((0..200).map(|_| claim_with_new_key(&mall, coupon, flooding))).await;
            assert_eq!(count(&answers, "sold-out"), 200);
        }
        assert_eq!(mall.app.sql_i64(rows).await, before, "{strategy:?}");
    }
}
