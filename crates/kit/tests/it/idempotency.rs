//! Idempotency keys: one effect, and one answer, byte for byte.

use super::world::{Ask, CommandFault, Count, Submitted, World, answer, new_order, queued};
use contracts::Code;
use futures::future::join_all;
use kit::{
    Answer, Reply,
    batch::SubmitError,
    idempotency::{self, Completion, IdempotencyKey},
};
use std::time::Duration;
use uuid::Uuid;

fn key(scope: u128, text: &str, body: u8) -> IdempotencyKey {
    IdempotencyKey { scope: Uuid::from_u128(scope), key: text.into(), request_hash: [body; 32] }
}

async fn count(world: &World, by: i64, key: &IdempotencyKey) -> Submitted {
    // A new trace id, so that a recomputed answer would differ.
    world.submit_as(Count::by(by), key, kit::ports::new_id()).await
}

async fn total(world: &World) -> i64 {
    world.app.sql_i64("select value from orders_counter").await
}

fn replay(first: &Answer) -> Answer {
    Answer { replayed: true, ..first.clone() }
}

#[track_caller]
fn assert_problem(given: Submitted, code: Code) {
    let given = answer(given);
    let body: serde_json::Value = serde_json::from_slice(&given.body).unwrap();
    assert_eq!((given.status, &body["type"]), (code.status(), &format!("/problems/{}", code.slug()).into()));
}

// row 60
#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_has_no_effect() {
    let world = World::start().await;
    let key = key(1, "k", 1);
    let first = answer(count(&world, 5, &key).await);
    assert_eq!((first.status, first.replayed, first.location.as_deref()), (200, false, Some("/v1/counts/5")));
    for _ in 0..3 {
        assert_eq!(answer(count(&world, 5, &key).await), replay(&first));
    }
    assert_eq!(total(&world).await, 5);
}

#[tokio::test]
async fn repeats_that_arrive_together_are_one_request() {
    let world = World::start().await;
    let (same, other) = (key(1, "k", 1), key(1, "k", 2));
    let blocked = world.block_writer().await;
    let waiting = queued([&same, &same, &other, &same].map(|key| count(&world, 5, key))).await;
    blocked.resume().await;
    let mut answers = join_all(waiting).await;
    assert_problem(answers.remove(2), Code::IdempotencyKeyMismatch);
    let answers: Vec<Answer> = answers.into_iter().map(answer).collect();
    assert!(!answers[0].replayed);
    assert_eq!(answers[1..], [replay(&answers[0]), replay(&answers[0])]);
    assert_eq!(total(&world).await, 5);
    assert_eq!(world.app.sql_i64("select count(*) from orders_idempotency").await, 1);
}

// row 57; row 59: the same key text from another member
#[tokio::test]
async fn another_request_is_refused_and_another_owner_is_another_key() {
    let world = World::start().await;
    answer(count(&world, 5, &key(1, "k", 1)).await);
    assert_problem(count(&world, 5, &key(1, "k", 2)).await, Code::IdempotencyKeyMismatch);
    assert_eq!(total(&world).await, 5);
    for other in [key(2, "k", 1), key(1, "K", 1)] {
        assert!(!answer(count(&world, 5, &other).await).replayed);
    }
    let ask = world.submit_as(Ask::one(new_order()), &key(1, "k", 1), Uuid::nil()).await;
    match ask {
        Ok(Reply::Pending(_)) if world.app.is_postgres() => {}
        ask => assert_eq!(answer(ask).status, 201, "another operation"),
    }
    assert_eq!(total(&world).await, 15);
    // The mismatch did not change the key.
    assert!(answer(count(&world, 5, &key(1, "k", 1)).await).replayed);
}

#[tokio::test]
async fn stored_refusals_are_replayed() {
    let world = World::start().await;
    let key = key(1, "k", 1);
    let trace = Uuid::from_u128(0xabc);
    let refused = answer(world.submit_as(Count::by(-5), &key, trace).await);
    let body: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!((refused.status, &body["trace_id"]), (409, &trace.simple().to_string().into()));
    answer(world.submit(Count::by(100)).await);
    assert_eq!(answer(count(&world, -5, &key).await), replay(&refused), "with the trace of the request it answered");
    assert_eq!(total(&world).await, 100);
}

#[tokio::test]
async fn answers_survive_a_restart_byte_for_byte() {
    let world = World::start().await;
    let (granted, refused) = (key(1, "granted", 1), key(1, "refused", 2));
    let first = answer(count(&world, 5, &granted).await);
    let no = answer(count(&world, -50, &refused).await);
    let world = world.restart().await;
    assert_eq!(answer(count(&world, 5, &granted).await), replay(&first));
    assert_eq!(answer(count(&world, -50, &refused).await), replay(&no));
    assert_eq!(total(&world).await, 5);
}

#[tokio::test]
async fn a_technical_failure_is_not_an_answer() {
    let world = World::start().await;
    let key = key(1, "k", 1);
    let failed = world.submit_as(Count::by(5).with(CommandFault::Fault), &key, Uuid::nil()).await;
    assert_eq!(failed, Err(SubmitError::Failed));
    let again = answer(count(&world, 5, &key).await);
    assert_eq!((again.status, again.replayed, total(&world).await), (200, false, 5));
}

