//! Group commit: order, batch size, the bounded queue, and stopping.

use super::world::{Count, World, answer, queued, submit_together};
use futures::future::join_all;
use kit::{batch::SubmitError, tasks};
use std::{future::poll_fn, task::Poll, time::Duration};
use testkit::App;
use tokio::sync::oneshot;

fn value(submitted: super::world::Submitted) -> i64 {
    let answer = answer(submitted);
    assert_eq!(answer.status, 200);
    serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["value"].as_i64().unwrap()
}

#[tokio::test]
async fn commands_that_wait_together_share_one_transaction() {
    let world = World::start().await;
    let before = world.orders.committed();
    let values: Vec<i64> = submit_together(&world, (1..=100).map(Count::of)).await.into_iter().map(value).collect();
    assert_eq!(values, (1..=100).collect::<Vec<_>>());
    assert_eq!(world.orders.committed() - before, 2, "one for the block, one for all counts");
    assert_eq!(world.orders.handled(), 1);
    let arrivals = world.app.rows::<(i64,)>("select who from orders_log order by n").await;
    assert_eq!(arrivals, (1..=100).map(|who| (who,)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_transaction_takes_no_more_commands_than_its_limit() {
    let world = World::with(App::builder().max_batch(10)).await;
    let values: Vec<i64> = submit_together(&world, (1..=25).map(Count::of)).await.into_iter().map(value).collect();
    assert_eq!(values, (1..=25).collect::<Vec<_>>());
    let sizes = world.app.rows::<(i64,)>("select count(*) from orders_log group by batch order by batch").await;
    assert_eq!(sizes, [(10,), (10,), (5,)]);
}

#[tokio::test]
async fn a_lone_command_is_executed_at_once() {
    let world = World::start().await;
    let before = world.orders.committed();
    for n in 1..=5 {
        assert_eq!(value(world.submit(Count::of(n)).await), n);
    }
    assert_eq!(world.orders.committed() - before, 5);
}

#[tokio::test]
async fn exclusive_commands_run_alone() {
    let world = World::start().await;
    let before = world.orders.committed();
    let commands = (1..=10).map(|who| Count { is_exclusive: who % 2 == 0, ..Count::of(who) });
    submit_together(&world, commands).await.into_iter().for_each(|submitted| assert!(value(submitted) > 0));
    assert_eq!(world.orders.committed() - before, 7, "the block, five exclusive commands, and the other five together");
    let sizes = world.app.rows::<(i64,)>("select count(*) from orders_log group by batch order by batch").await;
    assert_eq!(sizes, [(1,), (1,), (1,), (1,), (1,), (5,)]);
}

#[tokio::test]
async fn an_answer_leaves_only_after_the_commit() {
    let world = World::start().await;
    let first = world.block_writer().await;
    let mut counted = queued([world.submit(Count::of(1))]).await.remove(0);
    // A second block in the same batch. By then the count is handled, and its transaction is still open.
    let (entered, is_in) = oneshot::channel();
    let second = world.queue_writer_block(entered).await;
    first.resume().await;
    is_in.await.unwrap();
    assert_eq!(world.orders.handled(), 1);
    let pending = poll_fn(|context| std::task::Poll::Ready(counted.as_mut().poll(context).is_pending())).await;
    assert!(pending, "answered before the commit");
    assert_eq!(world.app.sql_i64("select count(*) from orders_log").await, 0);
    second.resume().await;
    assert_eq!(value(counted.await), 1);
    assert_eq!(world.app.sql_i64("select count(*) from orders_log").await, 1);
}

// row 77
#[tokio::test]
async fn a_full_queue_rejects_at_once_until_it_drains() {
    let world = World::with(App::builder().queue(4)).await;
    let blocked = world.block_writer().await;
    let mut waiting = Vec::new();
    let mut refused = 0;
    for who in 1..=7 {
        let mut submitted = Box::pin(world.submit(Count::of(who)));
        match futures::poll!(&mut submitted) {
            Poll::Ready(answer) => {
                assert_eq!(answer, Err(SubmitError::Overloaded));
                refused += 1;
            }
            Poll::Pending => {
                assert_eq!(refused, 0, "the queue takes no more until it drains");
                waiting.push(submitted);
            }
        }
    }
    // Wake-ups of the writer can take places, too.
    let queued = i64::try_from(waiting.len()).unwrap();
    assert!((1..=4).contains(&queued), "{queued} of 4 places");
    blocked.resume().await;
    assert_eq!(join_all(waiting).await.into_iter().map(value).collect::<Vec<_>>(), (1..=queued).collect::<Vec<_>>());
    assert_eq!(value(world.submit(Count::of(8)).await), queued + 1);
    assert_eq!(world.app.sql_i64(&format!("select count(*) from orders_log where who between {} and 7", queued + 1)).await, 0);
}

#[tokio::test]
async fn stopping_executes_the_queue_and_rejects_the_rest() {
    let world = World::start().await;
    let (kit, orders) = (world.app.kit().clone(), std::sync::Arc::clone(&world.orders));
    let blocked = world.block_writer().await;
    let waiting = queued((1..=5).map(|who| {
        let (kit, orders) = (kit.clone(), std::sync::Arc::clone(&orders));
        async move { kit.batch.submit(&orders, Count::of(who), None, uuid::Uuid::nil()).await }
    }))
    .await;
    let stopped = tasks::spawn("stop", world.app.process.stop());
    blocked.resume().await;
    assert_eq!(join_all(waiting).await.into_iter().map(value).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    stopped.await.unwrap();
    let late = kit.batch.submit(&orders, Count::of(6), None, uuid::Uuid::nil()).await;
    assert_eq!(late, Err(SubmitError::Unavailable));
}

// finding 16: readiness asks for this.
#[tokio::test]
async fn a_hung_writer_gives_no_sign_of_life() {
    let world = World::start().await;
    let health = world.app.process.writer_health();
    assert!(health.is_good());
    let blocked = world.block_writer().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(health.silence() >= Duration::from_secs(1), "{:?}", health.silence());
    blocked.resume().await;
    while health.silence() >= Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// A caller that disconnects loses its answer but not the effect, and does not affect other callers.
#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing() {
    let world = World::start().await;
    let blocked = world.block_writer().await;
    let mut waiting = queued((1..=3).map(|who| world.submit(Count::of(who)))).await;
    drop(waiting.remove(1));
    blocked.resume().await;
    assert_eq!(join_all(waiting).await.into_iter().map(value).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(world.app.sql_i64("select value from orders_counter").await, 3);
}

#[tokio::test]
async fn equal_commands_of_two_services_run_separately() {
    let world = World::start().await;
    let (orders, stock) = (super::world::new_order(), super::world::new_order());
    let done = contracts::messages::StepDone { order_id: stock };
    let before = (world.orders.tried(), world.orders.committed());
    let blocked = world.block_writer().await;
    let first = queued([world.app.emit("orders", orders, super::world::release(orders))]).await;
    let second = queued([world.app.emit("stock", stock, contracts::Message::StockTaken(done))]).await;
    blocked.resume().await;
    join_all(first).await;
    join_all(second).await;
    let counts = || (world.orders.tried() - before.0, world.orders.committed() - before.1);
    // A commit is visible in the database a moment before the writer counts it.
    for _ in 0..500 {
        if counts().0 == counts().1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (tried, committed) = counts();
    assert_eq!(tried, committed, "nothing was rolled back");
    if !world.app.is_postgres() {
        assert_eq!(committed, 2, "the block, and both commands together");
    }
    assert_eq!(world.app.messages("orders").await, [(orders.into(), super::world::release(orders))]);
    super::world::check_log(&world, true).await;
}
