//! Lock conflicts on PostgreSQL. A transaction that loses a conflict is repeated whole. A locked row delays only commands for that row,
//! for a bounded time.

use super::world::{
    Count, Failure, Lap, Mall, Submitted, TRANSPORTS, Transport, World, answer, hold, new_order, queued, release, submit_together,
};
use contracts::{Message, OrderId};
use futures::future::join_all;
use kit::{
    batch::SubmitError,
    idempotency::IdempotencyKey,
    ports::{Stopwatch, new_id},
    telemetry,
};
use std::{sync::atomic::Ordering, time::Duration};
use testkit::App;
use uuid::Uuid;

/// Longer than the writer spends on one batch with a locked row, even on a busy machine.
const BOUND: Duration = Duration::from_secs(30);
const SHELF: &str = "select units from stock_shelf for update";

async fn world() -> World {
    World::with(App::builder().on_postgres()).await
}

/// Inserts this number of orders, without messages.
async fn orders(world: &World, count: usize) -> Vec<OrderId> {
    let orders: Vec<OrderId> = (0..count).map(|_| new_order()).collect();
    let rows: Vec<String> = orders.iter().map(|order| format!("('{}','LAPS',0)", order.0)).collect();
    world.execute(&format!("insert into orders_asks (id, state, laps) values {}", rows.join(","))).await;
    orders
}

async fn laps(world: &World, order: OrderId) -> i64 {
    world.app.sql_i64(&format!("select laps from orders_asks where id='{}'", order.0)).await
}

fn row_of(order: OrderId) -> String {
    format!("select laps from orders_asks where id='{}' for update", order.0)
}

fn key(n: usize) -> IdempotencyKey {
    IdempotencyKey { scope: Uuid::from_u128(1), key: n.to_string(), request_hash: [1; 32] }
}

/// Submits one lap for each order in one batch, with its index as key. Returns the results and the duration.
async fn run_together(world: &World, orders: &[OrderId]) -> (Vec<Submitted>, Duration) {
    let blocked = world.block_writer().await;
    let keys: Vec<IdempotencyKey> = (0..orders.len()).map(key).collect();
    let laps = orders.iter().zip(&keys).map(|(order, key)| world.submit_as(Lap::of(*order), key, Uuid::nil()));
    let waiting = queued(laps).await;
    let took = Stopwatch::start();
    blocked.resume().await;
    let results = join_all(waiting).await;
    (results, took.elapsed())
}

// F12: for each error code, the whole transaction is repeated unnoticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflicting_transaction_is_repeated_whole() {
    for state in ["40001", "40P01", "55P03"] {
        let world = world().await;
        let order = orders(&world, 1).await[0];
        let lap = Lap::of(order).losing(state, 1);
        let first = answer(world.submit_as(lap.clone(), &key(1), Uuid::nil()).await);
        assert_eq!((first.status, &first.body[..]), (200, &b"1"[..]), "{state}");
        assert_eq!(world.orders.handled(), 2, "{state}: lost once, and repeated once");
        assert_eq!(laps(&world, order).await, 1, "{state}: one effect");
        assert_eq!(world.app.sql_i64("select count(*) from orders_idempotency where status=200").await, 1, "{state}");
        let again = answer(world.submit_as(lap, &key(1), Uuid::nil()).await);
        assert!(again.replayed && again.body == first.body, "{state}: {again:?}");
    }
}

// F12: a transaction that always loses is tried a bounded number of times. The caller is asked to retry, and nothing is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_always_conflicts_is_rejected() {
    for state in ["40001", "40P01", "55P03"] {
        let world = world().await;
        let all = orders(&world, 8).await;
        let bad = Lap::of(all[0]).losing(state, u32::MAX);
        let refused = world.submit_as(bad.clone(), &key(1), Uuid::nil()).await;
        assert_eq!(refused, Err(SubmitError::Unavailable), "{state}");
        assert_eq!(world.orders.handled(), 6, "{state}");
        // In a batch the culprit is isolated, and the other commands succeed.
        let laps_of = |order: &OrderId| if *order == all[0] { bad.clone() } else { Lap::of(*order) };
        let results = submit_together(&world, all.iter().map(laps_of)).await;
        assert_eq!(results[0], Err(SubmitError::Unavailable), "{state}");
        results.into_iter().skip(1).for_each(|result| assert_eq!(answer(result).status, 200, "{state}"));
        assert_eq!(world.app.sql_i64("select cast(sum(laps) as BIGINT) from orders_asks").await, 7, "{state}");
        let mended = answer(world.submit_as(Lap::of(all[0]), &key(1), Uuid::nil()).await);
        assert!(mended.status == 200 && !mended.replayed, "{state}: the key is still free");
    }
}

