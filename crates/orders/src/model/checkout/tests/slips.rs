//! The slips of a choreographed checkout, by example.

use super::*;
use contracts::messages::{Outcome, RoutingSlip, Stop, Way};

/// The slip an order sends, and nothing else.
fn sent(checkout: &mut Checkout) -> RoutingSlip {
    let said = std::mem::take(&mut checkout.outgoing);
    let [Message::OrdersSlip(slip)] = said.as_slice() else { panic!("{said:?}") };
    slip.clone()
}

fn steps(slip: &RoutingSlip) -> Vec<&'static str> {
    slip.stops.iter().map(Stop::step).collect()
}

fn all_done(mut slip: RoutingSlip) -> RoutingSlip {
    while slip.next.is_some() {
        slip.answer(Ok(()), NOW);
    }
    slip
}

// G3
#[test]
fn one_slip_places_an_order_and_the_next_one_pays_it() {
    let mut checkout = Shape { inline: false, ..Shape::FULL }.place_as(Some(0));
    let first = sent(&mut checkout);
    assert_eq!((first.run, first.next, steps(&first)), (1, Some(0), vec!["stock.reserve", "coupon.hold", "points.hold"]));
    checkout.follow(&all_done(first), NOW);
    assert_eq!((checkout.order.state, checkout.outgoing.len()), (State::AwaitingPayment, 0));
    checkout.pay(payment(1), NOW).expect("it awaits payment");
    let second = sent(&mut checkout);
    let all = vec!["stock.reserve", "coupon.hold", "points.hold", "stock.take", "payment.request"];
    assert_eq!((second.run, second.next, steps(&second), second.payable_again), (2, Some(3), all, true));
    checkout.follow(&all_done(second), NOW);
    assert_eq!(hear(&mut checkout), ["stock.commit", "coupon.use", "points.use", "order.paid"]);
}

// G3: the last slip's log tells what the others were to tell, in order; they come late and are nothing new.
#[test]
fn the_end_may_be_heard_of_first() {
    let mut checkout = Shape::FULL.place_as(Some(0));
    let mut slip = sent(&mut checkout);
    let mut passed = Vec::new();
    while slip.next.is_some() {
        slip.answer(Ok(()), NOW.after(Duration::from_secs(slip.log.len() as u64)));
        passed.push(slip.clone());
    }
    let later = NOW.after(Duration::from_secs(9));
    for slip in passed.iter().rev() {
        checkout.follow(slip, later);
        let history: Vec<(Step, u64)> = checkout.steps.iter().map(|step| (step.step, step.ended_at.since(NOW).as_secs())).collect();
        assert_eq!(
            history,
            [(Step::StockReserve, 0), (Step::CouponHold, 1), (Step::PointsHold, 2), (Step::StockTake, 3), (Step::Payment, 4)]
        );
    }
    let states: Vec<State> = checkout.events.iter().map(|event| event.to).collect();
    assert_eq!(states, [State::Pending, State::Paying, State::Paid]);
}

// G3, I-O12: given up, an order takes back whatever its slip may have reached by then.
#[test]
fn what_a_slip_may_have_reached_is_undone() {
    for cancelled in [true, false] {
        let mut checkout = Shape::FULL.place_as(Some(0));
        let forward = sent(&mut checkout);
        if cancelled {
            checkout.cancel("now", NOW).expect("it may");
        } else {
            checkout.fall_due(NOW.after(STEP_DEADLINE));
        }
        let mut back = sent(&mut checkout);
        assert_eq!((back.run, back.way, back.next, back.stops.len()), (2, Way::Back, Some(4), 5));
        checkout.follow(&all_done(forward), NOW);
        assert_eq!((checkout.order.saga_state, checkout.order.paid_at), (SagaState::Undoing, None), "an older slip changes nothing");
        // Nothing is heard of it: the same is sent again from where it is known to be, and may be answered twice.
        back.undone(NOW);
        checkout.follow(&back, NOW);
        checkout.fall_due(NOW.after(STEP_DEADLINE * 3));
        let mut again = sent(&mut checkout);
        assert_eq!((again.run, again.next.map(|next| again.stops[next].step())), (2, Some("points.hold")));
        while again.next.is_some() {
            again.undone(NOW);
        }
        checkout.follow(&again, NOW);
        checkout.follow(&again, NOW);
        assert_eq!(hear(&mut checkout), [if cancelled { "order.cancelled" } else { "order.failed" }]);
        check(&checkout, &["orders.slip", if cancelled { "order.cancelled" } else { "order.failed" }]);
    }
}

// G3, G4: a repeat of a slip that was refused further on finds everything undone; the reason is the one that turned it back.
#[test]
fn an_echo_is_not_the_reason() {
    let mut checkout = Shape::FULL.place_as(Some(0));
    let mut slip = sent(&mut checkout);
    slip.answer(Ok(()), NOW);
    let mut echo = slip.clone();
    slip.answer(Err(Code::CouponUsed.into()), NOW);
    slip.undone(NOW);
    echo.answer(Err(Code::StepTimedOut.into()), NOW);
    echo.undone(NOW);
    checkout.follow(&echo, NOW);
    assert_eq!((checkout.order.state, checkout.current_step()), (State::Pending, Some(Step::CouponHold)));
    checkout.follow(&slip, NOW);
    assert_eq!((checkout.order.state, checkout.order.reason.map(|reason| reason.code)), (State::Failed, Some(Some(Code::CouponUsed))));
}

// G3, Y2: only the running attempt's slip counts.
#[test]
fn a_slip_of_an_older_attempt_is_ignored() {
    let mut checkout = Shape { inline: false, ..Shape::PLAIN }.place_as(Some(0));
    let placed = all_done(sent(&mut checkout));
    checkout.follow(&placed, NOW);
    checkout.pay(payment(1), NOW).expect("it awaits payment");
    let mut first = sent(&mut checkout);
    first.answer(Err(Code::InsufficientFunds.into()), NOW);
    checkout.follow(&first, NOW);
    assert_eq!(checkout.order.state, State::AwaitingPayment);
    checkout.pay(payment(2), NOW).expect("it may be tried again");
    let second = sent(&mut checkout);
    assert_eq!((second.run, second.next), (3, Some(1)));
    checkout.follow(&first, NOW);
    assert_eq!(checkout.order.state, State::Paying);
    assert!(first.log.iter().any(|visit| matches!(visit.outcome, Outcome::Refused(_))));
    checkout.follow(&all_done(second), NOW);
    assert_eq!(checkout.order.state, State::Paid);
}
