//! The gate in Redis over the tables of this service: what it is built from, and that it then says what the batch says.

use crate::{replicas::malls_at, support::*};
use contracts::{Code, CouponId, MemberId};
use coupons::{
    Strategy,
    redis_gate::{Database, GateTimes, SharedGate, Shares, Truth, Verdict},
};
use futures::future::BoxFuture;
use kit::{
    DbError, Fault, Kit, Service, Work,
    db::Migration,
    ports::{Stopwatch, SystemClock, new_id},
    redis::{Redis, RedisSettings, cmd},
    testing::{App, TestResponse, Wire},
};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use utoipa_axum::router::OpenApiRouter;

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
        assert_eq!(database(&mall).doors(coupon).await.unwrap(), Some(doors));
    }
    let queue = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    assert!(database(&mall).snapshot(queue).await.unwrap().is_some_and(|snapshot| snapshot.doors.queue));
    let nobodys = CouponId(new_id());
    assert!(database(&mall).doors(nobodys).await.unwrap().is_none());
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

/// Two processes on one database and one gate; the first reaches Redis over a wire of its own.
async fn one_on_a_wire() -> (Mall, Wire, Mall) {
    let setup = Setup::of(Strategy::Redis);
    let (wired, wire) = setup.wired().await;
    let first = malls_at(1, wired).await.remove(0);
    let second = first.beside_at(setup).await;
    (first, wire, second)
}

/// Returns when the gate itself says no.
async fn refused(mall: &Mall, coupon: CouponId, member: MemberId, code: Code) {
    let gate = mall.gate().expect("there is one");
    for _ in 0..3_000 {
        if matches!(gate.admit(coupon, member, mall.now()).await, Verdict::Refused(said) if said == code) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never says {}", code.slug());
}

/// Nothing else is written meanwhile. It takes a second; more is what the machine may be busy with.
async fn gets_one_soon(mall: &Mall, coupon: CouponId, member: MemberId) -> TestResponse {
    let since = Stopwatch::start();
    let got = eventually(201, || mall.claim(coupon, member)).await;
    assert!(since.elapsed() < Duration::from_secs(3), "only after {:?}", since.elapsed());
    got
}

// C25: it refuses only what the database would; nobody is left who knows what was not told
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_that_was_never_told_is_found_by_the_claims_of_another_process() {
    let (first, wire, second) = one_on_a_wire().await;
    let coupon = first.announce(json!({"quantity": 1})).await;
    first.get_one(coupon, member()).await;
    refused(&second, coupon, member(), Code::SoldOut).await;
    wire.cut();
    let _ = first.change(coupon, json!({"quantity": 2})).await.expect(200);
    first.app.stop().await;
    assert_eq!(gets_one_soon(&second, coupon, member()).await.body["number"], 2);
    second.audit().await;
}

// C10, C25: the same of a member's share
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gave_his_coupon_back_gets_one_though_it_was_never_told() {
    let (first, wire, second) = one_on_a_wire().await;
    let coupon = first.announce(json!({"quantity": 5, "reissue_after_cancel": true})).await;
    let owner = member();
    first.get_one(coupon, owner).await;
    refused(&second, coupon, owner, Code::AlreadyIssued).await;
    wire.cut();
    assert_eq!(first.give_back(coupon, owner).await.status, 204);
    first.app.stop().await;
    let _ = gets_one_soon(&second, coupon, owner).await;
    second.audit().await;
}

// C25: while processes are changed to this strategy one after the other, those before tell the gate nothing
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_with_another_strategy_changes_is_found() {
    let old = malls_at(1, Setup::of(Strategy::GroupCommit)).await.remove(0);
    let new = old.beside_at(Setup::of(Strategy::Redis)).await;
    let coupon = old.announce(json!({"quantity": 2})).await;
    new.warm(coupon).await;
    new.get_one(coupon, member()).await;
    old.get_one(coupon, member()).await;
    refused(&new, coupon, member(), Code::SoldOut).await;
    let _ = old.change(coupon, json!({"quantity": 3})).await.expect(200);
    assert_eq!(gets_one_soon(&new, coupon, member()).await.body["number"], 3);
    refused(&new, coupon, member(), Code::SoldOut).await;
    let _ = new.change(coupon, json!({"quantity": 4})).await.expect(200);
    assert_eq!(gets_one_soon(&old, coupon, member()).await.body["number"], 4);
    old.audit().await;
}

/// Fails transactions when all else in them is done.
struct Spoiler {
    kit: Kit,
    failures: Arc<AtomicU32>,
}

impl Service for Spoiler {
    fn name(&self) -> &'static str {
        "spoiler"
    }
    fn migrations(&self) -> &'static [Migration] {
        &[]
    }
    fn kit(&self) -> &Kit {
        &self.kit
    }
    fn router(self: Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
    }
    fn flush<'a>(&'a self, _: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        let fails = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        Box::pin(async move { if fails { Err(DbError::Retry("somebody was faster".into()).into()) } else { Ok(()) } })
    }
}

// C25: what was certainly taken back leaves nothing to doubt
#[tokio::test]
async fn a_transaction_that_was_rolled_back_and_tried_again_does_not_cost_the_gate() {
    let (setup, failures) = (Setup::of(Strategy::Redis), Arc::new(AtomicU32::new(0)));
    let start = |kit: &Kit| {
        let mut all = services(kit, &setup);
        all.push(Arc::new(Spoiler { kit: kit.clone(), failures: Arc::clone(&failures) }));
        all
    };
    // Where all services write in one transaction.
    let app = App::builder().on_sqlite().start(start).await;
    let mall = Mall { app, setup: setup.clone() };
    let coupon = mall.announce(json!({"quantity": 5})).await;
    let redis = setup.redis().expect("it has a Redis");
    let era = async || -> Option<String> { redis.call(cmd("HGET").arg(redis.key("gate", &coupon.to_string())).arg("era")).await.unwrap() };
    let before = era().await;
    failures.store(1, Ordering::SeqCst);
    let owner = member();
    mall.get_one(coupon, owner).await;
    assert_eq!(failures.load(Ordering::SeqCst), 0);
    refused(&mall, coupon, owner, Code::AlreadyIssued).await;
    assert!(before.is_some());
    assert_eq!(era().await, before, "it was built anew");
}
