//! The rules by example, then by random histories: whatever happens in whatever order, the books stay exact.

use super::*;
use contracts::{
    Code, Message, OrderId, ProductId, Sku, StoreId, Timestamp,
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

fn book(stock: &[(u128, i64)]) -> Book {
    let mut book = Book::default();
    let skus = stock.iter().map(|(n, stock)| SkuListed { sku: sku(*n), stock: *stock }).collect();
    let policy = StockPolicy::ReserveOnOrder;
    book.list(&SkusListed { product_id: ProductId(Uuid::from_u128(50)), store_id: StoreId(Uuid::from_u128(60)), policy, skus }, NOW);
    book
}

fn reserve(book: &mut Book, of: u128, lines: &[StockLine]) -> Message {
    book.reserve(&StockReserve { order_id: order(of), reserve: lines.to_vec(), check_only: vec![], expires_at: LATER })
        .expect("items are there")
}

fn check(book: &mut Book, of: u128, lines: &[StockLine]) -> Message {
    book.reserve(&StockReserve { order_id: order(of), reserve: vec![], check_only: lines.to_vec(), expires_at: LATER })
        .expect("items are there")
}

fn take(book: &mut Book, of: u128, lines: &[StockLine]) -> Message {
    book.take(&StockTake { order_id: order(of), lines: lines.to_vec(), expires_at: LATER }).expect("items are there")
}

fn levels(book: &Book, of: u128) -> (i64, i64, i64) {
    let item = book.item(sku(of)).expect("listed");
    (item.on_hand, item.reserved, item.sold)
}

fn code(message: &Message) -> Option<Code> {
    match message {
        Message::StockRefused(refused) | Message::StockTakeRefused(refused) => Some(refused.code),
        _ => None,
    }
}

// S1
#[test]
fn holds_until_nothing_is_left() {
    let mut book = book(&[(1, 20)]);
    let refused = (1..=30).filter(|n| code(&reserve(&mut book, *n, &[line(1, 1, 1)])) == Some(Code::OutOfStock)).count();
    assert_eq!((refused, levels(&book, 1)), (10, (20, 20, 0)));
}

// S2
#[test]
fn all_lines_or_none_and_the_short_ones_are_named() {
    let mut book = book(&[(1, 5), (2, 1)]);
    let Message::StockRefused(refused) = reserve(&mut book, 1, &[line(1, 1, 2), line(2, 2, 3), line(3, 9, 1)]) else { panic!("refused") };
    assert_eq!(refused.detail, "Not enough in stock: line 2 (3 wanted, 1 left), line 3 (1 wanted, 0 left)");
    assert_eq!((levels(&book, 1), levels(&book, 2)), ((5, 0, 0), (1, 0, 0)));
}

// S2
#[test]
fn the_same_sku_on_two_lines_adds_up() {
    let mut book = book(&[(1, 3)]);
    let Message::StockRefused(refused) = reserve(&mut book, 1, &[line(1, 1, 2), line(2, 1, 2)]) else { panic!("refused") };
    assert_eq!(refused.detail, "Not enough in stock: line 2 (2 wanted, 1 left)");
    assert_eq!(code(&reserve(&mut book, 2, &[line(1, 1, 2), line(2, 1, 1)])), None);
    assert_eq!(levels(&book, 1), (3, 3, 0));
}

#[test]
fn a_refusal_names_at_most_five_lines() {
    let mut book = book(&[(1, 0)]);
    let lines: Vec<_> = (1..=8).map(|n| line(n, 1, 1)).collect();
    let Message::StockRefused(refused) = reserve(&mut book, 1, &lines) else { panic!("refused") };
    assert!(refused.detail.ends_with("line 5 (1 wanted, 0 left) and 3 more lines"), "{}", refused.detail);
}

#[test]
fn a_line_of_nothing_is_refused() {
    let mut book = book(&[(1, 3)]);
    assert_eq!(code(&reserve(&mut book, 1, &[line(1, 1, 0)])), Some(Code::OutOfStock));
    assert_eq!(code(&reserve(&mut book, 2, &[line(1, 77, 0)])), Some(Code::OutOfStock));
}

// S3
#[test]
fn on_hand_reserved_and_sold_move_together() {
    let mut book = book(&[(1, 5)]);
    reserve(&mut book, 1, &[line(1, 1, 2)]);
    assert_eq!(levels(&book, 1), (5, 2, 0));
    assert_eq!(book.commit(order(1), NOW), Ok(Committed::Now));
    assert_eq!(levels(&book, 1), (3, 0, 2));
    assert_eq!(book.commit(order(1), NOW), Ok(Committed::Before));
    assert_eq!(levels(&book, 1), (3, 0, 2));
    book.release(order(1), NOW).expect("items are there");
    book.release(order(1), NOW).expect("items are there");
    assert_eq!(levels(&book, 1), (5, 0, 0));
    assert_eq!(book.commit(order(1), NOW), Ok(Committed::NothingHeld(Some(State::Returned))));
    assert_eq!(levels(&book, 1), (5, 0, 0));
}

// S9
#[test]
fn what_is_only_checked_is_not_held_until_it_is_taken() {
    let mut book = book(&[(1, 1)]);
    assert_eq!((code(&check(&mut book, 1, &[line(1, 1, 1)])), code(&check(&mut book, 2, &[line(1, 1, 1)]))), (None, None));
    assert_eq!(levels(&book, 1), (1, 0, 0));
    assert_eq!(code(&take(&mut book, 2, &[line(1, 1, 1)])), None);
    assert_eq!(code(&take(&mut book, 1, &[line(1, 1, 1)])), Some(Code::OutOfStock));
    assert_eq!(code(&check(&mut book, 3, &[line(1, 1, 1)])), Some(Code::OutOfStock));
    assert_eq!(book.commit(order(2), NOW), Ok(Committed::Now));
    assert_eq!(levels(&book, 1), (0, 0, 1));
}

// S9
#[test]
fn a_refused_take_keeps_what_was_reserved_until_release() {
    let mut book = book(&[(1, 2), (2, 0)]);
    reserve(&mut book, 1, &[line(1, 1, 2)]);
    assert_eq!(code(&take(&mut book, 1, &[line(2, 2, 1)])), Some(Code::OutOfStock));
    assert_eq!(levels(&book, 1), (2, 2, 0));
    book.release(order(1), NOW).expect("items are there");
    assert_eq!(levels(&book, 1), (2, 0, 0));
}

#[test]
fn a_repeat_is_told_the_same_though_the_shelves_changed() {
    let mut book = book(&[(1, 1)]);
    let first = reserve(&mut book, 1, &[line(1, 1, 1)]);
    let refused = reserve(&mut book, 2, &[line(1, 1, 1)]);
    assert_eq!(reserve(&mut book, 1, &[line(1, 1, 1)]), first);
    book.release(order(1), NOW).expect("items are there");
    assert_eq!(reserve(&mut book, 2, &[line(1, 1, 1)]), refused);
    assert_eq!(reserve(&mut book, 1, &[line(1, 1, 1)]), first, "told the same, but nothing is held again");
    assert_eq!(levels(&book, 1), (1, 0, 0));
}

#[test]
fn an_undo_without_its_do_refuses_the_late_do() {
    let mut book = book(&[(1, 1)]);
    assert!(matches!(book.release(order(1), NOW), Ok(Message::StockReleased(_))));
    assert_eq!(code(&reserve(&mut book, 1, &[line(1, 1, 1)])), Some(Code::StepTimedOut));
    assert_eq!(code(&take(&mut book, 1, &[line(1, 1, 1)])), Some(Code::StepTimedOut));
    assert_eq!(book.commit(order(1), NOW), Ok(Committed::NothingHeld(Some(State::Tombstone))));
    assert_eq!(levels(&book, 1), (1, 0, 0));
}

#[test]
fn an_undo_between_the_steps_refuses_the_second() {
    let mut book = book(&[(1, 2)]);
    reserve(&mut book, 1, &[line(1, 1, 1)]);
    book.release(order(1), NOW).expect("items are there");
    assert_eq!(code(&take(&mut book, 1, &[line(2, 1, 1)])), Some(Code::StepTimedOut));
    assert_eq!(levels(&book, 1), (2, 0, 0));
}

#[test]
fn a_count_may_not_fall_below_what_orders_hold() {
    let mut book = book(&[(1, 5)]);
    reserve(&mut book, 1, &[line(1, 1, 3)]);
    let refused = |changed: Option<Result<Item, contracts::Refusal>>| changed.expect("known").expect_err("refused").code;
    assert_eq!(refused(book.set(sku(1), 2, NOW)), Code::StockBelowReserved);
    assert_eq!(refused(book.adjust(sku(1), -3, "broken", NOW)), Code::StockBelowReserved);
    assert_eq!(refused(book.adjust(sku(1), MAX_ON_HAND, "typo", NOW)), Code::AmountOutOfRange);
    assert_eq!(book.set(sku(1), 3, NOW).expect("known").expect("allowed").available(), 0);
    assert!(book.set(sku(2), 3, NOW).is_none());
}

#[test]
fn listing_again_changes_nothing() {
    let mut book = book(&[(1, 5)]);
    reserve(&mut book, 1, &[line(1, 1, 3)]);
    let skus = vec![SkuListed { sku: sku(1), stock: 50 }, SkuListed { sku: sku(2), stock: 7 }];
    let (product_id, store_id) = (ProductId(Uuid::from_u128(50)), StoreId(Uuid::from_u128(60)));
    book.list(&SkusListed { product_id, store_id, policy: StockPolicy::DeductOnPayment, skus }, NOW);
    assert_eq!((levels(&book, 1), levels(&book, 2)), ((5, 3, 0), (7, 0, 0)));
}

#[derive(Clone, Debug)]
enum Event {
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

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1u128..9, lines(1), lines(5)).prop_map(|(of, hold, check)| Event::Reserve(of, hold, check)),
        2 => (1u128..9, lines(5)).prop_map(|(of, lines)| Event::Take(of, lines)),
        2 => (1u128..9).prop_map(Event::Release),
        3 => (1u128..9).prop_map(Event::Commit),
        1 => (1u128..4, 0i64..12).prop_map(|(of, on_hand)| Event::Set(of, on_hand)),
        1 => (1u128..4, -4i64..8).prop_map(|(of, delta)| Event::Adjust(of, delta)),
    ];
    prop::collection::vec(event, 1..80)
}

