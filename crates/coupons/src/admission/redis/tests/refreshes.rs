//! Unsent updates: the gate is compared with the database, and wrong at most for its maximum staleness.

use super::*;

const MAX_STALENESS: Duration = Duration::from_millis(400);

fn refreshing_times() -> GateTimes {
    GateTimes { max_staleness: MAX_STALENESS, ..times() }
}

async fn refreshing_instance(database: &Arc<FakeDatabase>) -> Instance {
    let instance = Instance::new(&prefix(), database, refreshing_times());
    instance.ready().await;
    instance
}

/// A process commits, and dies before it sends the update.
async fn commit_unsent(instance: &Instance, change: impl FnOnce(&mut FakeRows)) {
    let lost = instance.change(|rows| {
        change(rows);
        Vec::new()
    });
    drop(lost.await);
}

async fn eventually_refused_with(instance: &Instance, number: u128, expected: Code) {
    instance.eventually("it is refused", async |instance| code(&instance.admit(number).await) == Some(expected)).await;
}

/// The gate gets no update, and its maximum age is long. So only a refresh can change its answer.
async fn eventually_admitted(instance: &Instance, number: u128) {
    instance
        .eventually("the claim is admitted", async |instance| match instance.admit(number).await {
            GateVerdict::Admitted(_) | GateVerdict::Undecided(Some(_)) => true,
            GateVerdict::Refused(_) => false,
            other => panic!("{other:?}"),
        })
        .await;
}

// C25: it refuses only claims that the database would refuse
#[tokio::test]
async fn an_unsent_raise_after_a_sell_out_is_found() {
    let database = FakeDatabase::of(1);
    let instance = refreshing_instance(&database).await;
    assert!(instance.settle(member(1), Some(slot(instance.admit(1).await))).await);
    eventually_refused_with(&instance, 2, Code::SoldOut).await;
    commit_unsent(&instance, |rows| rows.limits.quantity = Some(2)).await;
    eventually_admitted(&instance, 2).await;
    instance
        .eventually("it is on offer", async |instance| {
            drop(instance.admit(3).await);
            instance.version().await == 3
        })
        .await;
    assert_eq!(database.snapshots(), 1, "a refresh does not rebuild it");
}

// C10, C25
#[tokio::test]
async fn an_unsent_return_ends_already_issued_soon() {
    let database = FakeDatabase::of(10);
    let instance = refreshing_instance(&database).await;
    assert!(instance.settle(member(1), Some(slot(instance.admit(1).await))).await);
    eventually_refused_with(&instance, 1, Code::AlreadyIssued).await;
    commit_unsent(&instance, |rows| {
        rows.limits.issued -= 1;
        rows.member_counts.remove(&member(1));
    })
    .await;
    eventually_admitted(&instance, 1).await;
}

// C25
#[tokio::test]
async fn an_unsent_change_of_the_window_is_found() {
    let database = FakeDatabase::of(10);
    database.rows.lock().await.limits.closes_at = OPEN;
    let instance = Instance::new(&prefix(), &database, refreshing_times());
    eventually_refused_with(&instance, 1, Code::Closed).await;
    commit_unsent(&instance, |rows| rows.limits.closes_at = CLOSES).await;
    eventually_admitted(&instance, 1).await;
}