/// Waits until a transaction waits for a lock.
async fn wait_for_lock_waiter(world: &World) {
    // Locks on transactions belong to no database, so their sessions tell this test's waiters from those of other tests.
    let waiters = "select count(*) from pg_locks join pg_stat_activity using (pid) \
                   where not granted and locktype in ('transactionid', 'tuple') and datname=current_database()";
    world.app.eventually(waiters, 1).await;
}

// F12: a real deadlock, between a batch and an operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_retried_unnoticed() {
    let world = world().await;
    let both = orders(&world, 2).await;
    let mut operator = world.open_transaction(&row_of(both[1])).await;
    let (results, ()) = futures::join!(run_together(&world, &both), async {
        // The batch has locked the first row and waits for the second. The operator now does the opposite.
        wait_for_lock_waiter(&world).await;
        operator.batch(&row_of(both[0])).await.expect("the batch is the deadlock victim, because it waited longer");
        operator.commit().await.expect("the transaction commits");
    });
    results.0.into_iter().for_each(|result| assert_eq!(answer(result).status, 200));
    assert_eq!(world.orders.handled(), 2);
    assert_eq!((laps(&world, both[0]).await, laps(&world, both[1]).await), (1, 1));
}

// F10, F12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_briefly_locked_row_is_waited_for() {
    let world = world().await;
    let all = orders(&world, 20).await;
    let mut operator = world.open_transaction(&row_of(all[7])).await;
    let ((results, _), ()) = futures::join!(run_together(&world, &all), async {
        wait_for_lock_waiter(&world).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        operator.commit().await.expect("it exits");
    });
    results.into_iter().for_each(|result| assert_eq!(answer(result).status, 200));
    assert_eq!(world.app.sql_i64("select count(*) from orders_asks where laps=1").await, 20);
}

/// Holders of unexpired partition leases.
async fn held_partition_leases(world: &World) -> Vec<(Uuid, i64)> {
    let sql = "select holder, fence from orders_leases where name like 'lane:%' \
               and until>cast(extract(epoch from clock_timestamp()) * 1000000 as BIGINT)";
    world.app.rows(sql).await
}

// F10, F12, decisions §7: a lock timeout is never a 500, and commands for other rows succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_row_lock_rejects_only_commands_for_that_row() {
    let world = world().await;
    let mut all = orders(&world, 100).await;
    let hot = all[40];
    all[70] = hot;
    world.app.eventually("select count(*) from orders_leases where name like 'lane:%'", 1).await;
    let leases = held_partition_leases(&world).await;
    let mut operator = world.open_transaction(&row_of(hot)).await;
    let watching = async {
        for _ in 0..40 {
            assert_eq!(held_partition_leases(&world).await, leases, "the leases are still held");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ((results, took), ()) = futures::join!(run_together(&world, &all), watching);
    assert!(took < BOUND, "{took:?}");
    for (n, result) in results.into_iter().enumerate() {
        match all[n] == hot {
            true => assert_eq!(result, Err(SubmitError::Unavailable), "{n}"),
            false => assert_eq!(answer(result).status, 200, "{n}"),
        }
    }
    // The lock budget is spent, so these commands wait even less.
    let others = orders(&world, 20).await;
    let took = Stopwatch::start();
    let results = submit_together(&world, others.iter().chain([&hot]).map(|order| Lap::of(*order))).await;
    assert!(took.elapsed() < BOUND, "{:?}", took.elapsed());
    assert_eq!(results.last(), Some(&Err(SubmitError::Unavailable)));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 20);
    operator.rollback().await.expect("it exits");
    // Two commands of one batch wanted the hot row, each under its own key.
    for (n, laps_then) in [(40, 1), (70, 2)] {
        let lap = async || answer(world.submit_as(Lap::of(hot), &key(n), Uuid::nil()).await);
        let (first, again) = (lap().await, lap().await);
        assert!(!first.replayed && again.replayed && first.body == again.body, "{first:?} {again:?}");
        assert_eq!(laps(&world, hot).await, laps_then);
    }
    // One of the hundred orders had no lap, because its place had the hot order.
    assert_eq!(world.app.sql_i64("select count(*) from orders_asks where laps=1").await, 98 + 20);
}

// F12: if all commands want the locked row, the rest is rejected without a probe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_waiting_for_one_locked_row_is_rejected_soon() {
    let world = world().await;
    let hot = orders(&world, 1).await[0];
    let mut operator = world.open_transaction(&row_of(hot)).await;
    let (results, took) = run_together(&world, &vec![hot; 500]).await;
    assert!(took < BOUND, "{took:?}");
    assert!(results.iter().all(|result| *result == Err(SubmitError::Unavailable)));
    operator.rollback().await.expect("it exits");
    assert_eq!(answer(world.submit(Lap::of(hot)).await).body, "1");
}