/// What the event was answered, if anything.
fn apply(book: &mut Book, event: &Event) -> Option<Message> {
    match event {
        Event::Reserve(of, hold, check) => {
            let (reserve, check_only) = (hold.clone(), check.clone());
            Some(book.reserve(&StockReserve { order_id: order(*of), reserve, check_only, expires_at: LATER }).expect("loaded"))
        }
        Event::Take(of, lines) => Some(take(book, *of, lines)),
        Event::Release(of) => Some(book.release(order(*of), NOW).expect("loaded")),
        Event::Commit(of) => book.commit(order(*of), NOW).map(|_| None).expect("loaded"),
        Event::Set(of, on_hand) => book.set(sku(*of), *on_hand, NOW).and(None),
        Event::Adjust(of, delta) => book.adjust(sku(*of), *delta, "test", NOW).and(None),
    }
}

/// I-S1 to I-S4 and I-S6, on everything that ever happened.
fn audit(book: &Book) {
    let changes = book.changes();
    let mut on_hand: HashMap<Sku, i64> = HashMap::new();
    let mut sold: HashMap<Sku, i64> = HashMap::new();
    let mut sales: HashMap<(OrderId, u32, bool), u32> = HashMap::new();
    for movement in changes.movements {
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
    for (reservation, _) in &changes.reservations {
        for line in reservation.lines.iter().filter(|line| line.state == LineState::Active) {
            assert_eq!(reservation.state, State::Held, "an ended order holds nothing");
            *held.entry(line.sku).or_default() += line.quantity;
        }
    }
    for (item, _) in &changes.items {
        let known = |of: &HashMap<Sku, i64>| of.get(&item.sku).copied().unwrap_or(0);
        assert!(0 <= item.reserved && item.reserved <= item.on_hand && item.sold >= 0, "I-S1: {item:?}");
        assert_eq!(known(&on_hand), item.on_hand, "I-S2");
        assert_eq!(known(&held), item.reserved, "I-S3");
        assert_eq!(known(&sold), item.sold, "sold is what movements say");
        assert_eq!(changes.movements.iter().filter(|movement| movement.sku == item.sku).count() as i64, item.moves);
    }
}

proptest! {
    // S1 S2 S3 S4 S9
    #[test]
    fn any_history_keeps_the_books(stock in prop::array::uniform3(0i64..10), events in events()) {
        let mut book = book(&[(1, stock[0]), (2, stock[1]), (3, stock[2])]);
        for event in &events {
            apply(&mut book, event);
            audit(&book);
        }
    }

    /// Every step delivered twice in a row ends as if delivered once, with the same answers.
    #[test]
    fn repeats_change_nothing(events in events()) {
        let steps = events.into_iter().filter(|event| !matches!(event, Event::Adjust(..)));
        let mut book = book(&[(1, 6), (2, 6), (3, 6)]);
        for event in steps {
            let first = apply(&mut book, &event);
            let before: Vec<_> = (1..4).map(|of| levels(&book, of)).collect();
            let moved = book.changes().movements.len();
            prop_assert_eq!(apply(&mut book, &event), first);
            prop_assert_eq!((1..4).map(|of| levels(&book, of)).collect::<Vec<_>>(), before);
            prop_assert_eq!(book.changes().movements.len(), moved);
        }
    }
}
