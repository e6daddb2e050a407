//! The steps of the checkout saga. Most tests run for both policies.

use crate::world::{World, commit, lines, order, release};
use contracts::{Code, Message, OrderId, Sku, messages::StockPolicy, messages::StockReserve};
use futures::future::join_all;
use testkit::App;

const POLICIES: [StockPolicy; 2] = [StockPolicy::ReserveOnOrder, StockPolicy::DeductOnPayment];

/// The messages after which an order of this policy holds its lines.
fn steps_to_hold(world: &World, policy: StockPolicy, of: OrderId, wanted: &[(Sku, u32)]) -> Vec<Message> {
    match policy {
        StockPolicy::ReserveOnOrder => vec![world.reserve(of, wanted)],
        StockPolicy::DeductOnPayment => vec![world.check(of, wanted), world.take(of, wanted)],
    }
}

fn refusal_code(answers: &[Message]) -> Option<Code> {
    answers.iter().find_map(|message| match message {
        Message::StockRefused(refused) | Message::StockTakeRefused(refused) => Some(refused.code),
        _ => None,
    })
}

async fn skus(world: &World, policy: StockPolicy, stock: &[i64]) -> Vec<Sku> {
    let listed: Vec<(Sku, i64)> = stock.iter().map(|stock| (Sku(kit::ports::new_id()), *stock)).collect();
    world.list(&listed, policy).await;
    listed.into_iter().map(|(sku, _)| sku).collect()
}

// S1 S9
#[tokio::test(flavor = "multi_thread")]
async fn thirty_orders_compete_for_twenty_units() {
    for policy in POLICIES {
        let world = World::new().await;
        let sku = skus(&world, policy, &[20]).await[0];
        let orders: Vec<OrderId> = (0..30).map(|_| order()).collect();
        join_all(orders.iter().map(|of| world.send(*of, steps_to_hold(&world, policy, *of, &[(sku, 1)])))).await;
        let mut refused = Vec::new();
        for of in &orders {
            refused.extend(refusal_code(&world.answers(*of).await));
        }
        assert_eq!(refused, [Code::OutOfStock; 10], "{policy:?}");
        assert_eq!(world.levels(sku).await, [20, 20, 0, 0], "{policy:?}");
        world.audit().await;
        join_all(orders.iter().map(|of| world.send(*of, vec![if of.0.as_u128() % 2 == 0 { commit(*of) } else { release(*of) }]))).await;
        world.audit().await;
        let [on_hand, reserved, available, sold] = world.levels(sku).await;
        assert_eq!((on_hand + sold, reserved, available), (20, 0, on_hand), "{policy:?}");
    }
}

// S2 S9
#[tokio::test]
async fn all_lines_are_held_or_none() {
    for policy in POLICIES {
        let world = World::new().await;
        let skus = skus(&world, policy, &[5, 1]).await;
        let (short, fits) = (order(), order());
        world.send(short, steps_to_hold(&world, policy, short, &[(skus[0], 2), (skus[1], 2)])).await;
        assert_eq!(refusal_code(&world.answers(short).await), Some(Code::OutOfStock));
        assert_eq!((world.levels(skus[0]).await, world.levels(skus[1]).await), ([5, 0, 5, 0], [1, 0, 1, 0]));
        world.send(fits, steps_to_hold(&world, policy, fits, &[(skus[0], 2), (skus[1], 1), (skus[0], 3)])).await;
        assert_eq!(refusal_code(&world.answers(fits).await), None);
        assert_eq!((world.levels(skus[0]).await, world.levels(skus[1]).await), ([5, 5, 0, 0], [1, 1, 0, 0]));
        world.audit().await;
    }
}

