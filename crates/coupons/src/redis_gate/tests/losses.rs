//! What is lost, and how it is built again (F15, I-C8).

use super::*;

// F15
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_gate_is_built_once_by_whoever_asks_first() {
    let (prefix, books) = (prefix(), Books::of(100));
    let instances: Vec<Instance> = (0..4).map(|_| Instance::new(&prefix, &books, times())).collect();
    for round in 1..=3 {
        let verdicts = join_all((0..40_u128).map(|number| {
            let instance = instances[usize::try_from(number % 4).unwrap()].clone();
            async move { instance.admit(1_000 + number).await }
        }))
        .await;
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Ask(Some(_)))), "nobody is refused meanwhile, everybody counts");
        drop(verdicts);
        instances[0].ready().await;
        assert_eq!(books.snapshots(), round);
        instances[0].lose_all().await;
    }
}

#[tokio::test]
async fn an_unknown_coupon_leaves_nothing_behind() {
    let instance = one(&Books::of(1)).await;
    let nobodys = CouponId(Uuid::from_u128(77));
    drop(instance.gate.admit(nobodys, member(1), OPEN).await);
    let key = instance.gate.redis.key("gate", &nobodys.to_string());
    instance.eventually("it is gone", async |instance| instance.gate.redis.call::<i64>(cmd("EXISTS").arg(&key)).await.unwrap() == 0).await;
    assert_eq!(instance.books.snapshots(), 1);
}

