//! The rules of stock: by example, then by random histories after which the invariants must hold.

use super::*;
use contracts::{
    Code, OrderId, ProductId, Refusal, Sku, StoreId, Timestamp,
    messages::{SkuListed, SkusListed, StockLine, StockPolicy, StockReserve, StockTake},
};
use proptest::prelude::*;
use std::collections::HashMap;
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_000_000);
const LATER: Timestamp = Timestamp(601_000_000);

fn sku(n: u128) -> Sku {
    Sku(Uuid::from_u128(n))
}

fn order(n: u128) -> OrderId {
    OrderId(Uuid::from_u128(n))
}

fn line(line_no: u32, of: u128, quantity: u32) -> StockLine {
    StockLine { line_no, sku: sku(of), quantity }
}

fn loaded(stock: &[(u128, i64)]) -> LoadedStock {
    let mut loaded = LoadedStock::default();
    let skus = stock.iter().map(|(n, stock)| SkuListed { sku: sku(*n), stock: *stock }).collect();
    let policy = StockPolicy::ReserveOnOrder;
    loaded.list_skus(&SkusListed { product_id: ProductId(Uuid::from_u128(50)), store_id: StoreId(Uuid::from_u128(60)), policy, skus }, NOW);
    loaded
}

fn reserve(loaded: &mut LoadedStock, of: u128, lines: &[StockLine]) -> Result<(), Refusal> {
    loaded
        .reserve(&StockReserve { order_id: order(of), reserve: lines.to_vec(), check_only: vec![], expires_at: LATER })
        .expect("items are there")
}

fn check(loaded: &mut LoadedStock, of: u128, lines: &[StockLine]) -> Result<(), Refusal> {
    loaded
        .reserve(&StockReserve { order_id: order(of), reserve: vec![], check_only: lines.to_vec(), expires_at: LATER })
        .expect("items are there")
}

fn take(loaded: &mut LoadedStock, of: u128, lines: &[StockLine]) -> Result<(), Refusal> {
    loaded.take(&StockTake { order_id: order(of), lines: lines.to_vec(), expires_at: LATER }).expect("items are there")
}

fn levels(loaded: &LoadedStock, of: u128) -> (i64, i64, i64) {
    let item = loaded.items.get(sku(of)).expect("listed");
    (item.on_hand, item.reserved, item.sold)
}

fn code(result: &Result<(), Refusal>) -> Option<Code> {
    result.as_ref().err().map(|refusal| refusal.code)
}

// S1
#[test]
fn orders_hold_units_until_none_is_left() {
    let mut loaded = loaded(&[(1, 20)]);
    let refused = (1..=30).filter(|n| code(&reserve(&mut loaded, *n, &[line(1, 1, 1)])) == Some(Code::OutOfStock)).count();
    assert_eq!((refused, levels(&loaded, 1)), (10, (20, 20, 0)));
}

// S2
#[test]
fn all_lines_are_held_or_none_and_shortages_are_named() {
    let mut loaded = loaded(&[(1, 5), (2, 1)]);
    let Err(refused) = reserve(&mut loaded, 1, &[line(1, 1, 2), line(2, 2, 3), line(3, 9, 1)]) else { panic!("refused") };
    assert_eq!(refused.detail, "Not enough in stock: line 2 (3 wanted, 1 left), line 3 (1 wanted, 0 left)");
    assert_eq!((levels(&loaded, 1), levels(&loaded, 2)), ((5, 0, 0), (1, 0, 0)));
}

// S2
#[test]
fn the_same_sku_on_two_lines_adds_up() {
    let mut loaded = loaded(&[(1, 3)]);
    let Err(refused) = reserve(&mut loaded, 1, &[line(1, 1, 2), line(2, 1, 2)]) else { panic!("refused") };
    assert_eq!(refused.detail, "Not enough in stock: line 2 (2 wanted, 1 left)");
    assert_eq!(code(&reserve(&mut loaded, 2, &[line(1, 1, 2), line(2, 1, 1)])), None);
    assert_eq!(levels(&loaded, 1), (3, 3, 0));
}