// S2
#[tokio::test]
async fn a_refusal_names_the_short_lines() {
    let world = World::new().await;
    let (plenty, few) = (world.sku(9).await, world.sku(1).await);
    let of = order();
    world.send(of, vec![world.reserve(of, &[(plenty, 1), (few, 2)])]).await;
    let answers = world.answers(of).await;
    let [Message::StockRefused(refused)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(
        (refused.order_id, refused.code, refused.detail.as_str()),
        (of, Code::OutOfStock, "Not enough in stock: line 2 (2 wanted, 1 left)")
    );
}

// S3 S9
#[tokio::test]
async fn a_paid_order_sells_and_an_undo_returns_the_units() {
    for policy in POLICIES {
        for together in [true, false] {
            let world = World::new().await;
            let sku = skus(&world, policy, &[10]).await[0];
            let of = order();
            let mut steps = steps_to_hold(&world, policy, of, &[(sku, 2), (sku, 1)]);
            steps.extend([commit(of), commit(of)]);
            send_steps(&world, of, steps, together).await;
            assert_eq!(world.levels(sku).await, [7, 0, 7, 3]);
            world.audit().await;
            send_steps(&world, of, vec![release(of), release(of)], together).await;
            assert_eq!(world.levels(sku).await, [10, 0, 10, 0]);
            assert_eq!(world.count_messages("stock.released").await, 2, "every undo is answered");
            send_steps(&world, of, vec![commit(of)], together).await;
            assert_eq!(world.levels(sku).await, [10, 0, 10, 0], "a late repeat of the commit sells nothing");
            assert_eq!(world.app.sql_i64("select count(*) from stock_movements where kind in ('SALE','RETURN')").await, 4);
            world.audit().await;
        }
    }
}

/// Sends the steps in one transaction, or each in its own.
async fn send_steps(world: &World, of: OrderId, steps: Vec<Message>, together: bool) {
    if together {
        return world.send(of, steps).await;
    }
    for step in steps {
        world.send(of, vec![step]).await;
    }
}

// S9
#[tokio::test]
async fn an_unpaid_order_releases_its_holds() {
    for policy in POLICIES {
        for together in [true, false] {
            let world = World::new().await;
            let sku = skus(&world, policy, &[4]).await[0];
            let of = order();
            let mut steps = steps_to_hold(&world, policy, of, &[(sku, 3)]);
            steps.push(release(of));
            send_steps(&world, of, steps, together).await;
            assert_eq!(world.levels(sku).await, [4, 0, 4, 0]);
            assert_eq!(world.answer_kinds(of).await.last(), Some(&"stock.released"));
            world.audit().await;
        }
    }
}

// S9
#[tokio::test]
async fn deduct_on_payment_holds_nothing_before_payment() {
    let world = World::new().await;
    let sku = skus(&world, StockPolicy::DeductOnPayment, &[1]).await[0];
    let (first, second) = (order(), order());
    world.send(first, vec![world.check(first, &[(sku, 1)])]).await;
    world.send(second, vec![world.check(second, &[(sku, 1)])]).await;
    assert_eq!(world.levels(sku).await, [1, 0, 1, 0]);
    world.send(second, vec![world.take(second, &[(sku, 1)]), commit(second)]).await;
    world.send(first, vec![world.take(first, &[(sku, 1)])]).await;
    assert_eq!(world.answer_kinds(first).await, ["stock.reserved", "stock.take_refused"]);
    assert_eq!(world.levels(sku).await, [0, 0, 0, 1]);
    world.send(first, vec![release(first)]).await;
    world.audit().await;
}

// S9
#[tokio::test]
async fn an_order_of_both_policies_holds_both_parts() {
    let world = World::new().await;
    let at_order = skus(&world, StockPolicy::ReserveOnOrder, &[2]).await[0];
    let at_payment = skus(&world, StockPolicy::DeductOnPayment, &[2]).await[0];
    for (end, levels) in [(release as fn(OrderId) -> Message, [2, 0, 2, 0]), (commit, [1, 0, 1, 1])] {
        let of = order();
        let (reserve, check_only) = (lines(1, &[(at_order, 1)]), lines(2, &[(at_payment, 1)]));
        let take =
            Message::StockTake(contracts::messages::StockTake { order_id: of, lines: check_only.clone(), expires_at: world.deadline() });
        world.send(of, vec![Message::StockReserve(StockReserve { order_id: of, reserve, check_only, expires_at: world.deadline() })]).await;
        assert_eq!((world.levels(at_order).await, world.levels(at_payment).await), ([2, 1, 1, 0], [2, 0, 2, 0]));
        world.send(of, vec![take]).await;
        assert_eq!(world.levels(at_payment).await, [2, 1, 1, 0]);
        world.send(of, vec![end(of)]).await;
        assert_eq!((world.levels(at_order).await, world.levels(at_payment).await), (levels, levels));
        world.audit().await;
    }
}

#[tokio::test]
async fn a_repeated_step_gets_the_same_answer() {
    for policy in POLICIES {
        for together in [true, false] {
            let world = World::new().await;
            let sku = skus(&world, policy, &[3]).await[0];
            let (of, refused) = (order(), order());
            let steps = steps_to_hold(&world, policy, of, &[(sku, 3)]);
            let twice: Vec<Message> = steps.iter().flat_map(|step| [step.clone(), step.clone()]).collect();
            send_steps(&world, of, twice, together).await;
            send_steps(&world, refused, vec![world.reserve(refused, &[(sku, 1)])], together).await;
            assert_eq!(world.levels(sku).await, [3, 3, 0, 0]);
            let answers = world.answers(of).await;
            assert!(answers.chunks(2).all(|pair| pair[0] == pair[1]) && refusal_code(&answers).is_none(), "{answers:?}");
            send_steps(&world, of, vec![release(of)], together).await;
            send_steps(&world, refused, vec![world.reserve(refused, &[(sku, 1)])], together).await;
            let answers = world.answers(refused).await;
            assert_eq!((answers.len(), &answers[0]), (2, &answers[1]), "a refusal stays one, even with stock available again");
            send_steps(&world, of, steps, together).await;
            assert_eq!(world.levels(sku).await, [3, 0, 3, 0], "the order is undone, so it holds nothing again");
            world.audit().await;
        }
    }
}

#[tokio::test]
async fn an_undo_before_its_step_leaves_a_tombstone() {
    let world = World::new().await;
    let sku = world.sku(3).await;
    for together in [true, false] {
        let of = order();
        send_steps(&world, of, vec![release(of), world.reserve(of, &[(sku, 1)]), world.take(of, &[(sku, 1)]), release(of)], together).await;
        assert_eq!(world.answer_kinds(of).await, ["stock.released", "stock.refused", "stock.take_refused", "stock.released"]);
        assert_eq!(refusal_code(&world.answers(of).await), Some(Code::StepTimedOut));
        assert_eq!(world.levels(sku).await, [3, 0, 3, 0]);
    }
    assert_eq!(world.app.sql_i64("select count(*) from stock_reservations where state='TOMBSTONE'").await, 2);
    world.audit().await;
}

/// Reserve and commit in one transaction write one reservation and one movement per line, but no holds.
#[tokio::test]
async fn one_transaction_writes_only_the_final_state() {
    let world = World::new().await;
    let sku = world.sku(10).await;
    let of = order();
    world.send(of, vec![world.reserve(of, &[(sku, 1), (sku, 2)]), commit(of)]).await;
    assert_eq!(world.app.sql_i64("select count(*) from stock_holds").await, 0);
    assert_eq!(world.app.sql_i64("select count(*) from stock_reservations where state='COMMITTED'").await, 1);
    assert_eq!(world.app.sql_i64("select count(*) from stock_movements where kind='SALE'").await, 2);
    world.audit().await;
}

#[tokio::test]
async fn a_message_delivered_twice_acts_once() {
    for &fold in App::fold_settings() {
        let world = World::with(App::builder().fold(fold)).await;
        let sku = world.sku(5).await;
        for kind in ["stock.reserve", "stock.commit", "stock.release"] {
            world.app.faults.repeat("stock", kind, 1);
        }
        let of = order();
        for step in [world.reserve(of, &[(sku, 2)]), commit(of), release(of)] {
            world.send(of, vec![step]).await;
        }
        world.app.eventually("select count(*) from stock_reservations where state='RETURNED'", 1).await;
        assert_eq!(world.levels(sku).await, [5, 0, 5, 0]);
        assert_eq!(world.count_messages("stock.reserved").await, 2);
        for kind in ["stock.reserve", "stock.commit", "stock.release"] {
            assert_eq!(world.app.faults.times_applied("stock", kind), 1, "{kind} was repeated");
        }
        world.audit().await;
    }
}

#[tokio::test]
async fn a_failed_attempt_leaves_no_trace() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    world.app.faults.fail("stock", "stock.commit", 2);
    let of = order();
    world.send(of, vec![world.reserve(of, &[(sku, 2)]), commit(of)]).await;
    world.app.eventually("select count(*) from stock_reservations where state='COMMITTED'", 1).await;
    assert_eq!(world.app.faults.times_applied("stock", "stock.commit"), 2);
    assert_eq!(world.levels(sku).await, [3, 0, 3, 2]);
    world.audit().await;
}

#[tokio::test]
async fn holds_survive_a_restart() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    world.send(of, vec![world.reserve(of, &[(sku, 2)])]).await;
    let World { app, store_id, seller_id } = world;
    let store = contracts::calls::StoreCard { store_id, name: "Cellar".into(), seller_id: Some(seller_id) };
    let app = app.restart(|kit| crate::world::services(kit, store.clone())).await;
    let world = World { app, store_id, seller_id };
    assert_eq!(world.levels(sku).await, [5, 2, 3, 0]);
    world.send(of, vec![commit(of)]).await;
    assert_eq!(world.levels(sku).await, [3, 0, 3, 2]);
    world.audit().await;
}
