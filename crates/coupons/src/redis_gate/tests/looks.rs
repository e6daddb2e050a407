//! What nobody tells the gate: it is compared with the database, and wrong for as long as it is believed and no longer.

use super::*;

const BELIEVED: Duration = Duration::from_millis(400);

fn looking() -> GateTimes {
    GateTimes { believed: BELIEVED, ..times() }
}

async fn one_that_looks(books: &Arc<Books>) -> Instance {
    let instance = Instance::new(&prefix(), books, looking());
    instance.ready().await;
    instance
}

/// A process commits, and dies before it tells anybody.
async fn untold(instance: &Instance, change: impl FnOnce(&mut Rows)) {
    let lost = instance.change(|rows| {
        change(rows);
        Vec::new()
    });
    drop(lost.await);
}

async fn refused_with(instance: &Instance, number: u128, expected: Code) {
    instance.eventually("it is refused", async |instance| code(&instance.admit(number).await) == Some(expected)).await;
}

/// Whatever else happens: nobody tells the gate anything, and it would be kept for long.
async fn let_in_before_long(instance: &Instance, number: u128) {
    instance
        .eventually("he is let in", async |instance| match instance.admit(number).await {
            Verdict::Admitted(_) | Verdict::Ask(Some(_)) => true,
            Verdict::Refused(_) => false,
            other => panic!("{other:?}"),
        })
        .await;
}

// C25: it refuses only what the database would
#[tokio::test]
async fn after_a_sell_out_a_raise_that_nobody_told_is_found() {
    let books = Books::of(1);
    let instance = one_that_looks(&books).await;
    assert!(instance.settle(member(1), Some(place(instance.admit(1).await))).await);
    refused_with(&instance, 2, Code::SoldOut).await;
    untold(&instance, |rows| rows.doors.limit = Some(2)).await;
    let_in_before_long(&instance, 2).await;
    instance
        .eventually("it is on offer", async |instance| {
            drop(instance.admit(3).await);
            instance.version().await == 3
        })
        .await;
    assert_eq!(books.snapshots(), 1, "it was not built anew for it");
}

// C10, C25
#[tokio::test]
async fn who_gave_his_back_and_nobody_told_is_not_refused_for_long() {
    let books = Books::of(10);
    let instance = one_that_looks(&books).await;
    assert!(instance.settle(member(1), Some(place(instance.admit(1).await))).await);
    refused_with(&instance, 1, Code::AlreadyIssued).await;
    untold(&instance, |rows| {
        rows.doors.issued -= 1;
        rows.shares.remove(&member(1));
    })
    .await;
    let_in_before_long(&instance, 1).await;
}

// C25
#[tokio::test]
async fn a_window_that_was_moved_and_nobody_told_is_found() {
    let books = Books::of(10);
    books.rows.lock().await.doors.closes_at = OPEN;
    let instance = Instance::new(&prefix(), &books, looking());
    refused_with(&instance, 1, Code::Closed).await;
    untold(&instance, |rows| rows.doors.closes_at = CLOSES).await;
    let_in_before_long(&instance, 1).await;
}