#[test]
fn a_refusal_names_at_most_five_lines() {
    let mut loaded = loaded(&[(1, 0)]);
    let lines: Vec<_> = (1..=8).map(|n| line(n, 1, 1)).collect();
    let Err(refused) = reserve(&mut loaded, 1, &lines) else { panic!("refused") };
    assert!(refused.detail.ends_with("line 5 (1 wanted, 0 left) and 3 more lines"), "{}", refused.detail);
}

#[test]
fn a_line_of_quantity_zero_is_refused() {
    let mut loaded = loaded(&[(1, 3)]);
    assert_eq!(code(&reserve(&mut loaded, 1, &[line(1, 1, 0)])), Some(Code::OutOfStock));
    assert_eq!(code(&reserve(&mut loaded, 2, &[line(1, 77, 0)])), Some(Code::OutOfStock));
}

// S3
#[test]
fn on_hand_reserved_and_sold_move_together() {
    let mut loaded = loaded(&[(1, 5)]);
    reserve(&mut loaded, 1, &[line(1, 1, 2)]).expect("enough is left");
    assert_eq!(levels(&loaded, 1), (5, 2, 0));
    assert_eq!(loaded.commit(order(1), NOW), Ok(CommitOutcome::Committed));
    assert_eq!(levels(&loaded, 1), (3, 0, 2));
    assert_eq!(loaded.commit(order(1), NOW), Ok(CommitOutcome::AlreadyCommitted));
    assert_eq!(levels(&loaded, 1), (3, 0, 2));
    loaded.release(order(1), NOW).expect("items are there");
    loaded.release(order(1), NOW).expect("items are there");
    assert_eq!(levels(&loaded, 1), (5, 0, 0));
    assert_eq!(loaded.commit(order(1), NOW), Ok(CommitOutcome::NothingHeld(Some(ReservationState::Returned))));
    assert_eq!(levels(&loaded, 1), (5, 0, 0));
}

// S9
#[test]
fn a_checked_line_is_held_only_once_taken() {
    let mut loaded = loaded(&[(1, 1)]);
    assert_eq!((code(&check(&mut loaded, 1, &[line(1, 1, 1)])), code(&check(&mut loaded, 2, &[line(1, 1, 1)]))), (None, None));
    assert_eq!(levels(&loaded, 1), (1, 0, 0));
    assert_eq!(code(&take(&mut loaded, 2, &[line(1, 1, 1)])), None);
    assert_eq!(code(&take(&mut loaded, 1, &[line(1, 1, 1)])), Some(Code::OutOfStock));
    assert_eq!(code(&check(&mut loaded, 3, &[line(1, 1, 1)])), Some(Code::OutOfStock));
    assert_eq!(loaded.commit(order(2), NOW), Ok(CommitOutcome::Committed));
    assert_eq!(levels(&loaded, 1), (0, 0, 1));
}

// S9
#[test]
fn a_refused_take_keeps_what_was_reserved_until_release() {
    let mut loaded = loaded(&[(1, 2), (2, 0)]);
    reserve(&mut loaded, 1, &[line(1, 1, 2)]).expect("enough is left");
    assert_eq!(code(&take(&mut loaded, 1, &[line(2, 2, 1)])), Some(Code::OutOfStock));
    assert_eq!(levels(&loaded, 1), (2, 2, 0));
    loaded.release(order(1), NOW).expect("items are there");
    assert_eq!(levels(&loaded, 1), (2, 0, 0));
}

#[test]
fn a_repeat_gets_the_same_answer_after_stock_changed() {
    let mut loaded = loaded(&[(1, 1)]);
    let first = reserve(&mut loaded, 1, &[line(1, 1, 1)]);
    let refused = reserve(&mut loaded, 2, &[line(1, 1, 1)]);
    assert_eq!(reserve(&mut loaded, 1, &[line(1, 1, 1)]), first);
    loaded.release(order(1), NOW).expect("items are there");
    assert_eq!(reserve(&mut loaded, 2, &[line(1, 1, 1)]), refused);
    assert_eq!(reserve(&mut loaded, 1, &[line(1, 1, 1)]), first, "the answer is the same, but nothing is held again");
    assert_eq!(levels(&loaded, 1), (1, 0, 0));
}

