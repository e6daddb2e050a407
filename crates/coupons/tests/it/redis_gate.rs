//! The gate in Redis over the tables of this service: it is built from them, and then refuses like the queue.

use crate::{replicas::malls_at, support::*};
use contracts::{Code, CouponId, MemberId};
use coupons::{
    Strategy,
    admission::redis::{CouponSource, DatabaseSource, GateTimes, GateVerdict, MemberCounts, SharedGate},
};
use kit::{
    DbError, Kit,
    ports::{Stopwatch, SystemClock, new_id},
    redis::{Redis, RedisSettings, cmd},
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
use testkit::{App, StubService, TcpProxy, TestResponse};

fn database(mall: &Mall) -> DatabaseSource {
    DatabaseSource(mall.app.process.kit.db.clone())
}

async fn member_counts(mall: &Mall, coupon: CouponId) -> HashMap<MemberId, u32> {
    match database(mall).snapshot(coupon).await.unwrap().expect("it is announced").member_counts {
        MemberCounts::Known(counts) => counts.into_iter().collect(),
        MemberCounts::TooMany => panic!("they are few"),
    }
}

#[tokio::test]
async fn a_gate_is_built_from_the_row_and_the_member_counts() {
    let mall = Mall::open().await;
    for reissue in [false, true] {
        let coupon = mall.announce(json!({"quantity": 9, "per_member": 2, "reissue_after_cancel": reissue})).await;
        let (two, gave_back, none) = (member(), member(), member());
        for owner in [two, two, gave_back] {
            mall.get_one(coupon, owner).await;
        }
        assert_eq!(mall.give_back(coupon, gave_back).await.status, 204);
        let counted = member_counts(&mall, coupon).await;
        assert_eq!(counted.get(&two), Some(&2));
        assert_eq!(counted.get(&gave_back), if reissue { None } else { Some(&1) });
        assert_eq!(counted.get(&none), None);
        let limits = database(&mall).snapshot(coupon).await.unwrap().expect("it is announced").limits;
        assert_eq!(
            (limits.quantity, limits.issued, limits.per_member, limits.has_waitlist, limits.is_deleted),
            (Some(9), 2, 2, false, false)
        );
        assert_eq!((limits.opens_at, limits.closes_at), (mall.now(), mall.now().after(10 * DAY)));
        assert_eq!(database(&mall).limits(coupon).await.unwrap(), Some(limits));
    }
    let queue = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    assert!(database(&mall).snapshot(queue).await.unwrap().is_some_and(|snapshot| snapshot.limits.has_waitlist));
    let unknown = CouponId(new_id());
    assert!(database(&mall).limits(unknown).await.unwrap().is_none());
    assert!(database(&mall).snapshot(unknown).await.unwrap().is_none());
}

// C25, F15
#[tokio::test]
async fn a_gate_built_from_tables_refuses_like_the_queue() {
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
    let mut verdict = gate.admit(coupon, late, mall.now()).await;
    for _ in 0..3_000 {
        if !matches!(verdict, GateVerdict::Undecided(_)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        verdict = gate.admit(coupon, late, mall.now()).await;
    }
    assert!(matches!(verdict, GateVerdict::Refused(Code::SoldOut)), "{verdict:?}");
    for round in 0..2 {
        for (member_id, expected) in [(late, [Code::SoldOut, Code::Closed][round]), (owners[1], Code::AlreadyIssued)] {
            let verdict = gate.admit(coupon, member_id, mall.now()).await;
            assert!(matches!(verdict, GateVerdict::Refused(code) if code == expected), "{verdict:?}");
            assert_eq!(mall.claim(coupon, member_id).await.problem(), expected.slug());
        }
        mall.app.clock.advance(HOUR);
    }
}

/// Two processes on one database and one gate. The first reaches Redis through a proxy.
async fn two_processes_one_behind_a_proxy() -> (Mall, TcpProxy, Mall) {
    let setup = Setup::of(Strategy::Redis);
    let (proxied, proxy) = setup.behind_proxy().await;
    let first = malls_at(1, proxied).await.remove(0);
    let second = first.add_process_with(setup).await;
    (first, proxy, second)
}

/// Waits until the gate itself refuses the claim.
async fn refused(mall: &Mall, coupon: CouponId, member: MemberId, code: Code) {
    let gate = mall.gate().expect("there is one");
    for _ in 0..3_000 {
        if matches!(gate.admit(coupon, member, mall.now()).await, GateVerdict::Refused(refusal) if refusal == code) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the gate never refuses with {}", code.slug());
}

/// No other commit helps. It takes a second; the rest is for a busy machine.
async fn gets_one_soon(mall: &Mall, coupon: CouponId, member: MemberId) -> TestResponse {
    let since = Stopwatch::start();
    let got = eventually(201, || mall.claim(coupon, member)).await;
    assert!(since.elapsed() < Duration::from_secs(3), "only after {:?}", since.elapsed());
    got
}

// C25: it refuses only claims that the database would refuse; the process with the unsent update has stopped
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsent_raise_is_found_by_another_process() {
    let (first, proxy, second) = two_processes_one_behind_a_proxy().await;
    let coupon = first.announce(json!({"quantity": 1})).await;
    first.get_one(coupon, member()).await;
    refused(&second, coupon, member(), Code::SoldOut).await;
    proxy.cut();
    let _ = first.change(coupon, json!({"quantity": 2})).await.expect(200);
    first.app.stop().await;
    assert_eq!(gets_one_soon(&second, coupon, member()).await.body["number"], 2);
    second.audit().await;
}

// C10, C25: the same for a member's count
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_claims_again_after_an_unsent_return() {
    let (first, proxy, second) = two_processes_one_behind_a_proxy().await;
    let coupon = first.announce(json!({"quantity": 5, "reissue_after_cancel": true})).await;
    let owner = member();
    first.get_one(coupon, owner).await;
    refused(&second, coupon, owner, Code::AlreadyIssued).await;
    proxy.cut();
    assert_eq!(first.give_back(coupon, owner).await.status, 204);
    first.app.stop().await;
    let _ = gets_one_soon(&second, coupon, owner).await;
    second.audit().await;
}

// C25: while processes change to this strategy one after the other, the old ones send no updates
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_another_strategy_are_found() {
    let old = malls_at(1, Setup::of(Strategy::GroupCommit)).await.remove(0);
    let new = old.add_process_with(Setup::of(Strategy::Redis)).await;
    let coupon = old.announce(json!({"quantity": 2})).await;
    new.wait_for_gate(coupon).await;
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

/// Fails transactions after all other work in them is done.
fn failing_service(kit: &Kit, failures: &Arc<AtomicU32>) -> StubService {
    let failures = Arc::clone(failures);
    StubService::new(kit, "failing").on_flush(move |_| {
        let fails = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if fails { Err(DbError::Retry("injected conflict".into()).into()) } else { Ok(()) }
    })
}

// C25: a known rollback does not invalidate the gate
#[tokio::test]
async fn a_retried_transaction_does_not_rebuild_the_gate() {
    let (setup, failures) = (Setup::of(Strategy::Redis), Arc::new(AtomicU32::new(0)));
    let start = |kit: &Kit| {
        let mut all = services(kit, &setup);
        all.push(Arc::new(failing_service(kit, &failures)));
        all
    };
    // On SQLite all services write in one transaction.
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
    assert_eq!(era().await, before, "it was rebuilt");
}
