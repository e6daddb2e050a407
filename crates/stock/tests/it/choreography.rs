//! The steps of stock on a routing slip (G3): forward and back, in any order, and repeated.

use crate::world::{World, commit, lines, order};
use contracts::{
    Code, Message, OrderId, Sku,
    messages::{Direction, RoutingSlip, SlipStep, StockPolicy, StockTake},
};
use testkit::{App, slip_outcomes};

/// Converts commands to stops.
fn stops(commands: Vec<Message>) -> Vec<SlipStep> {
    let stop = |command| match command {
        Message::StockReserve(ask) => SlipStep::StockReserve(ask),
        Message::StockTake(ask) => SlipStep::StockTake(ask),
        other => panic!("{} is no stop of stock", other.kind()),
    };
    commands.into_iter().map(stop).collect()
}

/// The second line of an order.
fn take(world: &World, order_id: OrderId, sku: Sku, quantity: u32) -> Message {
    Message::StockTake(StockTake { order_id, lines: lines(2, &[(sku, quantity)]), expires_at: world.deadline() })
}

/// The slips that stock emitted.
async fn emitted_slips(world: &World, of: OrderId) -> Vec<RoutingSlip> {
    world.answers(of).await.iter().map(|message| message.slip().cloned().unwrap_or_else(|| panic!("{message:?}"))).collect()
}

async fn both_kinds(world: &World, stock: [i64; 2]) -> [Sku; 2] {
    let late = Sku(kit::ports::new_id());
    world.list(&[(late, stock[1])], StockPolicy::DeductOnPayment).await;
    [world.sku(stock[0]).await, late]
}

// G3, S1, S9: neighbouring stops are done together and once, even if the slip is delivered twice.
#[tokio::test]
async fn the_stops_of_a_slip_are_done_once() {
    for &fold in App::fold_settings() {
        let world = World::with(App::builder().fold(fold)).await;
        let [now, late] = both_kinds(&world, [5, 3]).await;
        let of = order();
        let there = RoutingSlip::forward(of, 1, stops(vec![world.reserve(of, &[(now, 2)]), take(&world, of, late, 1)]), 0, false);
        world.app.faults.repeat("stock", "orders.slip", 1);
        world.send(of, vec![Message::OrdersSlip(there)]).await;
        world.app.eventually("select count(*) from stock_outbox", 2).await;
        let passed = emitted_slips(&world, of).await;
        for slip in &passed {
            assert_eq!((slip.next, slip.way, slip_outcomes(slip)), (None, Direction::Forward, vec!["done", "done"]));
        }
        assert_eq!((world.levels(now).await, world.levels(late).await), ([5, 2, 3, 0], [3, 1, 2, 0]));

        let back = RoutingSlip::back(of, 2, passed[0].stops.clone());
        world.send(of, vec![Message::OrdersSlip(back.clone()), Message::OrdersSlip(back)]).await;
        world.app.eventually("select count(*) from stock_outbox", 4).await;
        let back = emitted_slips(&world, of).await.swap_remove(3);
        assert_eq!((back.next, slip_outcomes(&back)), (None, vec!["undone"]), "one release undoes both parts");
        assert_eq!((world.levels(now).await, world.levels(late).await), ([5, 0, 5, 0], [3, 0, 3, 0]));
        world.audit().await;
    }
}

// G3, S2: a refusal turns the slip back at once and undoes stock's own part, too.
#[tokio::test]
async fn a_refusal_turns_the_slip_back() {
    let world = World::new().await;
    let [now, late] = both_kinds(&world, [5, 3]).await;
    let of = order();
    let asks = stops(vec![world.reserve(of, &[(now, 2)]), take(&world, of, late, 4)]);
    world.send(of, vec![Message::OrdersSlip(RoutingSlip::forward(of, 1, asks, 0, false))]).await;
    let slip = emitted_slips(&world, of).await.swap_remove(0);
    assert_eq!((slip.next, slip.way, slip_outcomes(&slip)), (None, Direction::Back, vec!["done", "out-of-stock", "undone"]));
    assert_eq!((world.levels(now).await, world.levels(late).await), ([5, 0, 5, 0], [3, 0, 3, 0]));
    world.audit().await;
}

// G3, G4: a slip back that overtakes the forward slip leaves a tombstone, whose code the forward slip gets.
#[tokio::test]
async fn a_slip_that_comes_after_its_undo_is_refused() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    let asks = stops(vec![world.reserve(of, &[(sku, 2)])]);
    let there = RoutingSlip::forward(of, 1, asks.clone(), 0, false);
    world.send(of, vec![Message::OrdersSlip(RoutingSlip::back(of, 2, asks)), Message::OrdersSlip(there)]).await;
    let passed = emitted_slips(&world, of).await;
    assert_eq!((slip_outcomes(&passed[0]), slip_outcomes(&passed[1])), (vec!["undone"], vec![Code::StepTimedOut.slug()]));
    assert_eq!((passed[1].run, passed[1].next, world.levels(sku).await), (1, None, [5, 0, 5, 0]));
    world.audit().await;
}

// G3: a paid order is cancelled, and its slip back arrives on another stream before the commit.
#[tokio::test]
async fn a_commit_that_comes_after_the_undo_sells_nothing() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    let asks = stops(vec![world.reserve(of, &[(sku, 2)])]);
    let there = RoutingSlip::forward(of, 1, asks.clone(), 0, false);
    let back = RoutingSlip::back(of, 2, asks);
    world.send(of, vec![Message::OrdersSlip(there), Message::OrdersSlip(back), commit(of)]).await;
    assert_eq!(world.levels(sku).await, [5, 0, 5, 0]);
    world.audit().await;
}

// G3: stock ignores slips whose next stop belongs to another service.
#[tokio::test]
async fn a_slip_for_another_service_is_ignored() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    let mut slip = RoutingSlip::forward(of, 1, stops(vec![world.reserve(of, &[(sku, 2)])]), 0, false);
    slip.next = None;
    world.send(of, vec![Message::OrdersSlip(slip)]).await;
    assert_eq!((world.answers(of).await, world.levels(sku).await), (vec![], [5, 0, 5, 0]));
    assert_eq!(world.app.sql_i64("select count(*) from stock_reservations").await, 0);
}
