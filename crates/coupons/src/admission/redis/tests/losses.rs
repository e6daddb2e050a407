//! Losses of the gate, and its rebuild (F15, I-C8).

use super::*;

// F15
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_gate_is_rebuilt_once_by_its_first_caller() {
    let (prefix, database) = (prefix(), FakeDatabase::of(100));
    let instances: Vec<Instance> = (0..4).map(|_| Instance::new(&prefix, &database, times())).collect();
    for round in 1..=3 {
        let verdicts = join_all((0..40_u128).map(|number| {
            let instance = instances[usize::try_from(number % 4).unwrap()].clone();
            async move { instance.admit(1_000 + number).await }
        }))
        .await;
        assert!(
            verdicts.iter().all(|verdict| matches!(verdict, GateVerdict::Undecided(Some(_)))),
            "no claim is refused during the rebuild, and each holds a slot"
        );
        drop(verdicts);
        instances[0].ready().await;
        assert_eq!(database.snapshots(), round);
        instances[0].lose_all().await;
    }
}

#[tokio::test]
async fn an_unknown_coupon_leaves_no_keys() {
    let instance = one(&FakeDatabase::of(1)).await;
    let unknown = CouponId(Uuid::from_u128(77));
    drop(instance.gate.admit(unknown, member(1), OPEN).await);
    let key = instance.gate.redis.key("gate", &unknown.to_string());
    instance.eventually("it is gone", async |instance| instance.gate.redis.call::<i64>(cmd("EXISTS").arg(&key)).await.unwrap() == 0).await;
    assert_eq!(instance.database.snapshots(), 1);
}

