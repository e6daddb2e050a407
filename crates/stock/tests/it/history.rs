//! Random histories through the database: steps of several orders in random transactions, with the invariants checked after each.

use crate::world::{World, commit, lines, order, release};
use contracts::{
    Message, OrderId, Sku,
    messages::{StockReserve, StockTake},
};
use futures::future::join_all;
use proptest::{prelude::*, test_runner::Config};
use serde_json::json;
use testkit::App;

/// Operations that run at the same time.
#[derive(Clone, Debug)]
enum Round {
    /// Steps by order, one transaction per order.
    Orders(Vec<(usize, Vec<Step>)>),
    Set(usize, i64),
    Adjust(usize, i64),
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(Vec<(usize, u32)>, Vec<(usize, u32)>),
    Take(Vec<(usize, u32)>),
    Commit,
    Release,
}

const ORDERS: usize = 8;
const SKUS: usize = 3;

fn wanted() -> impl Strategy<Value = Vec<(usize, u32)>> {
    prop::collection::vec((0..SKUS, 1u32..5), 0..4)
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let step = prop_oneof![
        3 => (wanted(), wanted()).prop_map(|(hold, check)| Step::Reserve(hold, check)),
        2 => wanted().prop_map(Step::Take),
        3 => Just(Step::Commit),
        2 => Just(Step::Release),
    ];
    let steps = (0..ORDERS, prop::collection::vec(step, 1..4));
    let round = prop_oneof![
        8 => prop::collection::vec(steps, 1..4).prop_map(Round::Orders),
        1 => (0..SKUS, 0i64..12).prop_map(|(sku, on_hand)| Round::Set(sku, on_hand)),
        1 => (0..SKUS, 1i64..8).prop_map(|(sku, delta)| Round::Adjust(sku, delta)),
    ];
    prop::collection::vec(round, 1..25)
}

fn message(world: &World, skus: &[Sku], order_id: OrderId, step: &Step) -> Message {
    let pick = |first: u32, wanted: &[(usize, u32)]| {
        let wanted: Vec<_> = wanted.iter().map(|(sku, quantity)| (skus[*sku], *quantity)).collect();
        lines(first, &wanted)
    };
    let expires_at = world.deadline();
    match step {
        Step::Reserve(hold, check) => {
            Message::StockReserve(StockReserve { order_id, reserve: pick(1, hold), check_only: pick(10, check), expires_at })
        }
        Step::Take(wanted) => Message::StockTake(StockTake { order_id, lines: pick(10, wanted), expires_at }),
        Step::Commit => commit(order_id),
        Step::Release => release(order_id),
    }
}

async fn run_history(rounds: Vec<Round>, fold: bool) {
    let world = World::with(App::builder().fold(fold)).await;
    let mut skus = Vec::new();
    for _ in 0..SKUS {
        skus.push(world.sku(6).await);
    }
    let orders: Vec<OrderId> = (0..ORDERS).map(|_| order()).collect();
    for round in rounds {
        match round {
            Round::Orders(steps) => {
                let sends = steps.iter().map(|(of, steps)| {
                    let of = orders[*of];
                    world.send(of, steps.iter().map(|step| message(&world, &skus, of, step)).collect())
                });
                join_all(sends).await;
            }
            Round::Set(sku, on_hand) => {
                let path = format!("/v1/stock/{}", skus[sku]);
                let answer = world.app.put(path).bearer(&world.seller()).json(&json!({"on_hand": on_hand})).send().await;
                assert!(matches!(answer.status, 200 | 409), "{answer:?}");
            }
            Round::Adjust(sku, delta) => {
                let path = format!("/v1/stock/{}/adjustments", skus[sku]);
                let body = json!({"delta": delta, "reason": "found"});
                let _ = world.app.post(path).bearer(&world.seller()).json(&body).send().await.expect(200);
            }
        }
        world.audit().await;
    }
    let head = world.app.sql_i64("select coalesce(max(seq), 0) from orders_outbox").await;
    world.app.eventually("select coalesce(max(seq), 0) from stock_positions where source='orders'", head).await;
    world.audit().await;
    for sku in &skus {
        world.levels(*sku).await;
    }
    assert_eq!(world.app.sql_i64("select count(*) from stock_dead_letters").await, 0);
}

proptest! {
    #![proptest_config(Config { cases: 24, failure_persistence: None, ..Config::default() })]

    // S1 S2 S3 S9
    #[test]
    fn any_history_keeps_the_invariants(rounds in rounds(), fold: bool) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(run_history(rounds, fold));
    }
}