#[test]
fn an_undo_before_its_step_refuses_the_late_step() {
    let mut loaded = loaded(&[(1, 1)]);
    assert_eq!(loaded.release(order(1), NOW), Ok(()));
    assert_eq!(code(&reserve(&mut loaded, 1, &[line(1, 1, 1)])), Some(Code::StepTimedOut));
    assert_eq!(code(&take(&mut loaded, 1, &[line(1, 1, 1)])), Some(Code::StepTimedOut));
    assert_eq!(loaded.commit(order(1), NOW), Ok(CommitOutcome::NothingHeld(Some(ReservationState::Tombstone))));
    assert_eq!(levels(&loaded, 1), (1, 0, 0));
}

#[test]
fn an_undo_between_two_steps_refuses_the_second() {
    let mut loaded = loaded(&[(1, 2)]);
    reserve(&mut loaded, 1, &[line(1, 1, 1)]).expect("enough is left");
    loaded.release(order(1), NOW).expect("items are there");
    assert_eq!(code(&take(&mut loaded, 1, &[line(2, 1, 1)])), Some(Code::StepTimedOut));
    assert_eq!(levels(&loaded, 1), (2, 0, 0));
}

#[test]
fn a_count_below_the_held_units_is_refused() {
    let mut loaded = loaded(&[(1, 5)]);
    reserve(&mut loaded, 1, &[line(1, 1, 3)]).expect("enough is left");
    let refused = |changed: Option<Result<StockItem, contracts::Refusal>>| changed.expect("known").expect_err("refused").code;
    assert_eq!(refused(loaded.set(sku(1), 2, None, NOW)), Code::StockBelowReserved);
    assert_eq!(refused(loaded.adjust(sku(1), -3, "broken", NOW)), Code::StockBelowReserved);
    assert_eq!(refused(loaded.adjust(sku(1), MAX_ON_HAND, "typo", NOW)), Code::AmountOutOfRange);
    assert_eq!(loaded.set(sku(1), 3, None, NOW).expect("known").expect("allowed").available(), 0);
    assert!(loaded.set(sku(2), 3, None, NOW).is_none());
}

#[test]
fn listing_again_changes_nothing() {
    let mut loaded = loaded(&[(1, 5)]);
    reserve(&mut loaded, 1, &[line(1, 1, 3)]).expect("enough is left");
    let skus = vec![SkuListed { sku: sku(1), stock: 50 }, SkuListed { sku: sku(2), stock: 7 }];
    let (product_id, store_id) = (ProductId(Uuid::from_u128(50)), StoreId(Uuid::from_u128(60)));
    loaded.list_skus(&SkusListed { product_id, store_id, policy: StockPolicy::DeductOnPayment, skus }, NOW);
    assert_eq!((levels(&loaded, 1), levels(&loaded, 2)), ((5, 3, 0), (7, 0, 0)));
}

#[derive(Clone, Debug)]
enum StockEvent {
    Reserve(u128, Vec<StockLine>, Vec<StockLine>),
    Take(u128, Vec<StockLine>),
    Release(u128),
    Commit(u128),
    Set(u128, i64),
    Adjust(u128, i64),
}

fn lines(first: u32) -> impl Strategy<Value = Vec<StockLine>> {
    prop::collection::vec((1u128..4, 1u32..5), 0..4)
        .prop_map(move |lines| (first..).zip(lines).map(|(line_no, (of, quantity))| line(line_no, of, quantity)).collect())
}

fn events() -> impl Strategy<Value = Vec<StockEvent>> {
    let event = prop_oneof![
        4 => (1u128..9, lines(1), lines(5)).prop_map(|(of, hold, check)| StockEvent::Reserve(of, hold, check)),
        2 => (1u128..9, lines(5)).prop_map(|(of, lines)| StockEvent::Take(of, lines)),
        2 => (1u128..9).prop_map(StockEvent::Release),
        3 => (1u128..9).prop_map(StockEvent::Commit),
        1 => (1u128..4, 0i64..12).prop_map(|(of, on_hand)| StockEvent::Set(of, on_hand)),
        1 => (1u128..4, -4i64..8).prop_map(|(of, delta)| StockEvent::Adjust(of, delta)),
    ];
    prop::collection::vec(event, 1..80)
}