// I-C8: also while a process settles claims and tells nobody, for longer than it takes to look
#[tokio::test]
async fn what_was_issued_and_nobody_told_is_not_on_offer_for_long() {
    let books = Books::of(1_000);
    let instance = Instance::new(&prefix(), &books, GateTimes { hole: Duration::from_millis(800), ..looking() });
    instance.ready().await;
    let (mut left, mut offers, since) = (Vec::new(), 0, Stopwatch::start());
    while since.elapsed() < 6 * BELIEVED {
        untold(&instance, |rows| rows.doors.issued += 1).await;
        drop(instance.admit(1).await);
        let rows = books.rows.lock().await;
        let at = since.elapsed();
        left.push((at, 1_000 - rows.doors.issued));
        if let Some(offer) = instance.on_offer().await {
            let long_ago = left.iter().rev().find(|(then, _)| *then + BELIEVED <= at).map_or(1_000, |(_, left)| *left);
            assert!(offer <= long_ago, "{offer} on offer, {long_ago} were left");
            offers += 1;
        }
        drop(rows);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(offers > 0, "nothing was on offer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_ask_one_looks() {
    let (prefix, books) = (prefix(), Books::of(0));
    let instances: Vec<Instance> = (0..4).map(|_| Instance::new(&prefix, &books, looking())).collect();
    instances[0].ready().await;
    let (looks, since) = (books.looks(), Stopwatch::start());
    let mut asked = 0_u32;
    while since.elapsed() < 4 * BELIEVED {
        join_all((0..40_u128).map(|number| {
            let instance = instances[usize::try_from(number % 4).unwrap()].clone();
            async move { instance.admit(number).await }
        }))
        .await;
        asked += 40;
    }
    let most = u32::try_from(since.elapsed().as_millis() / (BELIEVED / 2).as_millis()).unwrap() + 1;
    let looks = books.looks() - looks;
    assert!((2..=most).contains(&looks), "{looks} looks in {:?}", since.elapsed());
    assert!(asked > 20 * looks, "{asked} asked");
}

#[tokio::test]
async fn what_could_not_be_compared_with_the_database_is_not_believed() {
    let books = Books::of(0);
    let instance = one_that_looks(&books).await;
    refused_with(&instance, 1, Code::SoldOut).await;
    books.down.store(true, Ordering::SeqCst);
    instance.eventually("the database is asked", async |instance| matches!(instance.admit(1).await, Verdict::Ask(Some(_)))).await;
    for number in 0..50 {
        assert!(matches!(instance.admit(number).await, Verdict::Ask(Some(_))), "all are sent on");
    }
    assert_eq!(instance.on_offer().await, None);
    books.down.store(false, Ordering::SeqCst);
    refused_with(&instance, 1, Code::SoldOut).await;
    assert_eq!(books.snapshots(), 1);
}

#[tokio::test]
async fn a_look_that_comes_late_changes_nothing() {
    let books = Books::of(10);
    let instance = one(&books).await;
    let era: String = instance.gate.redis.call(cmd("HGET").arg(instance.key("gate")).arg("era")).await.unwrap();
    let look = async |era: &str, began: u64, version: i64, found: Doors| {
        let mut call = call(&instance.gate.redis, &scripts::CONFIRM, ID);
        write_doors(&mut call, &found);
        instance.gate.redis.run::<i64>(call.arg(era).arg(began).arg(version)).await.unwrap()
    };
    let confirmed = async || -> u64 { instance.gate.redis.call(cmd("HGET").arg(instance.key("gate")).arg("confirmed")).await.unwrap() };
    let (old, before) = (books.rows.lock().await.doors, confirmed().await);
    assert!(instance.settle(member(1), Some(place(instance.admit(1).await))).await);
    instance.eventually("told", async |instance| instance.version().await == 2).await;
    assert_eq!(look("another", before + 1, 1, Doors { version: 9, ..old }).await, 0, "it is another gate");
    assert_eq!(look(&era, before - 1, 1, old).await, 1);
    assert_eq!((instance.version().await, instance.on_offer().await, confirmed().await), (2, Some(9), before), "more was told since");
    assert_eq!(look(&era, before + 1, 1, old).await, 1);
    assert_eq!((instance.version().await, confirmed().await), (2, before + 1));
    assert!(!instance.has_hole().await);
}

/// A backup was restored, or a copy of the database took over that lacked the last commits.
#[tokio::test]
async fn a_gate_that_knows_more_than_the_database_is_built_anew() {
    let books = Books::of(1);
    let instance = one_that_looks(&books).await;
    assert!(instance.settle(member(1), Some(place(instance.admit(1).await))).await);
    refused_with(&instance, 2, Code::SoldOut).await;
    {
        let mut rows = books.rows.lock().await;
        rows.doors = Doors { version: 1, issued: 0, ..rows.doors };
        rows.shares.clear();
    }
    instance.eventually("he is let in", async |instance| matches!(instance.admit(2).await, Verdict::Admitted(_))).await;
    assert_eq!(books.snapshots(), 2);
}

/// Redis' clock was put back: what was confirmed in a time to come may be as old as one likes.
#[tokio::test]
async fn a_time_to_come_confirms_nothing() {
    let books = Books::of(0);
    let instance = one_that_looks(&books).await;
    refused_with(&instance, 1, Code::SoldOut).await;
    for field in ["confirmed", "look"] {
        let later = i64::MAX / 4_096;
        instance.gate.redis.call::<()>(cmd("HSET").arg(instance.key("gate")).arg(field).arg(later)).await.unwrap();
    }
    let looks = books.looks();
    assert_eq!(code(&instance.admit(1).await), Some(Code::SoldOut));
    assert_eq!(books.looks(), looks + 1);
}

#[tokio::test]
async fn after_a_quiet_time_the_first_who_asks_is_told_what_is_true_now() {
    let books = Books::of(1);
    let instance = one_that_looks(&books).await;
    assert!(instance.settle(member(1), Some(place(instance.admit(1).await))).await);
    instance.gate.told().await;
    tokio::time::sleep(2 * BELIEVED).await;
    assert_eq!(instance.on_offer().await, None);
    assert_eq!(code(&instance.admit(2).await), Some(Code::SoldOut));
    untold(&instance, |rows| rows.doors.limit = Some(2)).await;
    tokio::time::sleep(2 * BELIEVED).await;
    place(instance.admit(2).await);
}