// The bad command of a batch loses its own key and no other.
#[tokio::test]
async fn keys_of_a_bisected_batch_stay_with_their_effects() {
    let world = World::start().await;
    let keys: Vec<IdempotencyKey> = (0..8).map(|n| key(n, "k", 1)).collect();
    let blocked = world.block_writer().await;
    let submit = |key: &IdempotencyKey, bad: bool| {
        let command = Count::by(1).with(if bad { CommandFault::Panic } else { CommandFault::None });
        let (key, world) = (key.clone(), &world);
        async move { world.submit_as(command, &key, Uuid::nil()).await }
    };
    let waiting = queued(keys.iter().enumerate().map(|(n, key)| submit(key, n == 3))).await;
    blocked.resume().await;
    let first = join_all(waiting).await;
    assert_eq!(total(&world).await, 7);
    for (n, key) in keys.iter().enumerate() {
        let again = answer(count(&world, 1, key).await);
        match &first[n] {
            Ok(Reply::Answer(given)) => assert_eq!(again, replay(given)),
            failed => assert_eq!((n, failed, again.replayed), (3, &Err(SubmitError::Failed), false)),
        }
    }
    assert_eq!(total(&world).await, 8);
}

// row 58
#[tokio::test]
async fn a_repeat_of_a_running_request_is_told_to_wait() {
    let world = World::unfolded().await;
    world.app.faults.hold("stock", "stock.reserve");
    let (order, key) = (new_order(), key(1, "k", 1));
    let submit = || world.submit_as(Ask::one(order), &key, Uuid::nil());
    assert_eq!(submit().await, Ok(Reply::Pending(order.into())));
    assert_problem(submit().await, Code::IdempotencyInProgress);
    let other = IdempotencyKey { request_hash: [9; 32], ..key.clone() };
    assert_problem(world.submit_as(Ask::one(order), &other, Uuid::nil()).await, Code::IdempotencyKeyMismatch);
    let world = {
        assert_eq!(world.app.sql_i64("select count(*) from orders_asks").await, 1);
        world.restart().await
    };
    world.app.eventually("select count(*) from orders_idempotency where status=201", 1).await;
    let given = answer(world.submit_as(Ask::one(order), &key, Uuid::nil()).await);
    assert_eq!((given.status, given.replayed, given.location), (201, true, Some(format!("/v1/asks/{order}"))));
    assert_eq!(world.units_left().await, super::world::STOCK - 1);
}

#[tokio::test]
async fn an_open_key_is_completed_once() {
    let world = World::start().await;
    let (key, now) = (key(1, "k", 1), world.app.clock_now());
    let mut tx = world.second_writer().await;
    idempotency::store(&mut tx, "orders", "orders.ask", &[(&key, None)], now).await.unwrap();
    assert!(matches!(idempotency::look_up(&mut tx, "orders", "orders.ask", &key).await.unwrap(), idempotency::KeyState::Running));
    let (one, other) = (Answer::empty(204), Answer::empty(409));
    fn settled<'s>(key: &'s str, answer: &'s Answer) -> [Completion<'s>; 1] {
        [Completion { operation: "orders.ask", scope: Uuid::from_u128(1), key, answer }]
    }
    assert_eq!(idempotency::complete(&mut tx, "orders", &settled("k", &one)).await.unwrap(), [true]);
    assert_eq!(idempotency::complete(&mut tx, "orders", &settled("k", &other)).await.unwrap(), [false]);
    let stored = idempotency::answer(&mut tx, "orders", "orders.ask", key.scope, "k").await.unwrap();
    assert_eq!(stored, Some(one));
    assert_eq!(idempotency::answer(&mut tx, "orders", "orders.ask", key.scope, "other").await.unwrap(), None);
}

#[tokio::test]
async fn keys_are_kept_for_exactly_a_day() {
    let world = World::start().await;
    let stored = world.app.clock_now();
    for n in 0..3 {
        answer(count(&world, 1, &key(n, "k", 1)).await);
    }
    let mut tx = world.second_writer().await;
    idempotency::store(&mut tx, "orders", "orders.ask", &[(&key(9, "open", 1), None)], stored).await.unwrap();
    let day = stored.after(idempotency::RETENTION);
    assert_eq!(idempotency::prune(&mut tx, "orders", day, 100).await.unwrap(), 0);
    let later = day.after(Duration::from_micros(1));
    assert_eq!(idempotency::prune(&mut tx, "orders", later, 2).await.unwrap(), 2, "no more than the limit");
    assert_eq!(idempotency::prune(&mut tx, "orders", later, 100).await.unwrap(), 1);
    assert_eq!(world.app.sql_i64("select count(*) from orders_idempotency where status is null").await, 1, "open keys stay");
}

#[tokio::test]
async fn a_key_expires_after_a_day() {
    let world = World::start().await;
    let key = key(1, "k", 1);
    answer(count(&world, 5, &key).await);
    world.app.clock.advance(idempotency::RETENTION + Duration::from_secs(600));
    world.app.eventually("select count(*) from orders_idempotency", 0).await;
    assert!(!answer(count(&world, 5, &key).await).replayed);
    assert_eq!(total(&world).await, 10);
}