/// Applies the event. Returns its answer, if any.
fn apply(loaded: &mut LoadedStock, event: &StockEvent) -> Option<Result<(), Refusal>> {
    match event {
        StockEvent::Reserve(of, hold, check) => {
            let (reserve, check_only) = (hold.clone(), check.clone());
            Some(loaded.reserve(&StockReserve { order_id: order(*of), reserve, check_only, expires_at: LATER }).expect("loaded"))
        }
        StockEvent::Take(of, lines) => Some(take(loaded, *of, lines)),
        StockEvent::Release(of) => loaded.release(order(*of), NOW).map(|()| None).expect("loaded"),
        StockEvent::Commit(of) => loaded.commit(order(*of), NOW).map(|_| None).expect("loaded"),
        StockEvent::Set(of, on_hand) => loaded.set(sku(*of), *on_hand, None, NOW).and(None),
        StockEvent::Adjust(of, delta) => loaded.adjust(sku(*of), *delta, "test", NOW).and(None),
    }
}

/// Checks I-S1 to I-S4 and I-S6 on all rows and movements.
fn audit(loaded: &LoadedStock) {
    let mut on_hand: HashMap<Sku, i64> = HashMap::new();
    let mut sold: HashMap<Sku, i64> = HashMap::new();
    let mut sales: HashMap<(OrderId, u32, bool), u32> = HashMap::new();
    for movement in &loaded.movements {
        let sum = on_hand.entry(movement.sku).or_default();
        *sum += movement.quantity;
        assert!(*sum >= 0, "I-S6: oversold at movement {} of {}", movement.n, movement.sku);
        if let Some((order_id, line_no)) = movement.cause {
            *sold.entry(movement.sku).or_default() -= movement.quantity;
            *sales.entry((order_id, line_no, movement.kind == MovementKind::Sale)).or_default() += 1;
        }
    }
    assert!(sales.values().all(|count| *count == 1), "I-S4: a line sold or returned twice");
    let mut held: HashMap<Sku, i64> = HashMap::new();
    for reservation in (1..9).filter_map(|of| loaded.orders.get(order(of))) {
        for line in reservation.lines.iter().filter(|line| line.state == LineState::Active) {
            assert_eq!(reservation.state, ReservationState::Held, "an ended order holds nothing");
            *held.entry(line.sku).or_default() += line.quantity;
        }
    }
    for item in (1..4).filter_map(|of| loaded.items.get(sku(of))) {
        let known = |of: &HashMap<Sku, i64>| of.get(&item.sku).copied().unwrap_or(0);
        assert!(0 <= item.reserved && item.reserved <= item.on_hand && item.sold >= 0, "I-S1: {item:?}");
        assert_eq!(known(&on_hand), item.on_hand, "I-S2");
        assert_eq!(known(&held), item.reserved, "I-S3");
        assert_eq!(known(&sold), item.sold, "sold is the sum of the movements");
        assert_eq!(loaded.movements.iter().filter(|movement| movement.sku == item.sku).count() as i64, item.moves);
    }
}

proptest! {
    // S1 S2 S3 S4 S9
    #[test]
    fn any_history_keeps_the_invariants(stock in prop::array::uniform3(0i64..10), events in events()) {
        let mut loaded = loaded(&[(1, stock[0]), (2, stock[1]), (3, stock[2])]);
        for event in &events {
            apply(&mut loaded, event);
            audit(&loaded);
        }
    }

    /// Each step is delivered twice in a row: the second delivery changes nothing and gets the same answer.
    #[test]
    fn repeats_change_nothing(events in events()) {
        let steps = events.into_iter().filter(|event| !matches!(event, StockEvent::Adjust(..)));
        let mut loaded = loaded(&[(1, 6), (2, 6), (3, 6)]);
        for event in steps {
            let first = apply(&mut loaded, &event);
            let before: Vec<_> = (1..4).map(|of| levels(&loaded, of)).collect();
            let moved = loaded.movements.len();
            prop_assert_eq!(apply(&mut loaded, &event), first);
            prop_assert_eq!((1..4).map(|of| levels(&loaded, of)).collect::<Vec<_>>(), before);
            prop_assert_eq!(loaded.movements.len(), moved);
        }
    }
}