// F12: in separate transactions they would otherwise wait one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exclusive_commands_share_the_lock_budget() {
    let world = world().await;
    let order = orders(&world, 1).await[0];
    let mut operator = world.open_transaction("select value from orders_counter for update").await;
    let blocked = world.block_writer().await;
    let alone = queued((0..200).map(|_| world.submit(Count { is_exclusive: true, ..Count::by(1) }))).await;
    let free = queued([world.submit(Lap::of(order))]).await;
    let took = Stopwatch::start();
    blocked.resume().await;
    assert!(join_all(alone).await.iter().all(|result| *result == Err(SubmitError::Unavailable)));
    assert_eq!(answer(join_all(free).await.remove(0)).status, 200);
    assert!(took.elapsed() < BOUND, "{:?}", took.elapsed());
    operator.rollback().await.expect("it exits");
    assert_eq!(answer(world.submit(Count::by(1)).await).status, 200);
}

/// Stalls of the reader `stock` so far, in all tests of this process.
fn stall_count() -> f64 {
    let line = |line: &&str| line.starts_with("onrush_reader_stops_total") && line.contains(r#"reader="stock""#);
    let text = telemetry::metrics_text();
    text.lines().filter(line).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn wait_until_stalled(stalls_before: f64) {
    let waiting = Stopwatch::start();
    while stall_count() == stalls_before {
        assert!(waiting.elapsed() < Duration::from_secs(20), "the reader does not report a stall");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes a message about a new order of this partition.
async fn emit_in_partition(mall: &Mall, partition: i64, about: fn(OrderId) -> Message) {
    let order = std::iter::repeat_with(new_order).find(|order| mall.partition_of(*order) == partition).expect("new ids do not run out");
    let message = about(order);
    let (kind, data) = (message.kind(), message.encode().expect("it serializes"));
    let sql = format!(
        "insert into orders_pending (partition, key, kind, data, at) values ({partition},'{}','{kind}','{data}',{})",
        order.0,
        testkit::START.0
    );
    assert_eq!(mall.execute(&sql).await, 1);
}

// F12, F23, I-M5: the message is not at fault. It waits while others are read, and is then handled once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_waits_for_a_locked_row() {
    telemetry::install_metrics();
    for transport in TRANSPORTS {
        let mall = Mall::new(transport, 2).await;
        let instance = mall.join().await;
        instance.ask().await;
        mall.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
        let stalls_before = stall_count();
        let mut operator = mall.open_transaction(SHELF).await;
        instance.ask_all(20).await;
        wait_until_stalled(stalls_before).await;
        let holds = mall.number("select count(*) from coupons_holds").await;
        emit_in_partition(&mall, 0, hold).await;
        mall.eventually("select count(*) from coupons_holds", holds + 1).await;
        assert_eq!(mall.number("select count(*) from stock_reservations").await, 1, "{transport:?}");
        assert_eq!(mall.number("select count(*) from stock_dead_letters").await, 0, "{transport:?}");
        operator.rollback().await.expect("it exits");
        mall.eventually("select count(*) from orders_asks where state='HELD'", 21).await;
        mall.check().await;
        assert_eq!(mall.number("select count(*) from stock_dead_letters").await, 0, "{transport:?}");
        assert_eq!(mall.number("select units from stock_shelf").await, super::world::STOCK - 21, "{transport:?}");
        instance.stop().await;
    }
}

// F12, F23: regardless of the number of tries. A message that loses other conflicts is dead-lettered; see `processes::poison`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_timeouts_never_dead_letter_a_message() {
    let mall = Mall::new(Transport::Tables, 1).await;
    let instance = mall.join().await;
    let order = OrderId(new_id());
    mall.fail_for(order, Failure::Locked);
    instance.ask_for(order).await;
    // More tries than any other failure gets.
    let calls = || instance.stock.calls.load(Ordering::SeqCst);
    let waiting = Stopwatch::start();
    while calls() < 25 && waiting.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(calls() >= 25, "the message is retried");
    assert_eq!(mall.number("select count(*) from stock_dead_letters").await, 0);
    mall.stop_failing(order);
    mall.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
    mall.check().await;
    instance.stop().await;
}

// F12: a skipped position is written once it can be. Meanwhile other positions move, and messages are handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_position_does_not_block_others() {
    let mall = Mall::new(Transport::Tables, 2).await;
    let instance = mall.join().await;
    let position =
        |partition| format!("select coalesce(max(seq), 0) from coupons_positions where source='orders' and partition={partition}");
    for partition in 0..2 {
        emit_in_partition(&mall, partition, release).await;
        mall.eventually(&position(partition), 1).await;
    }
    let mut operator = mall.open_transaction("select seq from coupons_positions where source='orders' and partition=0 for update").await;
    for partition in 0..2 {
        emit_in_partition(&mall, partition, release).await;
    }
    mall.eventually(&position(1), 2).await;
    assert_eq!(mall.number(&position(0)).await, 1);
    emit_in_partition(&mall, 1, hold).await;
    mall.eventually("select count(*) from coupons_holds", 1).await;
    operator.rollback().await.expect("it exits");
    mall.eventually(&position(0), 2).await;
    mall.check().await;
    instance.stop().await;
}
