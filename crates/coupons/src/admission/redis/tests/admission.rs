//! Admission by an intact gate.

use super::*;

// C25
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_claims_for_a_hundred_units_admit_a_hundred() {
    let (prefix, database) = (prefix(), FakeDatabase::of(100));
    let instances: Vec<Instance> = (0..3).map(|_| Instance::new(&prefix, &database, times())).collect();
    instances[0].ready().await;
    let verdicts = join_all((0..1_000_u128).map(|number| {
        let instance = instances[usize::try_from(number % 3).unwrap()].clone();
        async move { (number, instance.admit(number).await) }
    }))
    .await;
    let (mut slots, mut full) = (Vec::new(), 0);
    for (number, verdict) in verdicts {
        match verdict {
            GateVerdict::Admitted(slot) => slots.push((number, slot)),
            GateVerdict::Full => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((slots.len(), full), (100, 900));
    assert_eq!(instances[1].available_units().await, Some(0));
    let owner = slots[0].0;
    for (number, slot) in slots {
        assert!(instances[0].settle(member(number), Some(slot)).await);
    }
    instances[0].eventually("all updates arrived", async |instance| instance.version().await == 101).await;
    assert_eq!(code(&instances[2].admit(5_000).await), Some(Code::SoldOut));
    assert_eq!(code(&instances[2].admit(owner).await), Some(Code::AlreadyIssued));
    assert_eq!(instances[1].slots().await, 0);
}

#[tokio::test]
async fn claims_are_admitted_only_inside_the_window() {
    let instance = one(&FakeDatabase::of(100)).await;
    let at = async |number, now| instance.gate.admit(ID, member(number), Timestamp(now)).await;
    assert_eq!(code(&at(1, OPENS.0 - 1).await), Some(Code::NotOpen));
    slot(at(1, OPENS.0).await);
    slot(at(2, CLOSES.0 - 1).await);
    assert_eq!(code(&at(3, CLOSES.0).await), Some(Code::Closed));
    // A moved window counts at once.
    let later = instance.change(|rows| {
        rows.limits.closes_at = Timestamp(CLOSES.0 + 1);
        Vec::new()
    });
    instance.gate.apply([later.await]);
    instance.eventually("the update is applied", async |instance| instance.version().await == 2).await;
    slot(at(3, CLOSES.0).await);
    let deleted = instance.change(|rows| {
        rows.limits.is_deleted = true;
        Vec::new()
    });
    instance.gate.apply([deleted.await]);
    instance.eventually("the update is applied", async |instance| instance.version().await == 3).await;
    assert_eq!(code(&at(3, OPENS.0).await), Some(Code::NotFound));
}

#[tokio::test]
async fn a_member_at_the_limit_gets_no_slot() {
    let database = FakeDatabase::of(100);
    database.rows.lock().await.limits.per_member = 2;
    let instance = one(&database).await;
    let (first, second) = (slot(instance.admit(1).await), slot(instance.admit(1).await));
    assert!(matches!(instance.admit(1).await, GateVerdict::Undecided(None)), "both are in progress; the database decides a third");
    assert!(instance.settle(member(1), Some(first)).await);
    instance.eventually("the update is applied", async |instance| instance.version().await == 2).await;
    assert!(matches!(instance.admit(1).await, GateVerdict::Undecided(None)), "one is issued, one is in progress");
    assert!(instance.settle(member(1), Some(second)).await);
    instance.eventually("the update is applied", async |instance| instance.version().await == 3).await;
    assert_eq!(code(&instance.admit(1).await), Some(Code::AlreadyIssued));
    // A returned coupon does not count any more.
    let back = instance.change(|rows| {
        rows.limits.issued -= 1;
        vec![(member(1), -1)]
    });
    instance.gate.apply([back.await]);
    instance.eventually("the update is applied", async |instance| instance.version().await == 4).await;
    slot(instance.admit(1).await);
}

#[tokio::test]
async fn a_dropped_slot_is_available_again() {
    let instance = one(&FakeDatabase::of(1)).await;
    let held = slot(instance.admit(1).await);
    assert!(matches!(instance.admit(2).await, GateVerdict::Full));
    let clone = Arc::clone(&held);
    drop(held);
    assert!(matches!(instance.admit(2).await, GateVerdict::Full), "it is still held");
    drop(clone);
    instance.eventually("the slot is freed", async |instance| instance.available_units().await == Some(1)).await;
    slot(instance.admit(2).await);
}

/// Another process settles the claim than the one that admitted it.
#[tokio::test]
async fn a_slot_can_be_handed_over() {
    let (prefix, database) = (prefix(), FakeDatabase::of(1));
    let times = GateTimes { permit_ttl: Duration::from_secs(2), ..times() };
    let (admitting, settling) = (Instance::new(&prefix, &database, times), Instance::new(&prefix, &database, times));
    admitting.ready().await;
    let handed = slot(admitting.admit(1).await).hand_over();
    let handed = SlotToken::of(ID, member(1), &handed.to_message());
    assert!(matches!(admitting.admit(2).await, GateVerdict::Full), "the process that handed it over does not free it");
    let old = settling.gate.take_over(handed.clone(), OPEN.after(Duration::from_secs(2)));
    assert!(!old.is_current());
    drop(old);
    admitting.eventually("the slot is freed", async |admitting| admitting.available_units().await == Some(1)).await;
    let handed = slot(admitting.admit(2).await).hand_over();
    let taken = settling.gate.take_over(handed, OPEN);
    assert!(taken.is_current());
    assert!(settling.settle(member(2), Some(taken)).await);
    admitting.eventually("the update is applied", async |admitting| code(&admitting.admit(3).await) == Some(Code::SoldOut)).await;
    assert_eq!(admitting.slots().await, 0);
}

#[tokio::test]
async fn unlimited_coupons_admit_all_and_waitlists_admit_none() {
    let database = FakeDatabase::of(1);
    database.rows.lock().await.limits.quantity = None;
    let instance = one(&database).await;
    for number in 0..50 {
        slot(instance.admit(number).await);
    }
    assert_eq!(instance.available_units().await, None);
    let queue = instance.change(|rows| {
        rows.limits.quantity = Some(10);
        rows.limits.has_waitlist = true;
        Vec::new()
    });
    instance.gate.apply([queue.await]);
    instance.eventually("the update is applied", async |instance| instance.version().await == 2).await;
    assert!(matches!(instance.admit(100).await, GateVerdict::Undecided(Some(_))));
    assert_eq!(instance.available_units().await, Some(0), "the remaining units are for the waiting members");
}

#[tokio::test]
async fn updates_in_any_order_make_the_same_gate() {
    let instance = one(&FakeDatabase::of(10)).await;
    let mut updates = Vec::new();
    for number in 0..3 {
        updates.push(
            instance
                .change(|rows| {
                    rows.limits.issued += 1;
                    vec![(member(number), 1)]
                })
                .await,
        );
    }
    updates.reverse();
    for one in updates {
        instance.gate.apply([one]);
    }
    let version = instance.database.rows.lock().await.limits.version;
    instance
        .eventually("all updates are applied", async |instance| {
            let seen: i64 = instance.gate.redis.call(cmd("HGET").arg(instance.key("gate")).arg("seen")).await.unwrap();
            seen == 3 && instance.version().await == version
        })
        .await;
    assert_eq!(instance.available_units().await, Some(7));
    for number in 0..3 {
        assert_eq!(code(&instance.admit(number).await), Some(Code::AlreadyIssued));
    }
    assert!(!instance.has_gap().await);
}

/// A claim that only the database may refuse counts like any other, for any number of free units and any holdings of its member.
#[tokio::test]
async fn a_forced_slot_ignores_the_gate_state() {
    let instance = one(&FakeDatabase::of(2)).await;
    assert!(instance.settle(member(1), Some(slot(instance.admit(1).await))).await);
    instance.eventually("the update is applied", async |instance| instance.version().await == 2).await;
    let mut held = Vec::new();
    for number in [1, 1, 2, 3] {
        held.push(instance.gate.force_slot(ID, member(number), OPEN).await.expect("Redis answers"));
    }
    assert_eq!((instance.slots().await, instance.available_units().await), (4, Some(0)));
    assert!(matches!(instance.admit(4).await, GateVerdict::Full));
    drop(held);
    instance.eventually("the slots are freed", async |instance| instance.available_units().await == Some(1)).await;
}

// F15: the same state on another server may be older
#[tokio::test]
async fn a_gate_of_another_server_is_rebuilt() {
    let database = FakeDatabase::of(5);
    let instance = one(&database).await;
    instance.gate.redis.call::<()>(cmd("HSET").arg(instance.key("gate")).arg("server").arg("another")).await.unwrap();
    assert_eq!(instance.available_units().await, None);
    assert!(matches!(instance.admit(1).await, GateVerdict::Undecided(Some(_))));
    instance.ready().await;
    assert_eq!((database.snapshots(), instance.available_units().await), (2, Some(5)));
}

/// I-C8: a member claims twice. The second claim, without a slot, is settled first, and its update is late. The slot of the first claim,
/// which was refused because of it, must not be available before that update.
#[tokio::test]
async fn a_refused_claims_slot_ends_together_with_its_cause() {
    let instance = one(&FakeDatabase::of(5)).await;
    let first = slot(instance.admit(1).await);
    assert!(matches!(instance.admit(1).await, GateVerdict::Undecided(None)));
    let late = instance.change(|rows| {
        rows.limits.issued += 1;
        rows.member_counts.insert(member(1), 1);
        vec![(member(1), 1)]
    });
    let late = late.await;
    assert_eq!(instance.available_units().await, Some(4));
    instance.gate.apply_refused([GateUpdate { coupon_id: ID, limits: late.limits, member_counts: Vec::new(), settled: vec![first] }]);
    instance.gate.flushed().await;
    assert_eq!((instance.available_units().await, instance.slots().await), (Some(4), 0));
    instance.gate.apply([late]);
    instance.gate.flushed().await;
    assert_eq!((instance.available_units().await, instance.has_gap().await), (Some(4), false));
    assert_eq!(code(&instance.admit(1).await), Some(Code::AlreadyIssued));
}
