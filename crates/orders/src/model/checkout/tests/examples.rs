use super::*;

/// Answers the running steps, in order, up to and without `until`.
fn run_to(checkout: &mut Checkout, until: Step) {
    while let Some(step) = checkout.current_step().filter(|step| *step != until && *step != Step::AwaitPayment) {
        checkout.step_done(step, NOW);
    }
}

fn paid(shape: Shape) -> Checkout {
    let mut checkout = shape.place();
    run_to(&mut checkout, Step::Payment);
    if !shape.inline {
        checkout.pay(payment(1), NOW).expect("it can be paid");
        run_to(&mut checkout, Step::Payment);
    }
    checkout.payment_approved(payment(1).id, NOW);
    assert_eq!(checkout.order.state, State::Paid);
    checkout
}

#[test]
fn the_moves_are_those_of_the_specification() {
    let mut ours: Vec<(&str, &str)> = State::LEGAL.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let mut theirs = LEGAL.to_vec();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

// G1
#[test]
fn the_steps_come_one_after_the_other_and_the_sale_makes_them_final() {
    let mut checkout = Shape::FULL.place();
    let mut said = hear(&mut checkout);
    for step in [Step::StockReserve, Step::CouponHold, Step::PointsHold, Step::StockTake] {
        checkout.step_done(step, NOW);
        said.extend(hear(&mut checkout));
    }
    assert_eq!(said, ["stock.reserve", "coupon.hold", "points.hold", "stock.take", "payment.request"]);
    assert_eq!(checkout.order.state, State::Paying);
    checkout.payment_approved(payment(1).id, NOW);
    assert_eq!(hear(&mut checkout), ["stock.commit", "coupon.use", "points.use", "order.paid"]);
    assert!(checkout.is_at_rest());
}

#[test]
fn the_questions_carry_what_the_order_counts_on() {
    let mut checkout = Shape::FULL.place();
    run_to(&mut checkout, Step::Payment);
    let said = std::mem::take(&mut checkout.outgoing);
    let margin = checkout.order.expires_at;
    let [
        Message::StockReserve(reserve),
        Message::CouponHold(hold),
        Message::PointsHold(points),
        Message::StockTake(take),
        Message::PaymentRequest(pay),
    ] = said.as_slice()
    else {
        panic!("{said:?}")
    };
    let numbers = |lines: &[contracts::messages::StockLine]| lines.iter().map(|line| (line.line_no, line.quantity)).collect::<Vec<_>>();
    assert_eq!((numbers(&reserve.reserve), numbers(&reserve.check_only), numbers(&take.lines)), (vec![(1, 1)], vec![(2, 2)], vec![(2, 2)]));
    assert!(reserve.expires_at > margin && take.expires_at > margin && hold.expires_at > margin && points.expires_at > margin);
    assert_eq!((hold.coupons[0].base, hold.coupons[0].discount, points.amount), (Won(5_000), Won(1_000), Won(500)));
    assert_eq!((pay.amount, pay.payment_id), (Won(13_500), payment(1).id));
}

// G1
#[test]
fn a_refused_step_undoes_those_before_it_in_reverse() {
    let full = [
        (Step::StockReserve, vec![]),
        (Step::CouponHold, vec!["stock.release"]),
        (Step::PointsHold, vec!["coupon.unhold", "stock.release"]),
        (Step::StockTake, vec!["points.unhold", "coupon.unhold", "stock.release"]),
    ];
    for (step, undos) in full {
        let mut checkout = Shape::FULL.place();
        run_to(&mut checkout, step);
        hear(&mut checkout);
        checkout.step_refused(step, no(Code::OutOfStock), NOW);
        let mut said = hear(&mut checkout);
        for back in [Step::PointsHold, Step::CouponHold, Step::StockReserve] {
            checkout.step_undone(back, NOW);
            said.extend(hear(&mut checkout));
        }
        assert_eq!(said, [undos, vec!["order.failed"]].concat(), "{step:?}");
        assert_eq!((checkout.order.state, checkout.order.reason.clone()), (State::Failed, Some(no(Code::OutOfStock))));
    }
}

// G4: the answer of a step that timed out comes after all.
#[test]
fn a_silent_step_is_undone_too_and_its_late_answer_changes_nothing() {
    let mut checkout = Shape::FULL.place();
    run_to(&mut checkout, Step::CouponHold);
    hear(&mut checkout);
    checkout.fall_due(NOW.after(STEP_DEADLINE).before(Duration::from_micros(1)));
    assert_eq!(hear(&mut checkout), [""; 0]);
    let late = NOW.after(STEP_DEADLINE);
    checkout.fall_due(late);
    assert_eq!(hear(&mut checkout), ["coupon.unhold"]);
    checkout.step_done(Step::CouponHold, late);
    checkout.step_refused(Step::CouponHold, no(Code::CouponUsed), late);
    assert_eq!(hear(&mut checkout), [""; 0]);
    checkout.step_undone(Step::CouponHold, late);
    checkout.step_undone(Step::StockReserve, late);
    assert_eq!(hear(&mut checkout), ["stock.release", "order.failed"]);
    assert_eq!(checkout.order.reason.as_ref().and_then(|reason| reason.code), Some(Code::StepTimedOut));
}

#[test]
fn an_undo_that_is_not_answered_is_asked_for_again() {
    let mut checkout = Shape::FULL.place();
    run_to(&mut checkout, Step::CouponHold);
    checkout.step_refused(Step::CouponHold, no(Code::CouponUsed), NOW);
    hear(&mut checkout);
    for round in 1..=3 {
        checkout.fall_due(NOW.after(STEP_DEADLINE * round));
        assert_eq!(hear(&mut checkout), ["stock.release"]);
    }
    checkout.step_undone(Step::StockReserve, NOW);
    assert_eq!(checkout.order.state, State::Failed);
}

// O7, decision 17
#[test]
fn an_order_is_paid_before_its_deadline_or_expires_once() {
    let mut checkout = Shape::PLAIN.place();
    run_to(&mut checkout, Step::AwaitPayment);
    let deadline = checkout.order.expires_at;
    assert_eq!(checkout.order.due_at, Some(deadline));
    let mut paying = checkout.clone();
    paying.pay(payment(1), deadline.before(Duration::from_micros(1))).expect("the last moment counts");
    paying.fall_due(deadline.after(UNPAID));
    assert_eq!((paying.order.state, paying.order.due_at), (State::Paying, None));

    hear(&mut checkout);
    assert_eq!(checkout.pay(payment(1), deadline).expect_err("too late").code, Code::OrderExpired);
    checkout.fall_due(deadline);
    checkout.fall_due(deadline);
    assert_eq!(hear(&mut checkout), ["stock.release"]);
    assert_eq!(checkout.pay(payment(1), deadline).expect_err("too late").code, Code::OrderExpired);
    checkout.step_undone(Step::StockReserve, deadline);
    checkout.fall_due(deadline.after(UNPAID));
    assert_eq!((hear(&mut checkout), checkout.order.state), (vec!["order.expired"], State::Expired));
    assert_eq!(checkout.pay(payment(1), deadline).expect_err("too late").code, Code::OrderExpired);
}

// Y2
#[test]
fn a_refused_payment_may_be_tried_again_and_only_the_running_one_counts() {
    let mut checkout = Shape { inline: false, ..Shape::FULL }.place();
    run_to(&mut checkout, Step::AwaitPayment);
    checkout.pay(payment(1), NOW).expect("it awaits payment");
    assert_eq!(checkout.pay(payment(2), NOW).expect_err("one at a time").code, Code::PaymentInProgress);
    checkout.step_done(Step::StockTake, NOW);
    hear(&mut checkout);
    checkout.payment_failed(payment(1).id, no(Code::InsufficientFunds), NOW);
    assert_eq!((checkout.order.state, hear(&mut checkout)), (State::AwaitingPayment, vec![]));

    checkout.pay(payment(2), NOW).expect("it may be tried again");
    assert_eq!((checkout.order.reason.clone(), hear(&mut checkout)), (None, vec!["payment.request"]));
    checkout.payment_failed(payment(1).id, no(Code::InsufficientFunds), NOW);
    checkout.payment_approved(payment(1).id, NOW);
    assert_eq!(checkout.order.state, State::Paying);
    checkout.payment_approved(payment(2).id, NOW);
    assert_eq!(checkout.pay(payment(3), NOW).expect_err("it is paid").code, Code::AlreadyPaid);
}

#[test]
fn an_order_whose_payment_was_refused_expires_with_what_it_took() {
    let mut checkout = Shape { inline: false, ..Shape::FULL }.place();
    run_to(&mut checkout, Step::AwaitPayment);
    checkout.pay(payment(1), NOW).expect("it awaits payment");
    checkout.step_done(Step::StockTake, NOW);
    checkout.payment_failed(payment(1).id, no(Code::InsufficientFunds), NOW);
    hear(&mut checkout);
    let deadline = checkout.order.expires_at;
    checkout.fall_due(deadline);
    for step in [Step::PointsHold, Step::CouponHold, Step::StockReserve] {
        checkout.step_undone(step, deadline);
    }
    assert_eq!(hear(&mut checkout), ["points.unhold", "coupon.unhold", "stock.release", "order.expired"]);
    let given_back = checkout.steps.iter().any(|step| (step.step, step.kind) == (Step::StockTake, StepKind::Undo));
    assert!(given_back, "one release gives back both parts");
}

// O8, row 62
#[test]
fn cancelling_is_for_orders_before_dispatch_that_are_not_being_paid() {
    let mut checkout = paid(Shape::FULL);
    hear(&mut checkout);
    checkout.advance(State::Preparing, NOW).expect("it is paid");
    assert!(checkout.clone().cancel("changed my mind", NOW).expect("not dispatched yet"));
    checkout.advance(State::Shipping, NOW).expect("it is prepared");
    for next in [State::Shipping, State::Delivered, State::Confirmed] {
        match next {
            State::Confirmed => checkout.confirm(NOW).map(|_| ()),
            next => checkout.advance(next, NOW).map(|_| ()),
        }
        .expect("it moves on");
        assert_eq!(checkout.cancel("too late", NOW).expect_err("dispatched").code, Code::IllegalTransition);
    }

    let mut paying = Shape { inline: true, ..Shape::PLAIN }.place();
    run_to(&mut paying, Step::Payment);
    assert_eq!(paying.cancel("now", NOW).expect_err("being paid").code, Code::PaymentInProgress);
    assert_eq!(paying.order.state, State::Paying);
}

#[test]
fn cancelling_a_paid_order_takes_everything_back_once() {
    let mut checkout = paid(Shape::FULL);
    hear(&mut checkout);
    assert!(checkout.cancel("changed my mind", NOW).expect("it may"));
    assert!(!checkout.cancel("again", NOW).expect("it is on its way"));
    for step in [Step::Payment, Step::PointsHold, Step::CouponHold, Step::StockReserve] {
        checkout.step_undone(step, NOW);
        checkout.step_undone(step, NOW);
    }
    assert!(!checkout.cancel("again", NOW).expect("it is cancelled"));
    assert_eq!(hear(&mut checkout), ["payment.cancel", "points.unhold", "coupon.unhold", "stock.release", "order.cancelled"]);
    assert_eq!(checkout.order.state, State::Cancelled);
    assert_eq!(checkout.pay(payment(2), NOW).expect_err("it is over").code, Code::IllegalTransition);
}

#[test]
fn what_is_cancelled_while_a_step_runs_undoes_that_step_too() {
    let mut checkout = Shape::FULL.place();
    run_to(&mut checkout, Step::PointsHold);
    hear(&mut checkout);
    checkout.cancel("now", NOW).expect("it may");
    checkout.step_done(Step::PointsHold, NOW);
    for step in [Step::PointsHold, Step::CouponHold, Step::StockReserve] {
        checkout.step_undone(step, NOW);
    }
    assert_eq!(hear(&mut checkout), ["points.unhold", "coupon.unhold", "stock.release", "order.cancelled"]);
}

#[test]
fn an_order_that_is_being_undone_cannot_be_cancelled_as_well() {
    let mut checkout = Shape::FULL.place();
    run_to(&mut checkout, Step::CouponHold);
    checkout.step_refused(Step::CouponHold, no(Code::CouponUsed), NOW);
    assert_eq!(checkout.cancel("now", NOW).expect_err("it fails already").code, Code::IllegalTransition);
    assert_eq!(checkout.pay(payment(1), NOW).expect_err("it fails already").code, Code::IllegalTransition);
}

// O5, O10
#[test]
fn a_paid_order_moves_forward_one_state_at_a_time() {
    let mut checkout = paid(Shape::PLAIN);
    hear(&mut checkout);
    for wrong in [State::Shipping, State::Delivered, State::Confirmed, State::Cancelled, State::Pending, State::Expired] {
        assert_eq!(checkout.advance(wrong, NOW).expect_err("out of turn").code, Code::IllegalTransition, "{wrong:?}");
    }
    assert_eq!(checkout.confirm(NOW).expect_err("not delivered").code, Code::IllegalTransition);
    for next in [State::Preparing, State::Shipping, State::Delivered] {
        assert!(checkout.advance(next, NOW).expect("in turn"));
        assert!(!checkout.advance(next, NOW).expect("it is there"));
    }
    assert_eq!(checkout.advance(State::Preparing, NOW).expect_err("backwards").code, Code::IllegalTransition);
    assert!(checkout.confirm(NOW).expect("delivered"));
    assert!(!checkout.confirm(NOW).expect("it is there"));
    let said = std::mem::take(&mut checkout.outgoing);
    let [Message::OrderConfirmed(confirmed)] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!(confirmed.cash_paid, checkout.order.total);
}