// I-C8: whatever is lost whenever, no unit is offered that the database does not have
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_fire_and_losses_it_never_offers_more_than_the_database_has() {
    const UNITS: i64 = 3_000;
    let (prefix, books) = (prefix(), Books::of(UNITS));
    let times = GateTimes { barrier: Duration::from_millis(300), current: Duration::from_millis(100), ..times() };
    let instances: Vec<Instance> = (0..3).map(|_| Instance::new(&prefix, &books, times)).collect();
    instances[0].ready().await;
    let (lost, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let sampling = async {
        let mut offers = 0_u32;
        while !over.load(Ordering::SeqCst) {
            // No commit comes between the two figures.
            let rows = books.rows.lock().await;
            if let Some(offer) = instances[2].on_offer().await {
                assert!(offer <= UNITS - rows.doors.issued, "{offer} on offer, {} issued", rows.doors.issued);
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
                let claimed = instance.claim(worker * 1_000_000 + number).await == Claimed::Issued;
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
    assert!(books.snapshots() >= 4, "{} snapshots", books.snapshots());
    instances[0].eventually("it is sold out", async |instance| code(&instance.admit(1 << 90).await) == Some(Code::SoldOut)).await;
}

/// A process died between its commit and its news.
#[tokio::test]
async fn news_that_never_come_are_noticed_and_the_gate_is_built_anew() {
    let books = Books::of(10);
    let instance = Instance::new(&prefix(), &books, GateTimes { hole: Duration::from_millis(50), ..times() });
    instance.ready().await;
    let lost = instance.change(|rows| {
        rows.doors.issued += 1;
        rows.shares.insert(member(1), 1);
        vec![(member(1), 1)]
    });
    drop(lost.await);
    place(instance.admit(1).await);
    let next = instance.change(|rows| {
        rows.doors.issued += 1;
        rows.shares.insert(member(2), 1);
        vec![(member(2), 1)]
    });
    instance.gate.learn([next.await]);
    instance
        .eventually("it is built anew", async |instance| {
            drop(instance.admit(u128::MAX).await);
            instance.books.snapshots() == 2
        })
        .await;
    instance.ready().await;
    assert_eq!(code(&instance.admit(1).await), Some(Code::AlreadyIssued));
}

/// A process died with a place; whether its claim was settled only the database knows.
#[tokio::test]
async fn a_place_that_nobody_settles_makes_the_gate_be_built_anew() {
    let books = Books::of(1);
    let instance = Instance::new(&prefix(), &books, GateTimes { place: Duration::from_millis(400), ..times() });
    instance.ready().await;
    let dead = instance.clone();
    let held = place(dead.admit(1).await);
    // Committed, and never told.
    drop(
        dead.change(|rows| {
            rows.doors.issued += 1;
            rows.shares.insert(member(1), 1);
            Vec::new()
        })
        .await,
    );
    instance.eventually("the coupon is sold out", async |instance| code(&instance.admit(2).await) == Some(Code::SoldOut)).await;
    assert_eq!(books.snapshots(), 2);
    drop(held);
}

#[tokio::test]
async fn news_that_come_while_it_is_built_are_in_it() {
    let slow = Books::slow(10).await;
    let instance = Instance::new(&prefix(), &slow, times());
    let (read, go) = slow.slow.as_ref().unwrap();
    let before = instance.change(|rows| {
        rows.doors.issued += 1;
        rows.shares.insert(member(1), 1);
        vec![(member(1), 1)]
    });
    let before = before.await;
    let Verdict::Ask(Some(waiting)) = instance.admit(3).await else { panic!("it is not built yet") };
    read.notified().await;
    // Read already.
    instance.gate.learn([before]);
    // Not read.
    assert!(instance.settle(member(2), None).await);
    assert!(instance.settle(member(3), Some(waiting)).await);
    instance
        .eventually("all are told", async |instance| {
            let waiting: i64 = instance.gate.redis.call(cmd("HLEN").arg(instance.key("gate-news"))).await.unwrap();
            waiting == 4
        })
        .await;
    go.notify_one();
    instance.eventually("it is built", async |instance| instance.state().await.as_deref() == Some("ready")).await;
    assert_eq!((instance.version().await, instance.on_offer().await), (4, Some(7)));
    for number in 1..=3 {
        assert_eq!(code(&instance.admit(number).await), Some(Code::AlreadyIssued), "{number}");
        let counted = instance.gate.redis.call::<i64>(cmd("HGET").arg(instance.key("gate-shares")).arg(member(number).0.as_bytes())).await;
        assert_eq!(counted.unwrap(), 1, "{number} is counted once, whether it was read or told or both");
    }
    assert!(!instance.has_hole().await);
}

/// What claims of the lost gate come to must be in the database before it is read.
#[tokio::test]
async fn the_database_is_not_read_before_the_barrier() {
    let books = Books::of(10);
    let instance = Instance::new(&prefix(), &books, GateTimes { barrier: Duration::from_secs(600), ..times() });
    for number in 0..20 {
        assert!(matches!(instance.admit(number).await, Verdict::Ask(Some(_))));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((books.snapshots(), instance.state().await.as_deref()), (0, Some("building")));
}

#[tokio::test]
async fn a_part_that_is_evicted_while_it_is_built_makes_it_begin_again() {
    for part in ["gate-news", "gate-places"] {
        let books = Books::slow(10).await;
        let instance = Instance::new(&prefix(), &books, times());
        let (read, go) = books.slow.as_ref().unwrap();
        drop(instance.admit(1).await);
        read.notified().await;
        instance.lose(&[part]).await;
        go.notify_one();
        instance.eventually("what was built is thrown away", async |instance| instance.state().await.is_none()).await;
        drop(instance.admit(1).await);
        read.notified().await;
        go.notify_one();
        instance.ready().await;
        assert_eq!(books.snapshots(), 2, "{part}");
    }
}

#[tokio::test]
async fn a_builder_that_died_is_replaced_and_a_late_one_changes_nothing() {
    let late = Books::slow(10).await;
    let prefix = prefix();
    let short = GateTimes { lease: Duration::from_millis(100), ..times() };
    let first = Instance::new(&prefix, &late, short);
    drop(first.admit(1).await);
    let (read, go) = late.slow.as_ref().unwrap();
    read.notified().await;
    // It hangs with what it read; meanwhile the coupon changes and another one builds.
    let books = Books::of(10);
    books.rows.lock().await.doors.version = 5;
    books.rows.lock().await.doors.issued = 4;
    let second = Instance::new(&prefix, &books, GateTimes { lease: Duration::from_secs(60), ..times() });
    second
        .eventually("the other one builds", async |instance| {
            drop(instance.admit(2).await);
            instance.state().await.as_deref() == Some("ready") && instance.places().await == 0
        })
        .await;
    go.notify_one();
    for _ in 0..20 {
        assert_eq!((second.version().await, second.on_offer().await), (5, Some(6)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((late.snapshots(), books.snapshots()), (1, 1));
}

#[tokio::test]
async fn while_the_database_is_down_nobody_is_refused_and_then_it_is_built() {
    let books = Books::of(10);
    books.down.store(true, Ordering::SeqCst);
    let instance = Instance::new(&prefix(), &books, times());
    instance
        .eventually("some tried", async |instance| {
            assert!(matches!(instance.admit(1).await, Verdict::Ask(_)));
            instance.books.looks() >= 2
        })
        .await;
    books.down.store(false, Ordering::SeqCst);
    instance.ready().await;
    place(instance.admit(1).await);
}

// F15: what could not be told
#[tokio::test]
async fn after_an_outage_the_gate_is_emptied_before_it_is_believed_again() {
    let books = Books::of(10);
    let instance = one(&books).await;
    // Another connection of the same process hangs: a server that is stopped would also stop the test's own look.
    let readonly = async |on: bool| {
        let name = instance.key("gate");
        let mut change = cmd(if on { "RENAME" } else { "DEL" });
        change.arg(&name);
        if on {
            change.arg(format!("{name}-aside"));
        }
        instance.gate.redis.call::<()>(&change).await.unwrap();
        if on {
            // A key of another kind: every script on it fails.
            instance.gate.redis.call::<()>(cmd("SET").arg(&name).arg("broken")).await.unwrap();
        }
    };
    readonly(true).await;
    assert!(matches!(instance.admit(1).await, Verdict::Ask(None)));
    assert!(instance.settle(member(1), None).await);
    instance
        .eventually("it was emptied", async |instance| {
            instance.gate.redis.call::<i64>(cmd("EXISTS").arg(instance.key("gate"))).await.unwrap() == 0
        })
        .await;
    instance.eventually("it is built anew", async |instance| code(&instance.admit(1).await) == Some(Code::AlreadyIssued)).await;
    assert_eq!(books.snapshots(), 2);
    instance.ready().await;
    assert_eq!(instance.on_offer().await, Some(9));
    readonly(false).await;
}
