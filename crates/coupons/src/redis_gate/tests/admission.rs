//! Who is let in.

use super::*;

// C25
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_at_once_a_hundred_are_admitted() {
    let (prefix, books) = (prefix(), Books::of(100));
    let instances: Vec<Instance> = (0..3).map(|_| Instance::new(&prefix, &books, times())).collect();
    instances[0].ready().await;
    let verdicts = join_all((0..1_000_u128).map(|number| {
        let instance = instances[usize::try_from(number % 3).unwrap()].clone();
        async move { (number, instance.admit(number).await) }
    }))
    .await;
    let (mut places, mut full) = (Vec::new(), 0);
    for (number, verdict) in verdicts {
        match verdict {
            Verdict::Admitted(place) => places.push((number, place)),
            Verdict::Full => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((places.len(), full), (100, 900));
    assert_eq!(instances[1].on_offer().await, Some(0));
    let owner = places[0].0;
    for (number, place) in places {
        assert!(instances[0].settle(member(number), Some(place)).await);
    }
    instances[0].eventually("all news arrived", async |instance| instance.version().await == 101).await;
    assert_eq!(code(&instances[2].admit(5_000).await), Some(Code::SoldOut));
    assert_eq!(code(&instances[2].admit(owner).await), Some(Code::AlreadyIssued));
    assert_eq!(instances[1].places().await, 0);
}

#[tokio::test]
async fn the_window_is_open_from_its_first_microsecond_to_before_its_last() {
    let instance = one(&Books::of(100)).await;
    let at = async |number, now| instance.gate.admit(ID, member(number), Timestamp(now)).await;
    assert_eq!(code(&at(1, OPENS.0 - 1).await), Some(Code::NotOpen));
    place(at(1, OPENS.0).await);
    place(at(2, CLOSES.0 - 1).await);
    assert_eq!(code(&at(3, CLOSES.0).await), Some(Code::Closed));
    // A window that is moved holds at once.
    let later = instance.change(|rows| {
        rows.doors.closes_at = Timestamp(CLOSES.0 + 1);
        Vec::new()
    });
    instance.gate.learn([later.await]);
    instance.eventually("it is told", async |instance| instance.version().await == 2).await;
    place(at(3, CLOSES.0).await);
    let gone = instance.change(|rows| {
        rows.doors.gone = true;
        Vec::new()
    });
    instance.gate.learn([gone.await]);
    instance.eventually("it is told", async |instance| instance.version().await == 3).await;
    assert_eq!(code(&at(3, OPENS.0).await), Some(Code::NotFound));
}

#[tokio::test]
async fn a_member_gets_his_share_and_holds_no_more_places() {
    let books = Books::of(100);
    books.rows.lock().await.doors.per_member = 2;
    let instance = one(&books).await;
    let (first, second) = (place(instance.admit(1).await), place(instance.admit(1).await));
    assert!(matches!(instance.admit(1).await, Verdict::Ask(None)), "both are being settled; the database decides a third");
    assert!(instance.settle(member(1), Some(first)).await);
    instance.eventually("told", async |instance| instance.version().await == 2).await;
    assert!(matches!(instance.admit(1).await, Verdict::Ask(None)), "one he has, one is being settled");
    assert!(instance.settle(member(1), Some(second)).await);
    instance.eventually("told", async |instance| instance.version().await == 3).await;
    assert_eq!(code(&instance.admit(1).await), Some(Code::AlreadyIssued));
    // One comes back and does not count any more.
    let back = instance.change(|rows| {
        rows.doors.issued -= 1;
        vec![(member(1), -1)]
    });
    instance.gate.learn([back.await]);
    instance.eventually("told", async |instance| instance.version().await == 4).await;
    place(instance.admit(1).await);
}

#[tokio::test]
async fn a_place_that_comes_to_nothing_is_offered_again() {
    let instance = one(&Books::of(1)).await;
    let held = place(instance.admit(1).await);
    assert!(matches!(instance.admit(2).await, Verdict::Full));
    let clone = Arc::clone(&held);
    drop(held);
    assert!(matches!(instance.admit(2).await, Verdict::Full), "it is still held");
    drop(clone);
    instance.eventually("it is given back", async |instance| instance.on_offer().await == Some(1)).await;
    place(instance.admit(2).await);
}

/// The claim is settled by another process than the one that admitted it.
#[tokio::test]
async fn a_place_can_be_handed_over() {
    let (prefix, books) = (prefix(), Books::of(1));
    let times = GateTimes { current: Duration::from_secs(2), ..times() };
    let (door, desk) = (Instance::new(&prefix, &books, times), Instance::new(&prefix, &books, times));
    door.ready().await;
    let handed = place(door.admit(1).await).hand_over();
    let handed = HandedPlace::of(ID, member(1), &handed.to_message());
    assert!(matches!(door.admit(2).await, Verdict::Full), "who handed it over does not give it back");
    let old = desk.gate.take_over(handed.clone(), OPEN.after(Duration::from_secs(2)));
    assert!(!old.is_current());
    drop(old);
    door.eventually("it is given back", async |door| door.on_offer().await == Some(1)).await;
    let handed = place(door.admit(2).await).hand_over();
    let taken = desk.gate.take_over(handed, OPEN);
    assert!(taken.is_current());
    assert!(desk.settle(member(2), Some(taken)).await);
    door.eventually("told", async |door| code(&door.admit(3).await) == Some(Code::SoldOut)).await;
    assert_eq!(door.places().await, 0);
}

#[tokio::test]
async fn without_limit_nobody_is_too_late_and_where_some_wait_the_database_decides() {
    let books = Books::of(1);
    books.rows.lock().await.doors.limit = None;
    let instance = one(&books).await;
    for number in 0..50 {
        place(instance.admit(number).await);
    }
    assert_eq!(instance.on_offer().await, None);
    let queue = instance.change(|rows| {
        rows.doors.limit = Some(10);
        rows.doors.queue = true;
        Vec::new()
    });
    instance.gate.learn([queue.await]);
    instance.eventually("told", async |instance| instance.version().await == 2).await;
    assert!(matches!(instance.admit(100).await, Verdict::Ask(Some(_))));
    assert_eq!(instance.on_offer().await, Some(0), "what is left is for those who wait");
}

#[tokio::test]
async fn news_in_any_order_make_the_same_gate() {
    let instance = one(&Books::of(10)).await;
    let mut news = Vec::new();
    for number in 0..3 {
        news.push(
            instance
                .change(|rows| {
                    rows.doors.issued += 1;
                    vec![(member(number), 1)]
                })
                .await,
        );
    }
    news.reverse();
    for one in news {
        instance.gate.learn([one]);
    }
    let version = instance.books.rows.lock().await.doors.version;
    instance
        .eventually("all are told", async |instance| {
            let seen: i64 = instance.gate.redis.call(cmd("HGET").arg(instance.key("gate")).arg("seen")).await.unwrap();
            seen == 3 && instance.version().await == version
        })
        .await;
    assert_eq!(instance.on_offer().await, Some(7));
    for number in 0..3 {
        assert_eq!(code(&instance.admit(number).await), Some(Code::AlreadyIssued));
    }
    assert!(!instance.has_hole().await);
}

/// A claim that only the database may refuse counts like any other, however many units are left and whatever its member has.
#[tokio::test]
async fn who_insists_has_a_place_whatever_is_known() {
    let instance = one(&Books::of(2)).await;
    assert!(instance.settle(member(1), Some(place(instance.admit(1).await))).await);
    instance.eventually("told", async |instance| instance.version().await == 2).await;
    let mut held = Vec::new();
    for number in [1, 1, 2, 3] {
        held.push(instance.gate.insist(ID, member(number), OPEN).await.expect("Redis answers"));
    }
    assert_eq!((instance.places().await, instance.on_offer().await), (4, Some(0)));
    assert!(matches!(instance.admit(4).await, Verdict::Full));
    drop(held);
    instance.eventually("they are given back", async |instance| instance.on_offer().await == Some(1)).await;
}

// F15: the same state on another server may be an older one
#[tokio::test]
async fn what_another_server_knew_is_not_believed() {
    let books = Books::of(5);
    let instance = one(&books).await;
    instance.gate.redis.call::<()>(cmd("HSET").arg(instance.key("gate")).arg("server").arg("another")).await.unwrap();
    assert_eq!(instance.on_offer().await, None);
    assert!(matches!(instance.admit(1).await, Verdict::Ask(Some(_))));
    instance.ready().await;
    assert_eq!((books.snapshots(), instance.on_offer().await), (2, Some(5)));
}

/// I-C8: a member asks twice; his second claim, without a place, is settled first, and its news are late. The place of the first, which was
/// refused for it, must not be on offer again before.
#[tokio::test]
async fn a_refused_claim_ends_its_place_only_with_what_it_was_refused_for() {
    let instance = one(&Books::of(5)).await;
    let first = place(instance.admit(1).await);
    assert!(matches!(instance.admit(1).await, Verdict::Ask(None)));
    let late = instance.change(|rows| {
        rows.doors.issued += 1;
        rows.shares.insert(member(1), 1);
        vec![(member(1), 1)]
    });
    let late = late.await;
    assert_eq!(instance.on_offer().await, Some(4));
    instance.gate.refused([News { coupon_id: ID, doors: late.doors, shares: Vec::new(), settled: vec![first] }]);
    instance.gate.told().await;
    assert_eq!((instance.on_offer().await, instance.places().await), (Some(4), 0));
    instance.gate.learn([late]);
    instance.gate.told().await;
    assert_eq!((instance.on_offer().await, instance.has_hole().await), (Some(4), false));
    assert_eq!(code(&instance.admit(1).await), Some(Code::AlreadyIssued));
}
