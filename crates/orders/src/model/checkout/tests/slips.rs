//! Tests of the slips of a choreographed checkout, by example.

use super::*;
use contracts::messages::{Direction, RoutingSlip, StepOutcome};

/// The slip that the order sends. Panics when it sends anything else.
fn sent_slip(checkout: &mut Checkout) -> RoutingSlip {
    let emitted = std::mem::take(&mut checkout.outgoing);
    let [Message::OrdersSlip(slip)] = emitted.as_slice() else { panic!("{emitted:?}") };
    slip.clone()
}

fn steps(slip: &RoutingSlip) -> Vec<&'static str> {
    slip.stops.iter().map(|step| step.step().as_str()).collect()
}

fn all_done(mut slip: RoutingSlip) -> RoutingSlip {
    while slip.next.is_some() {
        slip.record_result(Ok(()), NOW);
    }
    slip
}

// G3
#[test]
fn one_slip_places_an_order_and_the_next_pays_it() {
    let mut checkout = OrderShape { inline: false, ..OrderShape::FULL }.place_in_mode(Some(0));
    let first = sent_slip(&mut checkout);
    assert_eq!((first.run, first.next, steps(&first)), (1, Some(0), vec!["stock.reserve", "coupon.hold", "points.hold"]));
    checkout.apply_slip(&all_done(first), NOW);
    assert_eq!((checkout.order.state, checkout.outgoing.len()), (OrderState::AwaitingPayment, 0));
    checkout.pay(payment(1), NOW).expect("it awaits payment");
    let second = sent_slip(&mut checkout);
    let all = vec!["stock.reserve", "coupon.hold", "points.hold", "stock.take", "payment.request"];
    assert_eq!((second.run, second.next, steps(&second), second.payable_again), (2, Some(3), all, true));
    checkout.apply_slip(&all_done(second), NOW);
    assert_eq!(take_emitted(&mut checkout), ["stock.commit", "coupon.use", "points.use", "order.paid"]);
}

// G3: the log of the last slip contains those of the earlier slips, which arrive late and change nothing.
#[test]
fn the_last_slip_may_arrive_first() {
    let mut checkout = OrderShape::FULL.place_in_mode(Some(0));
    let mut slip = sent_slip(&mut checkout);
    let mut passed_on = Vec::new();
    while slip.next.is_some() {
        slip.record_result(Ok(()), NOW.after(Duration::from_secs(slip.log.len() as u64)));
        passed_on.push(slip.clone());
    }
    let later = NOW.after(Duration::from_secs(9));
    for slip in passed_on.iter().rev() {
        checkout.apply_slip(slip, later);
        let history: Vec<(SagaStep, u64)> = checkout.steps.iter().map(|step| (step.step, step.ended_at.since(NOW).as_secs())).collect();
        assert_eq!(
            history,
            [
                (SagaStep::StockReserve, 0),
                (SagaStep::CouponHold, 1),
                (SagaStep::PointsHold, 2),
                (SagaStep::StockTake, 3),
                (SagaStep::Payment, 4)
            ]
        );
    }
    let states: Vec<OrderState> = checkout.events.iter().map(|event| event.to).collect();
    assert_eq!(states, [OrderState::Pending, OrderState::Paying, OrderState::Paid]);
}

// G3, I-O12: an order that gives up undoes every step that its slip may have reached.
#[test]
fn all_steps_a_slip_may_have_reached_are_undone() {
    for cancelled in [true, false] {
        let mut checkout = OrderShape::FULL.place_in_mode(Some(0));
        let forward = sent_slip(&mut checkout);
        if cancelled {
            checkout.cancel("now", NOW).expect("it may");
        } else {
            checkout.on_deadline(NOW.after(STEP_DEADLINE));
        }
        let mut back = sent_slip(&mut checkout);
        assert_eq!((back.run, back.way, back.next, back.stops.len()), (2, Direction::Back, Some(4), 5));
        checkout.apply_slip(&all_done(forward), NOW);
        assert_eq!((checkout.order.saga_state, checkout.order.paid_at), (SagaState::Undoing, None), "an older slip changes nothing");
        // The undo slip is not answered in time: it is sent again from the current step, and may be answered twice.
        back.record_undone(NOW);
        checkout.apply_slip(&back, NOW);
        checkout.on_deadline(NOW.after(STEP_DEADLINE * 3));
        let mut again = sent_slip(&mut checkout);
        assert_eq!((again.run, again.next.map(|next| again.stops[next].step().as_str())), (2, Some("points.hold")));
        while again.next.is_some() {
            again.record_undone(NOW);
        }
        checkout.apply_slip(&again, NOW);
        checkout.apply_slip(&again, NOW);
        assert_eq!(take_emitted(&mut checkout), [if cancelled { "order.cancelled" } else { "order.failed" }]);
        check(&checkout, &["orders.slip", if cancelled { "order.cancelled" } else { "order.failed" }]);
    }
}

// G3, G4: a repeated slip meets tombstones after a later refusal. The reason stays that refusal.
#[test]
fn the_echo_of_a_refusal_is_not_the_reason() {
    let mut checkout = OrderShape::FULL.place_in_mode(Some(0));
    let mut slip = sent_slip(&mut checkout);
    slip.record_result(Ok(()), NOW);
    let mut echo = slip.clone();
    slip.record_result(Err(Code::CouponUsed.into()), NOW);
    slip.record_undone(NOW);
    echo.record_result(Err(Code::StepTimedOut.into()), NOW);
    echo.record_undone(NOW);
    checkout.apply_slip(&echo, NOW);
    assert_eq!((checkout.order.state, checkout.current_step()), (OrderState::Pending, Some(SagaStep::CouponHold)));
    checkout.apply_slip(&slip, NOW);
    assert_eq!((checkout.order.state, checkout.order.reason.map(|reason| reason.code)), (OrderState::Failed, Some(Some(Code::CouponUsed))));
}

// G3, Y2: only the slip of the running attempt counts.
#[test]
fn a_slip_of_an_older_attempt_is_ignored() {
    let mut checkout = OrderShape { inline: false, ..OrderShape::PLAIN }.place_in_mode(Some(0));
    let placed = all_done(sent_slip(&mut checkout));
    checkout.apply_slip(&placed, NOW);
    checkout.pay(payment(1), NOW).expect("it awaits payment");
    let mut first = sent_slip(&mut checkout);
    first.record_result(Err(Code::InsufficientFunds.into()), NOW);
    checkout.apply_slip(&first, NOW);
    assert_eq!(checkout.order.state, OrderState::AwaitingPayment);
    checkout.pay(payment(2), NOW).expect("it may be tried again");
    let second = sent_slip(&mut checkout);
    assert_eq!((second.run, second.next), (3, Some(1)));
    checkout.apply_slip(&first, NOW);
    assert_eq!(checkout.order.state, OrderState::Paying);
    assert!(first.log.iter().any(|entry| matches!(entry.outcome, StepOutcome::Refused(_))));
    checkout.apply_slip(&all_done(second), NOW);
    assert_eq!(checkout.order.state, OrderState::Paid);
}
