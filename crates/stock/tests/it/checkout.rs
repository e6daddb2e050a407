//! The steps of the checkout saga, for both policies: the same suite.

use crate::world::{World, commit, lines, order, release};
use contracts::{Code, Message, OrderId, Sku, messages::StockPolicy, messages::StockReserve};
use futures::future::join_all;
use kit::testing::App;

const POLICIES: [StockPolicy; 2] = [StockPolicy::ReserveOnOrder, StockPolicy::DeductOnPayment];

/// The messages that bring an order of this policy to where it holds its lines.
fn until_held(world: &World, policy: StockPolicy, of: OrderId, wanted: &[(Sku, u32)]) -> Vec<Message> {
    match policy {
        StockPolicy::ReserveOnOrder => vec![world.reserve(of, wanted)],
        StockPolicy::DeductOnPayment => vec![world.check(of, wanted), world.take(of, wanted)],
    }
}

fn is_refused(told: &[Message]) -> Option<Code> {
    told.iter().find_map(|message| match message {
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
async fn thirty_orders_for_twenty_units() {
    for policy in POLICIES {
        let world = World::new().await;
        let sku = skus(&world, policy, &[20]).await[0];
        let orders: Vec<OrderId> = (0..30).map(|_| order()).collect();
        join_all(orders.iter().map(|of| world.tell(*of, until_held(&world, policy, *of, &[(sku, 1)])))).await;
        let mut refused = Vec::new();
        for of in &orders {
            refused.extend(is_refused(&world.told(*of).await));
        }
        assert_eq!(refused, [Code::OutOfStock; 10], "{policy:?}");
        assert_eq!(world.level(sku).await, [20, 20, 0, 0], "{policy:?}");
        world.audit().await;
        join_all(orders.iter().map(|of| world.tell(*of, vec![if of.0.as_u128() % 2 == 0 { commit(*of) } else { release(*of) }]))).await;
        world.audit().await;
        let [on_hand, reserved, available, sold] = world.level(sku).await;
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
        world.tell(short, until_held(&world, policy, short, &[(skus[0], 2), (skus[1], 2)])).await;
        assert_eq!(is_refused(&world.told(short).await), Some(Code::OutOfStock));
        assert_eq!((world.level(skus[0]).await, world.level(skus[1]).await), ([5, 0, 5, 0], [1, 0, 1, 0]));
        world.tell(fits, until_held(&world, policy, fits, &[(skus[0], 2), (skus[1], 1), (skus[0], 3)])).await;
        assert_eq!(is_refused(&world.told(fits).await), None);
        assert_eq!((world.level(skus[0]).await, world.level(skus[1]).await), ([5, 5, 0, 0], [1, 1, 0, 0]));
        world.audit().await;
    }
}

// S2
#[tokio::test]
async fn a_refusal_names_the_short_lines() {
    let world = World::new().await;
    let (plenty, few) = (world.sku(9).await, world.sku(1).await);
    let of = order();
    world.tell(of, vec![world.reserve(of, &[(plenty, 1), (few, 2)])]).await;
    let told = world.told(of).await;
    let [Message::StockRefused(refused)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(
        (refused.order_id, refused.code, refused.detail.as_str()),
        (of, Code::OutOfStock, "Not enough in stock: line 2 (2 wanted, 1 left)")
    );
}

// S3 S9
#[tokio::test]
async fn a_paid_order_sells_and_a_return_brings_back() {
    for policy in POLICIES {
        for together in [true, false] {
            let world = World::new().await;
            let sku = skus(&world, policy, &[10]).await[0];
            let of = order();
            let mut steps = until_held(&world, policy, of, &[(sku, 2), (sku, 1)]);
            steps.extend([commit(of), commit(of)]);
            tell(&world, of, steps, together).await;
            assert_eq!(world.level(sku).await, [7, 0, 7, 3]);
            world.audit().await;
            tell(&world, of, vec![release(of), release(of)], together).await;
            assert_eq!(world.level(sku).await, [10, 0, 10, 0]);
            assert_eq!(world.count("stock.released").await, 2, "every undo is answered");
            tell(&world, of, vec![commit(of)], together).await;
            assert_eq!(world.level(sku).await, [10, 0, 10, 0], "a late repeat of the commit sells nothing");
            assert_eq!(world.app.sql_i64("select count(*) from stock_movements where kind in ('SALE','RETURN')").await, 4);
            world.audit().await;
        }
    }
}

/// All in one transaction, or each in one of its own.
async fn tell(world: &World, of: OrderId, steps: Vec<Message>, together: bool) {
    if together {
        return world.tell(of, steps).await;
    }
    for step in steps {
        world.tell(of, vec![step]).await;
    }
}

// S9
#[tokio::test]
async fn an_unpaid_order_gives_back_what_it_held() {
    for policy in POLICIES {
        for together in [true, false] {
            let world = World::new().await;
            let sku = skus(&world, policy, &[4]).await[0];
            let of = order();
            let mut steps = until_held(&world, policy, of, &[(sku, 3)]);
            steps.push(release(of));
            tell(&world, of, steps, together).await;
            assert_eq!(world.level(sku).await, [4, 0, 4, 0]);
            assert_eq!(world.kinds(of).await.last(), Some(&"stock.released"));
            world.audit().await;
        }
    }
}

// S9
#[tokio::test]
async fn deduct_on_payment_holds_nothing_until_then() {
    let world = World::new().await;
    let sku = skus(&world, StockPolicy::DeductOnPayment, &[1]).await[0];
    let (first, second) = (order(), order());
    world.tell(first, vec![world.check(first, &[(sku, 1)])]).await;
    world.tell(second, vec![world.check(second, &[(sku, 1)])]).await;
    assert_eq!(world.level(sku).await, [1, 0, 1, 0]);
    world.tell(second, vec![world.take(second, &[(sku, 1)]), commit(second)]).await;
    world.tell(first, vec![world.take(first, &[(sku, 1)])]).await;
    assert_eq!(world.kinds(first).await, ["stock.reserved", "stock.take_refused"]);
    assert_eq!(world.level(sku).await, [0, 0, 0, 1]);
    world.tell(first, vec![release(first)]).await;
    world.audit().await;
}

// S9
#[tokio::test]
async fn an_order_of_both_policies_holds_and_frees_both_parts() {
    let world = World::new().await;
    let at_order = skus(&world, StockPolicy::ReserveOnOrder, &[2]).await[0];
    let at_payment = skus(&world, StockPolicy::DeductOnPayment, &[2]).await[0];
    for (end, levels) in [(release as fn(OrderId) -> Message, [2, 0, 2, 0]), (commit, [1, 0, 1, 1])] {
        let of = order();
        let (reserve, check_only) = (lines(1, &[(at_order, 1)]), lines(2, &[(at_payment, 1)]));
        let take =
            Message::StockTake(contracts::messages::StockTake { order_id: of, lines: check_only.clone(), expires_at: world.later() });
        world.tell(of, vec![Message::StockReserve(StockReserve { order_id: of, reserve, check_only, expires_at: world.later() })]).await;
        assert_eq!((world.level(at_order).await, world.level(at_payment).await), ([2, 1, 1, 0], [2, 0, 2, 0]));
        world.tell(of, vec![take]).await;
        assert_eq!(world.level(at_payment).await, [2, 1, 1, 0]);
        world.tell(of, vec![end(of)]).await;
        assert_eq!((world.level(at_order).await, world.level(at_payment).await), (levels, levels));
        world.audit().await;
    }
}

#[tokio::test]
async fn a_repeated_step_is_told_the_same_and_does_nothing() {
    for policy in POLICIES {
        for together in [true, false] {
            let world = World::new().await;
            let sku = skus(&world, policy, &[3]).await[0];
            let (of, refused) = (order(), order());
            let steps = until_held(&world, policy, of, &[(sku, 3)]);
            let twice: Vec<Message> = steps.iter().flat_map(|step| [step.clone(), step.clone()]).collect();
            tell(&world, of, twice, together).await;
            tell(&world, refused, vec![world.reserve(refused, &[(sku, 1)])], together).await;
            assert_eq!(world.level(sku).await, [3, 3, 0, 0]);
            let told = world.told(of).await;
            assert!(told.chunks(2).all(|pair| pair[0] == pair[1]) && is_refused(&told).is_none(), "{told:?}");
            tell(&world, of, vec![release(of)], together).await;
            tell(&world, refused, vec![world.reserve(refused, &[(sku, 1)])], together).await;
            let told = world.told(refused).await;
            assert_eq!((told.len(), &told[0]), (2, &told[1]), "a refusal stays one, though there is stock again");
            tell(&world, of, steps, together).await;
            assert_eq!(world.level(sku).await, [3, 0, 3, 0], "the order held before, but is undone");
            world.audit().await;
        }
    }
}

#[tokio::test]
async fn an_undo_before_its_do_leaves_a_tombstone() {
    let world = World::new().await;
    let sku = world.sku(3).await;
    for together in [true, false] {
        let of = order();
        tell(&world, of, vec![release(of), world.reserve(of, &[(sku, 1)]), world.take(of, &[(sku, 1)]), release(of)], together).await;
        assert_eq!(world.kinds(of).await, ["stock.released", "stock.refused", "stock.take_refused", "stock.released"]);
        assert_eq!(is_refused(&world.told(of).await), Some(Code::StepTimedOut));
        assert_eq!(world.level(sku).await, [3, 0, 3, 0]);
    }
    assert_eq!(world.app.sql_i64("select count(*) from stock_reservations where state='TOMBSTONE'").await, 2);
    world.audit().await;
}

/// One transaction writes one reservation and one movement a line: nothing that was only true in between.
#[tokio::test]
async fn an_order_settled_in_one_transaction_writes_its_end_only() {
    let world = World::new().await;
    let sku = world.sku(10).await;
    let of = order();
    world.tell(of, vec![world.reserve(of, &[(sku, 1), (sku, 2)]), commit(of)]).await;
    assert_eq!(world.app.sql_i64("select count(*) from stock_holds").await, 0);
    assert_eq!(world.app.sql_i64("select count(*) from stock_reservations where state='COMMITTED'").await, 1);
    assert_eq!(world.app.sql_i64("select count(*) from stock_movements where kind='SALE'").await, 2);
    world.audit().await;
}

#[tokio::test]
async fn delivered_twice_is_done_once() {
    for fold in [true, false] {
        let world = World::with(App::builder().fold(fold)).await;
        let sku = world.sku(5).await;
        for kind in ["stock.reserve", "stock.commit", "stock.release"] {
            world.app.faults.repeat("stock", kind, 1);
        }
        let of = order();
        for step in [world.reserve(of, &[(sku, 2)]), commit(of), release(of)] {
            world.tell(of, vec![step]).await;
        }
        world.app.eventually("select count(*) from stock_reservations where state='RETURNED'", 1).await;
        assert_eq!(world.level(sku).await, [5, 0, 5, 0]);
        assert_eq!(world.count("stock.reserved").await, 2);
        for kind in ["stock.reserve", "stock.commit", "stock.release"] {
            assert_eq!(world.app.faults.struck("stock", kind), 1, "{kind} was repeated");
        }
        world.audit().await;
    }
}

#[tokio::test]
async fn a_fault_in_between_leaves_nothing_behind() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    world.app.faults.fail("stock", "stock.commit", 2);
    let of = order();
    world.tell(of, vec![world.reserve(of, &[(sku, 2)]), commit(of)]).await;
    world.app.eventually("select count(*) from stock_reservations where state='COMMITTED'", 1).await;
    assert_eq!(world.app.faults.struck("stock", "stock.commit"), 2);
    assert_eq!(world.level(sku).await, [3, 0, 3, 2]);
    world.audit().await;
}

#[tokio::test]
async fn holds_survive_a_restart() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    world.tell(of, vec![world.reserve(of, &[(sku, 2)])]).await;
    let World { app, store_id, seller_id } = world;
    let store = contracts::calls::StoreCard { store_id, name: "Cellar".into(), seller_id: Some(seller_id) };
    let app = app.restart(|kit| crate::world::services(kit, store.clone())).await;
    let world = World { app, store_id, seller_id };
    assert_eq!(world.level(sku).await, [5, 2, 3, 0]);
    world.tell(of, vec![commit(of)]).await;
    assert_eq!(world.level(sku).await, [3, 0, 3, 2]);
    world.audit().await;
}
