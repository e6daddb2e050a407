//! One bad command among many, and databases that take no writes.

use super::world::{Ask, Count, Fill, Laps, Trouble, World, answer, check_log, new_order, together};
use kit::batch::SubmitError;

// row 74 on the side of the writer
#[tokio::test]
async fn one_bad_command_of_many_fails_alone() {
    for trouble in [Trouble::Fault, Trouble::Panic, Trouble::Constraint, Trouble::Foreign, Trouble::ShortAnswer] {
        let world = World::start().await;
        let commands = (1..=20).map(|who| Count::of(who).with(if who == 7 { trouble } else { Trouble::None }));
        let results = together(&world, commands).await;
        for (who, result) in (1..=20).zip(results) {
            if who == 7 {
                assert_eq!(result, Err(SubmitError::Failed), "{trouble:?}");
            } else {
                assert_eq!(answer(result).status, 200, "{trouble:?}");
            }
        }
        assert_eq!(world.app.sql_i64("select value from orders_counter").await, 19, "{trouble:?}");
        let order: Vec<i64> =
            world.app.rows::<(i64,)>("select who from orders_log order by n").await.into_iter().map(|(who,)| who).collect();
        assert_eq!(order, (1..=20).filter(|who| *who != 7).collect::<Vec<_>>(), "{trouble:?}");
        assert_eq!(world.desk.announced(), 19, "{trouble:?}: hooks of what was rolled back do not run");
        assert_eq!(answer(world.submit(Count::of(21)).await).status, 200, "{trouble:?}: the writer lives on");
    }
}

#[tokio::test]
async fn two_bad_commands_among_other_operations_fail_alone() {
    let world = World::start().await;
    let gate = world.gate().await;
    let orders: Vec<_> = (0..9).map(|_| new_order()).collect();
    let counts = (1..=9).map(|who| Count::of(who).with(if who == 3 || who == 8 { Trouble::Fault } else { Trouble::None }));
    let counts = super::world::queued(counts.map(|count| world.submit(count))).await;
    let asks = super::world::queued(orders.iter().map(|order| world.submit(Ask::one(*order)))).await;
    gate.open().await;
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

// I-M2: what a rolled-back transaction had numbered is numbered again.
#[tokio::test]
async fn a_rolled_back_message_leaves_no_hole_in_its_stream() {
    let world = World::start().await;
    let orders: Vec<_> = (0..8).map(|_| new_order()).collect();
    let asks = orders.iter().zip(0..).map(|(order, n)| Ask { broken: n % 3 == 1, ..Ask::one(*order) });
    let results = together(&world, asks).await;
    assert_eq!(results.iter().filter(|result| **result == Err(SubmitError::Failed)).count(), 3);
    world.app.rest().await;
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
async fn an_outage_is_not_split_and_nobody_is_answered() {
    let world = World::start().await;
    let commands = (1..=20).map(|who| Count::of(who).with(if who == 7 { Trouble::Outage } else { Trouble::None }));
    let results = together(&world, commands).await;
    assert!(results.iter().all(|result| *result == Err(SubmitError::Unavailable)), "{results:?}");
    assert_eq!(world.desk.handled(), 1);
    assert_eq!(world.app.sql_i64("select count(*) from orders_log").await, 0);
    assert_eq!(answer(world.submit(Count::of(1)).await).status, 200);
}

// F6, of a file; a server's disk is its own affair, and shows as an outage.
#[tokio::test]
async fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let world = World::on_sqlite().await;
    world.submit(Count::by(1)).await.unwrap();
    assert_eq!(world.submit(Fill { pages: 1 }).await, Err(SubmitError::Unavailable));
    assert_eq!(world.app.sql_i64("select value from orders_counter").await, 1, "reads go on");
    assert_eq!(world.app.sql_i64("select count(*) from orders_blobs").await, 0);
    assert_eq!(answer(world.submit(Fill { pages: 1_000_000 }).await).status, 204);
    assert_eq!(answer(world.submit(Count::by(1)).await).status, 200);
    assert_eq!(world.app.sql_i64("select count(*) from orders_blobs").await, 1);
}

// The commit stands and is answered, whatever a hook does.
#[tokio::test]
async fn a_hook_that_panics_does_not_take_the_writer_with_it() {
    let world = World::start().await;
    let results = together(&world, [Count::of(1), Count::of(2).with(Trouble::Hook), Count::of(3)]).await;
    assert!(results.into_iter().all(|result| answer(result).status == 200));
    assert_eq!((world.desk.announced(), world.app.sql_i64("select value from orders_counter").await), (3, 3));
    assert_eq!(answer(world.submit(Count::of(4)).await).status, 200);
}

#[tokio::test]
async fn a_reader_that_fails_does_not_fail_the_command_it_hears_of() {
    let world = World::start().await;
    let orders: Vec<_> = (0..16).map(|_| new_order()).collect();
    world.break_for(orders[5], super::world::How::Fault);
    let results = together(&world, orders.iter().map(|order| Ask::one(*order))).await;
    for (n, result) in results.into_iter().enumerate() {
        // From the culprit on the shelf is behind, so that later answers are open; none is lost.
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

// More rounds than one transaction takes.
#[tokio::test]
async fn a_long_exchange_goes_on_in_later_transactions() {
    let world = World::start().await;
    let before = world.desk.committed();
    let order_id = new_order();
    assert_eq!(answer(world.submit(Laps { order_id, laps: 150 }).await).status, 202);
    world.app.rest().await;
    world.app.eventually("select laps from orders_asks", 0).await;
    world.app.eventually("select seq from orders_positions where source='stock'", 151).await;
    let transactions = world.desk.committed() - before;
    if !world.app.is_postgres() {
        assert!((5..=12).contains(&transactions), "302 messages in {transactions} transactions");
    }
    check_log(&world, true).await;
}
