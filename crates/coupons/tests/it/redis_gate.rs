//! The gate in Redis over the tables of this service: what it is built from, and that it then says what the batch says.

use crate::support::*;
use contracts::{Code, CouponId, MemberId};
use coupons::redis_gate::{Database, GateTimes, SharedGate, Shares, Truth, Verdict};
use kit::{
    ports::{SystemClock, new_id},
    redis::{Redis, RedisSettings},
};
use serde_json::json;
use std::{collections::HashMap, sync::Arc, time::Duration};

fn database(mall: &Mall) -> Database {
    Database(mall.app.process.kit.db.clone())
}

async fn shares(mall: &Mall, coupon: CouponId) -> HashMap<MemberId, u32> {
    match database(mall).snapshot(coupon).await.unwrap().expect("it is announced").shares {
        Shares::Known(shares) => shares.into_iter().collect(),
        Shares::TooMany => panic!("they are few"),
    }
}

#[tokio::test]
async fn it_is_built_from_the_row_and_from_what_counts_against_a_share() {
    let mall = Mall::open().await;
    for reissue in [false, true] {
        let coupon = mall.announce(json!({"quantity": 9, "per_member": 2, "reissue_after_cancel": reissue})).await;
        let (two, gave_back, none) = (member(), member(), member());
        for owner in [two, two, gave_back] {
            mall.get_one(coupon, owner).await;
        }
        assert_eq!(mall.give_back(coupon, gave_back).await.status, 204);
        let counted = shares(&mall, coupon).await;
        assert_eq!(counted.get(&two), Some(&2));
        assert_eq!(counted.get(&gave_back), if reissue { None } else { Some(&1) });
        assert_eq!(counted.get(&none), None);
        let doors = database(&mall).snapshot(coupon).await.unwrap().expect("it is announced").doors;
        assert_eq!((doors.limit, doors.issued, doors.per_member, doors.queue, doors.gone), (Some(9), 2, 2, false, false));
        assert_eq!((doors.opens_at, doors.closes_at), (mall.now(), mall.now().after(10 * DAY)));
    }
    let queue = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    assert!(database(&mall).snapshot(queue).await.unwrap().is_some_and(|snapshot| snapshot.doors.queue));
    let nobodys = CouponId(new_id());
    assert!(!database(&mall).knows(nobodys).await.unwrap());
    assert!(database(&mall).snapshot(nobodys).await.unwrap().is_none());
}

// C25, F15
#[tokio::test]
async fn built_from_the_tables_it_says_what_the_batch_says() {
    let url = std::env::var("ONRUSH_TEST_REDIS").expect("ONRUSH_TEST_REDIS is not set: start the test services with ./scripts/services up");
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 3, "issue_until": mall.now().after(HOUR)})).await;
    let owners: Vec<MemberId> = (0..3).map(|_| member()).collect();
    for owner in &owners {
        mall.get_one(coupon, *owner).await;
    }
    let settings =
        RedisSettings { call_timeout: Duration::from_secs(10), prefix: format!("test-{}:", new_id()), ..RedisSettings::default() };
    let redis = Redis::connect(&url, settings, Arc::new(SystemClock)).unwrap();
    let times = GateTimes { barrier: Duration::from_millis(10), ..GateTimes::default() };
    let gate = SharedGate::new(redis, Arc::new(database(&mall)), times);
    let late = member();
    let mut said = gate.admit(coupon, late, mall.now()).await;
    for _ in 0..3_000 {
        if !matches!(said, Verdict::Ask(_)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        said = gate.admit(coupon, late, mall.now()).await;
    }
    assert!(matches!(said, Verdict::Refused(Code::SoldOut)), "{said:?}");
    for round in 0..2 {
        for (applicant, expected) in [(late, [Code::SoldOut, Code::Closed][round]), (owners[1], Code::AlreadyIssued)] {
            let said = gate.admit(coupon, applicant, mall.now()).await;
            assert!(matches!(said, Verdict::Refused(code) if code == expected), "{said:?}");
            assert_eq!(mall.claim(coupon, applicant).await.problem(), expected.slug());
        }
        mall.app.clock.advance(HOUR);
    }
}
