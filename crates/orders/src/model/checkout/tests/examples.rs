//! Tests of the checkout rules, by example.

use super::*;

/// Answers the running steps in order, excluding `until`.
fn answer_steps_until(checkout: &mut Checkout, until: SagaStep) {
    while let Some(step) = checkout.current_step().filter(|step| *step != until && *step != SagaStep::AwaitPayment) {
        checkout.step_done(step, NOW);
    }
}

fn paid(shape: OrderShape) -> Checkout {
    let mut checkout = shape.place();
    answer_steps_until(&mut checkout, SagaStep::Payment);
    if !shape.inline {
        checkout.pay(payment(1), NOW).expect("it can be paid");
        answer_steps_until(&mut checkout, SagaStep::Payment);
    }
    checkout.payment_approved(payment(1).id, NOW);
    assert_eq!(checkout.order.state, OrderState::Paid);
    checkout
}

#[test]
fn the_transitions_are_those_of_the_specification() {
    let mut ours: Vec<(&str, &str)> = OrderState::TRANSITIONS.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let mut theirs = SPECIFIED_TRANSITIONS.to_vec();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

// G1
#[test]
fn steps_run_in_order_and_payment_makes_them_final() {
    let mut checkout = OrderShape::FULL.place();
    let mut emitted = take_emitted(&mut checkout);
    for step in [SagaStep::StockReserve, SagaStep::CouponHold, SagaStep::PointsHold, SagaStep::StockTake] {
        checkout.step_done(step, NOW);
        emitted.extend(take_emitted(&mut checkout));
    }
    assert_eq!(emitted, ["stock.reserve", "coupon.hold", "points.hold", "stock.take", "payment.request"]);
    assert_eq!(checkout.order.state, OrderState::Paying);
    checkout.payment_approved(payment(1).id, NOW);
    assert_eq!(take_emitted(&mut checkout), ["stock.commit", "coupon.use", "points.use", "order.paid"]);
    assert!(checkout.is_at_rest());
}

#[test]
fn requests_carry_lines_amounts_and_expiry() {
    let mut checkout = OrderShape::FULL.place();
    answer_steps_until(&mut checkout, SagaStep::Payment);
    let emitted = std::mem::take(&mut checkout.outgoing);
    let margin = checkout.order.expires_at;
    let [
        Message::StockReserve(reserve),
        Message::CouponHold(hold),
        Message::PointsHold(points),
        Message::StockTake(take),
        Message::PaymentRequest(pay),
    ] = emitted.as_slice()
    else {
        panic!("{emitted:?}")
    };
    let numbers = |lines: &[contracts::messages::StockLine]| lines.iter().map(|line| (line.line_no, line.quantity)).collect::<Vec<_>>();
    assert_eq!((numbers(&reserve.reserve), numbers(&reserve.check_only), numbers(&take.lines)), (vec![(1, 1)], vec![(2, 2)], vec![(2, 2)]));
    assert!(reserve.expires_at > margin && take.expires_at > margin && hold.expires_at > margin && points.expires_at > margin);
    assert_eq!((hold.coupons[0].base, hold.coupons[0].discount, points.amount), (Won(5_000), Won(1_000), Won(500)));
    assert_eq!((pay.amount, pay.payment_id), (Won(13_500), payment(1).id));
}

// G1
#[test]
fn a_refused_step_undoes_the_earlier_steps_in_reverse() {
    let full = [
        (SagaStep::StockReserve, vec![]),
        (SagaStep::CouponHold, vec!["stock.release"]),
        (SagaStep::PointsHold, vec!["coupon.unhold", "stock.release"]),
        (SagaStep::StockTake, vec!["points.unhold", "coupon.unhold", "stock.release"]),
    ];
    for (step, undos) in full {
        let mut checkout = OrderShape::FULL.place();
        answer_steps_until(&mut checkout, step);
        take_emitted(&mut checkout);
        checkout.step_refused(step, reason_for(Code::OutOfStock), NOW);
        let mut emitted = take_emitted(&mut checkout);
        for back in [SagaStep::PointsHold, SagaStep::CouponHold, SagaStep::StockReserve] {
            checkout.step_undone(back, NOW);
            emitted.extend(take_emitted(&mut checkout));
        }
        assert_eq!(emitted, [undos, vec!["order.failed"]].concat(), "{step:?}");
        assert_eq!((checkout.order.state, checkout.order.reason.clone()), (OrderState::Failed, Some(reason_for(Code::OutOfStock))));
    }
}

// G4: the answer of a timed-out step arrives late.
#[test]
fn a_silent_step_is_undone_and_its_late_answer_ignored() {
    let mut checkout = OrderShape::FULL.place();
    answer_steps_until(&mut checkout, SagaStep::CouponHold);
    take_emitted(&mut checkout);
    checkout.on_deadline(NOW.after(STEP_DEADLINE).before(Duration::from_micros(1)));
    assert_eq!(take_emitted(&mut checkout), [""; 0]);
    let late = NOW.after(STEP_DEADLINE);
    checkout.on_deadline(late);
    assert_eq!(take_emitted(&mut checkout), ["coupon.unhold"]);
    checkout.step_done(SagaStep::CouponHold, late);
    checkout.step_refused(SagaStep::CouponHold, reason_for(Code::CouponUsed), late);
    assert_eq!(take_emitted(&mut checkout), [""; 0]);
    checkout.step_undone(SagaStep::CouponHold, late);
    checkout.step_undone(SagaStep::StockReserve, late);
    assert_eq!(take_emitted(&mut checkout), ["stock.release", "order.failed"]);
    assert_eq!(checkout.order.reason.as_ref().and_then(|reason| reason.code), Some(Code::StepTimedOut));
}

#[test]
fn an_unanswered_undo_is_sent_again() {
    let mut checkout = OrderShape::FULL.place();
    answer_steps_until(&mut checkout, SagaStep::CouponHold);
    checkout.step_refused(SagaStep::CouponHold, reason_for(Code::CouponUsed), NOW);
    take_emitted(&mut checkout);
    // Finding 18: after 30 seconds, then after one more minute, two, and so on.
    for deadlines in [1, 3, 7] {
        checkout.on_deadline(NOW.after(STEP_DEADLINE * deadlines));
        assert_eq!(take_emitted(&mut checkout), ["stock.release"]);
    }
    checkout.step_undone(SagaStep::StockReserve, NOW);
    assert_eq!(checkout.order.state, OrderState::Failed);
}

// O7, decision 17
#[test]
fn an_order_is_paid_before_its_deadline_or_expires_once() {
    let mut checkout = OrderShape::PLAIN.place();
    answer_steps_until(&mut checkout, SagaStep::AwaitPayment);
    let deadline = checkout.order.expires_at;
    assert_eq!(checkout.order.due_at, Some(deadline));
    let mut paying = checkout.clone();
    paying.pay(payment(1), deadline.before(Duration::from_micros(1))).expect("the last moment counts");
    paying.on_deadline(deadline.after(UNPAID));
    assert_eq!((paying.order.state, paying.order.due_at), (OrderState::Paying, None));

    take_emitted(&mut checkout);
    assert_eq!(checkout.pay(payment(1), deadline).expect_err("too late").code, Code::OrderExpired);
    checkout.on_deadline(deadline);
    checkout.on_deadline(deadline);
    assert_eq!(take_emitted(&mut checkout), ["stock.release"]);
    assert_eq!(checkout.pay(payment(1), deadline).expect_err("too late").code, Code::OrderExpired);
    checkout.step_undone(SagaStep::StockReserve, deadline);
    checkout.on_deadline(deadline.after(UNPAID));
    assert_eq!((take_emitted(&mut checkout), checkout.order.state), (vec!["order.expired"], OrderState::Expired));
    assert_eq!(checkout.pay(payment(1), deadline).expect_err("too late").code, Code::OrderExpired);
}

// Y2
#[test]
fn a_refused_payment_is_retried_and_only_the_last_counts() {
    let mut checkout = OrderShape { inline: false, ..OrderShape::FULL }.place();
    answer_steps_until(&mut checkout, SagaStep::AwaitPayment);
    checkout.pay(payment(1), NOW).expect("it awaits payment");
    assert_eq!(checkout.pay(payment(2), NOW).expect_err("one at a time").code, Code::PaymentInProgress);
    checkout.step_done(SagaStep::StockTake, NOW);
    take_emitted(&mut checkout);
    checkout.payment_failed(payment(1).id, reason_for(Code::InsufficientFunds), NOW);
    assert_eq!((checkout.order.state, take_emitted(&mut checkout)), (OrderState::AwaitingPayment, vec![]));

    checkout.pay(payment(2), NOW).expect("it may be tried again");
    assert_eq!((checkout.order.reason.clone(), take_emitted(&mut checkout)), (None, vec!["payment.request"]));
    checkout.payment_failed(payment(1).id, reason_for(Code::InsufficientFunds), NOW);
    checkout.payment_approved(payment(1).id, NOW);
    assert_eq!(checkout.order.state, OrderState::Paying);
    checkout.payment_approved(payment(2).id, NOW);
    assert_eq!(checkout.pay(payment(3), NOW).expect_err("it is paid").code, Code::AlreadyPaid);
}

#[test]
fn an_order_with_a_refused_payment_expires_completely() {
    let mut checkout = OrderShape { inline: false, ..OrderShape::FULL }.place();
    answer_steps_until(&mut checkout, SagaStep::AwaitPayment);
    checkout.pay(payment(1), NOW).expect("it awaits payment");
    checkout.step_done(SagaStep::StockTake, NOW);
    checkout.payment_failed(payment(1).id, reason_for(Code::InsufficientFunds), NOW);
    take_emitted(&mut checkout);
    let deadline = checkout.order.expires_at;
    checkout.on_deadline(deadline);
    for step in [SagaStep::PointsHold, SagaStep::CouponHold, SagaStep::StockReserve] {
        checkout.step_undone(step, deadline);
    }
    assert_eq!(take_emitted(&mut checkout), ["points.unhold", "coupon.unhold", "stock.release", "order.expired"]);
    let given_back = checkout.steps.iter().any(|step| (step.step, step.kind) == (SagaStep::StockTake, StepKind::Undo));
    assert!(given_back, "one release gives back both parts");
}

// O8, row 62
#[test]
fn only_orders_before_dispatch_and_not_paying_are_cancelled() {
    let mut checkout = paid(OrderShape::FULL);
    take_emitted(&mut checkout);
    checkout.advance(OrderState::Preparing, NOW).expect("it is paid");
    assert!(checkout.clone().cancel("changed my mind", NOW).expect("not dispatched yet"));
    checkout.advance(OrderState::Shipping, NOW).expect("it is prepared");
    for next in [OrderState::Shipping, OrderState::Delivered, OrderState::Confirmed] {
        match next {
            OrderState::Confirmed => checkout.confirm(NOW).map(|_| ()),
            next => checkout.advance(next, NOW).map(|_| ()),
        }
        .expect("it moves on");
        assert_eq!(checkout.cancel("too late", NOW).expect_err("dispatched").code, Code::IllegalTransition);
    }

    let mut paying = OrderShape { inline: true, ..OrderShape::PLAIN }.place();
    answer_steps_until(&mut paying, SagaStep::Payment);
    assert_eq!(paying.cancel("now", NOW).expect_err("being paid").code, Code::PaymentInProgress);
    assert_eq!(paying.order.state, OrderState::Paying);
}

#[test]
fn cancelling_a_paid_order_undoes_every_step_once() {
    let mut checkout = paid(OrderShape::FULL);
    take_emitted(&mut checkout);
    assert!(checkout.cancel("changed my mind", NOW).expect("it may"));
    assert!(!checkout.cancel("again", NOW).expect("it is on its way"));
    for step in [SagaStep::Payment, SagaStep::PointsHold, SagaStep::CouponHold, SagaStep::StockReserve] {
        checkout.step_undone(step, NOW);
        checkout.step_undone(step, NOW);
    }
    assert!(!checkout.cancel("again", NOW).expect("it is cancelled"));
    assert_eq!(take_emitted(&mut checkout), ["payment.cancel", "points.unhold", "coupon.unhold", "stock.release", "order.cancelled"]);
    assert_eq!(checkout.order.state, OrderState::Cancelled);
    assert_eq!(checkout.pay(payment(2), NOW).expect_err("it is over").code, Code::IllegalTransition);
}

#[test]
fn cancelling_during_a_step_undoes_that_step_too() {
    let mut checkout = OrderShape::FULL.place();
    answer_steps_until(&mut checkout, SagaStep::PointsHold);
    take_emitted(&mut checkout);
    checkout.cancel("now", NOW).expect("it may");
    checkout.step_done(SagaStep::PointsHold, NOW);
    for step in [SagaStep::PointsHold, SagaStep::CouponHold, SagaStep::StockReserve] {
        checkout.step_undone(step, NOW);
    }
    assert_eq!(take_emitted(&mut checkout), ["points.unhold", "coupon.unhold", "stock.release", "order.cancelled"]);
}

#[test]
fn an_order_being_undone_cannot_be_cancelled() {
    let mut checkout = OrderShape::FULL.place();
    answer_steps_until(&mut checkout, SagaStep::CouponHold);
    checkout.step_refused(SagaStep::CouponHold, reason_for(Code::CouponUsed), NOW);
    assert_eq!(checkout.cancel("now", NOW).expect_err("it fails already").code, Code::IllegalTransition);
    assert_eq!(checkout.pay(payment(1), NOW).expect_err("it fails already").code, Code::IllegalTransition);
}

// O5, O10
#[test]
fn a_paid_order_moves_forward_one_state_at_a_time() {
    let mut checkout = paid(OrderShape::PLAIN);
    take_emitted(&mut checkout);
    for wrong in [
        OrderState::Shipping,
        OrderState::Delivered,
        OrderState::Confirmed,
        OrderState::Cancelled,
        OrderState::Pending,
        OrderState::Expired,
    ] {
        assert_eq!(checkout.advance(wrong, NOW).expect_err("out of turn").code, Code::IllegalTransition, "{wrong:?}");
    }
    assert_eq!(checkout.confirm(NOW).expect_err("not delivered").code, Code::IllegalTransition);
    for next in [OrderState::Preparing, OrderState::Shipping, OrderState::Delivered] {
        assert!(checkout.advance(next, NOW).expect("in turn"));
        assert!(!checkout.advance(next, NOW).expect("it is there"));
    }
    assert_eq!(checkout.advance(OrderState::Preparing, NOW).expect_err("backwards").code, Code::IllegalTransition);
    assert!(checkout.confirm(NOW).expect("delivered"));
    assert!(!checkout.confirm(NOW).expect("it is there"));
    let emitted = std::mem::take(&mut checkout.outgoing);
    let [Message::OrderConfirmed(confirmed)] = emitted.as_slice() else { panic!("{emitted:?}") };
    assert_eq!(confirmed.cash_paid, checkout.order.total);
}