// I-C8: after any loss at any time, the gate offers no unit that the database does not have
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gate_lost_in_a_rush_never_offers_too_many_units() {
    const UNITS: i64 = 3_000;
    let (prefix, database) = (prefix(), FakeDatabase::of(UNITS));
    let times = GateTimes { barrier: Duration::from_millis(300), permit_ttl: Duration::from_millis(100), ..times() };
    let instances: Vec<Instance> = (0..3).map(|_| Instance::new(&prefix, &database, times)).collect();
    instances[0].ready().await;
    let (lost, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let sampling = async {
        let mut offers = 0_u32;
        while !over.load(Ordering::SeqCst) {
            // No commit happens between the two reads.
            let rows = database.rows.lock().await;
            if let Some(offer) = instances[2].available_units().await {
                assert!(offer <= UNITS - rows.limits.issued, "{offer} on offer, {} issued", rows.limits.issued);
                offers += u32::from(offer > 0);
            }
            drop(rows);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        offers
    };
    let losing = async {
        for kinds in [["gate", "gate-shares", "gate-places", "gate-news"].as_slice(), &["gate-places"], &["gate-shares"], &["gate"]] {
            instances[1].eventually("it is built", async |instance| instance.state().await.as_deref() == Some("ready")).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            instances[1].lose(kinds).await;
        }
        lost.store(true, Ordering::SeqCst);
    };
    let rushing = join_all((0..40_u128).map(|worker| {
        let (instance, lost) = (instances[usize::try_from(worker % 3).unwrap()].clone(), &lost);
        async move {
            let mut issued = 0_i64;
            for number in 0_u128.. {
                let claimed = instance.claim(worker * 1_000_000 + number).await == ClaimResult::Issued;
                issued += i64::from(claimed);
                if !claimed && lost.load(Ordering::SeqCst) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            issued
        }
    }));
    let (offers, issued) = futures::join!(sampling, async {
        let (issued, ()) = futures::join!(rushing, losing);
        over.store(true, Ordering::SeqCst);
        issued.into_iter().sum::<i64>()
    });
    assert_eq!(issued, UNITS);
    assert!(offers > 0, "the sampler saw nothing");
    assert!(database.snapshots() >= 4, "{} snapshots", database.snapshots());
    instances[0].eventually("it is sold out", async |instance| code(&instance.admit(1 << 90).await) == Some(Code::SoldOut)).await;
}

/// A process died between its commit and its update.
#[tokio::test]
async fn a_missing_update_makes_the_gate_rebuild() {
    let database = FakeDatabase::of(10);
    let instance = Instance::new(&prefix(), &database, GateTimes { gap_timeout: Duration::from_millis(50), ..times() });
    instance.ready().await;
    let lost = instance.change(|rows| {
        rows.limits.issued += 1;
        rows.member_counts.insert(member(1), 1);
        vec![(member(1), 1)]
    });
    drop(lost.await);
    slot(instance.admit(1).await);
    let next = instance.change(|rows| {
        rows.limits.issued += 1;
        rows.member_counts.insert(member(2), 1);
        vec![(member(2), 1)]
    });
    instance.gate.apply([next.await]);
    instance
        .eventually("it is rebuilt", async |instance| {
            drop(instance.admit(u128::MAX).await);
            instance.database.snapshots() == 2
        })
        .await;
    instance.ready().await;
    assert_eq!(code(&instance.admit(1).await), Some(Code::AlreadyIssued));
}

/// A process died with a slot. Only the database knows the result of its claim.
#[tokio::test]
async fn a_timed_out_slot_makes_the_gate_rebuild() {
    let database = FakeDatabase::of(1);
    let instance = Instance::new(&prefix(), &database, GateTimes { slot_timeout: Duration::from_millis(400), ..times() });
    instance.ready().await;
    let dead = instance.clone();
    let held = slot(dead.admit(1).await);
    // Committed, and never sent.
    drop(
        dead.change(|rows| {
            rows.limits.issued += 1;
            rows.member_counts.insert(member(1), 1);
            Vec::new()
        })
        .await,
    );
    instance.eventually("the coupon is sold out", async |instance| code(&instance.admit(2).await) == Some(Code::SoldOut)).await;
    assert_eq!(database.snapshots(), 2);
    drop(held);
}

#[tokio::test]
async fn updates_during_a_rebuild_are_applied() {
    let slow = FakeDatabase::slow(10).await;
    let instance = Instance::new(&prefix(), &slow, times());
    let (read, go) = slow.slow.as_ref().unwrap();
    let before = instance.change(|rows| {
        rows.limits.issued += 1;
        rows.member_counts.insert(member(1), 1);
        vec![(member(1), 1)]
    });
    let before = before.await;
    let GateVerdict::Undecided(Some(waiting)) = instance.admit(3).await else { panic!("it is not built yet") };
    read.notified().await;
    // Already read.
    instance.gate.apply([before]);
    // Not read.
    assert!(instance.settle(member(2), None).await);
    assert!(instance.settle(member(3), Some(waiting)).await);
    instance
        .eventually("all updates arrived", async |instance| {
            let waiting: i64 = instance.gate.redis.call(cmd("HLEN").arg(instance.key("gate-news"))).await.unwrap();
            waiting == 4
        })
        .await;
    go.notify_one();
    instance.eventually("it is built", async |instance| instance.state().await.as_deref() == Some("ready")).await;
    assert_eq!((instance.version().await, instance.available_units().await), (4, Some(7)));
    for number in 1..=3 {
        assert_eq!(code(&instance.admit(number).await), Some(Code::AlreadyIssued), "{number}");
        let counted = instance.gate.redis.call::<i64>(cmd("HGET").arg(instance.key("gate-shares")).arg(member(number).0.as_bytes())).await;
        assert_eq!(counted.unwrap(), 1, "{number} counts once, read or updated or both");
    }
    assert!(!instance.has_gap().await);
}

/// The results of claims of the lost gate must be in the database before it is read.
#[tokio::test]
async fn the_builder_waits_for_the_barrier() {
    let database = FakeDatabase::of(10);
    let instance = Instance::new(&prefix(), &database, GateTimes { barrier: Duration::from_secs(600), ..times() });
    for number in 0..20 {
        assert!(matches!(instance.admit(number).await, GateVerdict::Undecided(Some(_))));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((database.snapshots(), instance.state().await.as_deref()), (0, Some("building")));
}

#[tokio::test]
async fn an_eviction_during_a_rebuild_restarts_it() {
    for part in ["gate-news", "gate-places"] {
        let database = FakeDatabase::slow(10).await;
        let instance = Instance::new(&prefix(), &database, times());
        let (read, go) = database.slow.as_ref().unwrap();
        drop(instance.admit(1).await);
        read.notified().await;
        instance.lose(&[part]).await;
        go.notify_one();
        instance.eventually("what was built is thrown away", async |instance| instance.state().await.is_none()).await;
        drop(instance.admit(1).await);
        read.notified().await;
        go.notify_one();
        instance.ready().await;
        assert_eq!(database.snapshots(), 2, "{part}");
    }
}

#[tokio::test]
async fn a_dead_builder_is_replaced_and_a_late_one_ignored() {
    let late = FakeDatabase::slow(10).await;
    let prefix = prefix();
    let short = GateTimes { build_lease: Duration::from_millis(100), ..times() };
    let first = Instance::new(&prefix, &late, short);
    drop(first.admit(1).await);
    let (read, go) = late.slow.as_ref().unwrap();
    read.notified().await;
    // It hangs after its read. Meanwhile the coupon changes and another process builds.
    let database = FakeDatabase::of(10);
    database.rows.lock().await.limits.version = 5;
    database.rows.lock().await.limits.issued = 4;
    let second = Instance::new(&prefix, &database, GateTimes { build_lease: Duration::from_secs(60), ..times() });
    second
        .eventually("the other one builds", async |instance| {
            drop(instance.admit(2).await);
            instance.state().await.as_deref() == Some("ready") && instance.slots().await == 0
        })
        .await;
    go.notify_one();
    for _ in 0..20 {
        assert_eq!((second.version().await, second.available_units().await), (5, Some(6)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((late.snapshots(), database.snapshots()), (1, 1));
}

#[tokio::test]
async fn no_claim_is_refused_while_the_database_is_down() {
    let database = FakeDatabase::of(10);
    database.down.store(true, Ordering::SeqCst);
    let instance = Instance::new(&prefix(), &database, times());
    instance
        .eventually("some tried", async |instance| {
            assert!(matches!(instance.admit(1).await, GateVerdict::Undecided(_)));
            instance.database.refreshes() >= 2
        })
        .await;
    database.down.store(false, Ordering::SeqCst);
    instance.ready().await;
    slot(instance.admit(1).await);
}

// F15: updates that could not be sent
#[tokio::test]
async fn after_an_outage_the_gate_is_cleared_before_use() {
    let database = FakeDatabase::of(10);
    let instance = one(&database).await;
    // Only this key fails: a stopped server would fail the test's own reads, too.
    let readonly = async |on: bool| {
        let name = instance.key("gate");
        let mut change = cmd(if on { "RENAME" } else { "DEL" });
        change.arg(&name);
        if on {
            change.arg(format!("{name}-aside"));
        }
        instance.gate.redis.call::<()>(&change).await.unwrap();
        if on {
            // A key of another type makes every script on it fail.
            instance.gate.redis.call::<()>(cmd("SET").arg(&name).arg("broken")).await.unwrap();
        }
    };
    readonly(true).await;
    assert!(matches!(instance.admit(1).await, GateVerdict::Undecided(None)));
    assert!(instance.settle(member(1), None).await);
    instance
        .eventually("it was emptied", async |instance| {
            instance.gate.redis.call::<i64>(cmd("EXISTS").arg(instance.key("gate"))).await.unwrap() == 0
        })
        .await;
    instance.eventually("it is rebuilt", async |instance| code(&instance.admit(1).await) == Some(Code::AlreadyIssued)).await;
    assert_eq!(database.snapshots(), 2);
    instance.ready().await;
    assert_eq!(instance.available_units().await, Some(9));
    readonly(false).await;
}
