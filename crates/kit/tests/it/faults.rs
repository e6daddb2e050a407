//! One bad command among many, and databases that reject writes.

use super::world::{Ask, CommandFault, Count, Fill, Laps, World, answer, check_log, new_order, submit_together};
use kit::{batch::SubmitError, tasks};

// row 74, on the writer's side
#[tokio::test]
async fn one_bad_command_of_many_fails_alone() {
    for fault in [CommandFault::Fault, CommandFault::Panic, CommandFault::Constraint, CommandFault::Foreign, CommandFault::ShortAnswer] {
        let world = World::start().await;
        let commands = (1..=20).map(|who| Count::of(who).with(if who == 7 { fault } else { CommandFault::None }));
        let results = submit_together(&world, commands).await;
        for (who, result) in (1..=20).zip(results) {
            if who == 7 {
                assert_eq!(result, Err(SubmitError::Failed), "{fault:?}");
            } else {
                assert_eq!(answer(result).status, 200, "{fault:?}");
            }
        }
        assert_eq!(world.app.sql_i64("select value from orders_counter").await, 19, "{fault:?}");
        let order: Vec<i64> =
            world.app.rows::<(i64,)>("select who from orders_log order by n").await.into_iter().map(|(who,)| who).collect();
        assert_eq!(order, (1..=20).filter(|who| *who != 7).collect::<Vec<_>>(), "{fault:?}");
        assert_eq!(world.orders.announced(), 19, "{fault:?}: hooks of rolled-back commands do not run");
        assert_eq!(answer(world.submit(Count::of(21)).await).status, 200, "{fault:?}: the writer continues");
    }
}

#[tokio::test]
async fn two_bad_commands_among_other_operations_fail_alone() {
    let world = World::start().await;
    let blocked = world.block_writer().await;
    let orders: Vec<_> = (0..9).map(|_| new_order()).collect();
    let counts = (1..=9).map(|who| Count::of(who).with(if who == 3 || who == 8 { CommandFault::Fault } else { CommandFault::None }));
    let counts = super::world::queued(counts.map(|count| world.submit(count))).await;
    let asks = super::world::queued(orders.iter().map(|order| world.submit(Ask::one(*order)))).await;
    blocked.resume().await;
    let failed: Vec<bool> = futures::future::join_all(counts).await.into_iter().map(|result| result == Err(SubmitError::Failed)).collect();
    assert_eq!(failed, [false, false, true, false, false, false, false, true, false]);
    for (ask, order) in futures::future::join_all(asks).await.into_iter().zip(&orders) {
        match ask {
            Ok(kit::Reply::Pending(id)) if world.app.is_postgres() => assert_eq!(id, order.0),
            ask => assert_eq!(answer(ask).status, 201),
        }
    }
    assert_eq!(world.app.sql_i64("select value from orders_counter").await, 7);
    check_log(&world, true).await;
}

// finding 16: the process is told to end, is not ready, and answers 503 until it has ended.
#[tokio::test]
async fn a_writer_that_panics_ends_its_process() {
    let world = World::start().await;
    let health = world.app.process.writer_health();
    assert!(health.is_good());
    let failed = world.submit(Count::of(1).with(CommandFault::Writer)).await;
    assert_eq!(failed, Err(SubmitError::Unavailable), "the command was not executed");
    assert_eq!(tasks::fatal_failure().await, "writer");
    assert!(!health.is_good());
    assert_eq!(world.submit(Count::of(2)).await, Err(SubmitError::Unavailable));
}

// I-M2: sequence numbers of a rolled-back transaction are used again.
#[tokio::test]
async fn a_rolled_back_message_leaves_no_gap() {
    let world = World::start().await;
    let orders: Vec<_> = (0..8).map(|_| new_order()).collect();
    let asks = orders.iter().zip(0..).map(|(order, n)| Ask { broken: n % 3 == 1, ..Ask::one(*order) });
    let results = submit_together(&world, asks).await;
    assert_eq!(results.iter().filter(|result| **result == Err(SubmitError::Failed)).count(), 3);
    world.app.wait_until_quiescent().await;
    // Five asks, each followed by the hold of its coupon.
    assert_eq!(world.app.sql_i64("select max(seq) from orders_outbox").await, 10);
    assert_eq!(world.app.sql_i64("select count(*) from stock_reservations").await, 5);
    check_log(&world, true).await;
    assert_eq!(world.submit(Ask { broken: true, ..Ask::one(new_order()) }).await, Err(SubmitError::Failed));
    world.ask().await;
    assert_eq!(world.app.sql_i64("select max(seq) from orders_outbox").await, 12);
    check_log(&world, true).await;
}