// I-C8: also if a process settles claims and sends nothing, for longer than a refresh takes
#[tokio::test]
async fn unsent_issues_are_not_offered_for_long() {
    let database = FakeDatabase::of(1_000);
    let instance = Instance::new(&prefix(), &database, GateTimes { gap_timeout: Duration::from_millis(800), ..refreshing_times() });
    instance.ready().await;
    let (mut left, mut offers, since) = (Vec::new(), 0, Stopwatch::start());
    while since.elapsed() < 6 * MAX_STALENESS {
        commit_unsent(&instance, |rows| rows.limits.issued += 1).await;
        drop(instance.admit(1).await);
        let rows = database.rows.lock().await;
        let at = since.elapsed();
        left.push((at, 1_000 - rows.limits.issued));
        if let Some(offer) = instance.available_units().await {
            let long_ago = left.iter().rev().find(|(then, _)| *then + MAX_STALENESS <= at).map_or(1_000, |(_, left)| *left);
            assert!(offer <= long_ago, "{offer} on offer, {long_ago} were left");
            offers += 1;
        }
        drop(rows);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(offers > 0, "nothing was on offer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_callers_refreshes() {
    let (prefix, database) = (prefix(), FakeDatabase::of(0));
    let instances: Vec<Instance> = (0..4).map(|_| Instance::new(&prefix, &database, refreshing_times())).collect();
    instances[0].ready().await;
    let (refreshes, since) = (database.refreshes(), Stopwatch::start());
    let mut asked = 0_u32;
    while since.elapsed() < 4 * MAX_STALENESS {
        join_all((0..40_u128).map(|number| {
            let instance = instances[usize::try_from(number % 4).unwrap()].clone();
            async move { instance.admit(number).await }
        }))
        .await;
        asked += 40;
    }
    let most = u32::try_from(since.elapsed().as_millis() / (MAX_STALENESS / 2).as_millis()).unwrap() + 1;
    let refreshes = database.refreshes() - refreshes;
    assert!((2..=most).contains(&refreshes), "{refreshes} refreshes in {:?}", since.elapsed());
    assert!(asked > 20 * refreshes, "{asked} asked");
}

#[tokio::test]
async fn a_stale_gate_refuses_no_claim() {
    let database = FakeDatabase::of(0);
    let instance = refreshing_instance(&database).await;
    eventually_refused_with(&instance, 1, Code::SoldOut).await;
    database.down.store(true, Ordering::SeqCst);
    instance.eventually("the database is asked", async |instance| matches!(instance.admit(1).await, GateVerdict::Undecided(Some(_)))).await;
    for number in 0..50 {
        assert!(matches!(instance.admit(number).await, GateVerdict::Undecided(Some(_))), "all are sent on");
    }
    assert_eq!(instance.available_units().await, None);
    database.down.store(false, Ordering::SeqCst);
    eventually_refused_with(&instance, 1, Code::SoldOut).await;
    assert_eq!(database.snapshots(), 1);
}

#[tokio::test]
async fn a_late_refresh_changes_nothing() {
    let database = FakeDatabase::of(10);
    let instance = one(&database).await;
    let era: String = instance.gate.redis.call(cmd("HGET").arg(instance.key("gate")).arg("era")).await.unwrap();
    let refresh = async |era: &str, began: u64, version: i64, found: ClaimLimits| {
        let mut call = call(&instance.gate.redis, &scripts::CONFIRM, ID);
        write_limits(&mut call, &found);
        instance.gate.redis.run::<i64>(call.arg(era).arg(began).arg(version)).await.unwrap()
    };
    let confirmed = async || -> u64 { instance.gate.redis.call(cmd("HGET").arg(instance.key("gate")).arg("confirmed")).await.unwrap() };
    let (old, before) = (database.rows.lock().await.limits, confirmed().await);
    assert!(instance.settle(member(1), Some(slot(instance.admit(1).await))).await);
    instance.eventually("the update is applied", async |instance| instance.version().await == 2).await;
    assert_eq!(refresh("another", before + 1, 1, ClaimLimits { version: 9, ..old }).await, 0, "it is another gate");
    assert_eq!(refresh(&era, before - 1, 1, old).await, 1);
    assert_eq!(
        (instance.version().await, instance.available_units().await, confirmed().await),
        (2, Some(9), before),
        "a later update was applied"
    );
    assert_eq!(refresh(&era, before + 1, 1, old).await, 1);
    assert_eq!((instance.version().await, confirmed().await), (2, before + 1));
    assert!(!instance.has_gap().await);
}

/// A backup was restored, or a replica of the database took over without the last commits.
#[tokio::test]
async fn a_gate_ahead_of_the_database_is_rebuilt() {
    let database = FakeDatabase::of(1);
    let instance = refreshing_instance(&database).await;
    assert!(instance.settle(member(1), Some(slot(instance.admit(1).await))).await);
    eventually_refused_with(&instance, 2, Code::SoldOut).await;
    {
        let mut rows = database.rows.lock().await;
        rows.limits = ClaimLimits { version: 1, issued: 0, ..rows.limits };
        rows.member_counts.clear();
    }
    instance.eventually("the claim is admitted", async |instance| matches!(instance.admit(2).await, GateVerdict::Admitted(_))).await;
    assert_eq!(database.snapshots(), 2);
}

/// Redis' clock was set back: a refresh time in the future may be of any age.
#[tokio::test]
async fn a_refresh_time_in_the_future_does_not_count() {
    let database = FakeDatabase::of(0);
    let instance = refreshing_instance(&database).await;
    eventually_refused_with(&instance, 1, Code::SoldOut).await;
    for field in ["confirmed", "look"] {
        let later = i64::MAX / 4_096;
        instance.gate.redis.call::<()>(cmd("HSET").arg(instance.key("gate")).arg(field).arg(later)).await.unwrap();
    }
    let refreshes = database.refreshes();
    assert_eq!(code(&instance.admit(1).await), Some(Code::SoldOut));
    assert_eq!(database.refreshes(), refreshes + 1);
}

#[tokio::test]
async fn after_a_quiet_time_the_first_caller_refreshes() {
    let database = FakeDatabase::of(1);
    let instance = refreshing_instance(&database).await;
    assert!(instance.settle(member(1), Some(slot(instance.admit(1).await))).await);
    instance.gate.flushed().await;
    tokio::time::sleep(2 * MAX_STALENESS).await;
    assert_eq!(instance.available_units().await, None);
    assert_eq!(code(&instance.admit(2).await), Some(Code::SoldOut));
    commit_unsent(&instance, |rows| rows.limits.quantity = Some(2)).await;
    tokio::time::sleep(2 * MAX_STALENESS).await;
    slot(instance.admit(2).await);
}