#[tokio::test]
async fn an_outage_fails_the_whole_batch() {
    let world = World::start().await;
    let commands = (1..=20).map(|who| Count::of(who).with(if who == 7 { CommandFault::Outage } else { CommandFault::None }));
    let results = submit_together(&world, commands).await;
    assert!(results.iter().all(|result| *result == Err(SubmitError::Unavailable)), "{results:?}");
    assert_eq!(world.orders.handled(), 1);
    assert_eq!(world.app.sql_i64("select count(*) from orders_log").await, 0);
    assert_eq!(answer(world.submit(Count::of(1)).await).status, 200);
}

// F6, for a file. A full disk of a server shows as an outage.
#[tokio::test]
async fn a_full_disk_rejects_writes_until_there_is_room() {
    let world = World::on_sqlite().await;
    world.submit(Count::by(1)).await.unwrap();
    assert_eq!(world.submit(Fill { pages: 1 }).await, Err(SubmitError::Unavailable));
    assert_eq!(world.app.sql_i64("select value from orders_counter").await, 1, "reads still work");
    assert_eq!(world.app.sql_i64("select count(*) from orders_blobs").await, 0);
    assert_eq!(answer(world.submit(Fill { pages: 1_000_000 }).await).status, 204);
    assert_eq!(answer(world.submit(Count::by(1)).await).status, 200);
    assert_eq!(world.app.sql_i64("select count(*) from orders_blobs").await, 1);
}

// The commit is valid and answered, even if a hook panics.
#[tokio::test]
async fn a_panicking_commit_hook_does_not_stop_the_writer() {
    let world = World::start().await;
    let results = submit_together(&world, [Count::of(1), Count::of(2).with(CommandFault::Hook), Count::of(3)]).await;
    assert!(results.into_iter().all(|result| answer(result).status == 200));
    assert_eq!((world.orders.announced(), world.app.sql_i64("select value from orders_counter").await), (3, 3));
    assert_eq!(answer(world.submit(Count::of(4)).await).status, 200);
}

#[tokio::test]
async fn a_failing_reader_does_not_fail_the_command() {
    let world = World::start().await;
    let orders: Vec<_> = (0..16).map(|_| new_order()).collect();
    world.fail_for(orders[5], super::world::Failure::Fault);
    let results = submit_together(&world, orders.iter().map(|order| Ask::one(*order))).await;
    for (n, result) in results.into_iter().enumerate() {
        // From the bad message on, stock lags. Later answers are pending, and none is lost.
        match result {
            Ok(kit::Reply::Answer(answer)) => assert!(n < 5 && answer.status == 201, "{n}: {answer:?}"),
            Ok(kit::Reply::Pending(id)) => assert!((n >= 5 || world.app.is_postgres()) && id == orders[n].0, "{n}: {id}"),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 15).await;
    world.app.eventually("select count(*) from stock_dead_letters where state='dead'", 1).await;
    check_log(&world, true).await;
}

// More rounds than one transaction allows.
#[tokio::test]
async fn a_long_exchange_continues_in_later_transactions() {
    let world = World::start().await;
    let before = world.orders.committed();
    let order_id = new_order();
    assert_eq!(answer(world.submit(Laps { order_id, laps: 150 }).await).status, 202);
    world.app.wait_until_quiescent().await;
    world.app.eventually("select laps from orders_asks", 0).await;
    world.app.eventually("select seq from orders_positions where source='stock'", 151).await;
    let transactions = world.orders.committed() - before;
    if !world.app.is_postgres() {
        assert!((5..=12).contains(&transactions), "302 messages in {transactions} transactions");
    }
    check_log(&world, true).await;
}
