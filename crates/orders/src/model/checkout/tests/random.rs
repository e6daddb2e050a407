//! Random tests with arbitrary participants: any answer may come at any time, and the invariants still hold.

use super::*;

#[derive(Clone, Debug)]
enum Action {
    Done(SagaStep),
    Refused(SagaStep),
    Undone(SagaStep),
    /// An approval of the running payment (`true`) or of an earlier one.
    Approved(bool),
    /// A refusal of the running payment (`true`) or of an earlier one.
    Declined(bool),
    Pay,
    Cancel,
    AdvanceClock(Duration),
    Advance(OrderState),
    Confirm,
}

fn any_action() -> impl Strategy<Value = Action> {
    let step = || {
        prop::sample::select(vec![
            SagaStep::StockReserve,
            SagaStep::CouponHold,
            SagaStep::PointsHold,
            SagaStep::StockTake,
            SagaStep::Payment,
        ])
    };
    prop_oneof![
        8 => step().prop_map(Action::Done),
        1 => step().prop_map(Action::Refused),
        4 => step().prop_map(Action::Undone),
        3 => any::<bool>().prop_map(Action::Approved),
        2 => any::<bool>().prop_map(Action::Declined),
        3 => Just(Action::Pay),
        1 => Just(Action::Cancel),
        2 => prop::sample::select(vec![1, 29, 31, 300, 601]).prop_map(|seconds| Action::AdvanceClock(Duration::from_secs(seconds))),
        1 => prop::sample::select(OrderState::ALL.to_vec()).prop_map(Action::Advance),
        1 => Just(Action::Confirm),
    ]
}

struct RandomRun {
    checkout: Checkout,
    now: Timestamp,
    attempts: u128,
    emitted: Vec<&'static str>,
}

impl RandomRun {
    fn apply(&mut self, action: &Action) {
        let RandomRun { checkout, now, attempts, .. } = self;
        let now_is = *now;
        let attempt = |current: &bool| payment(if *current { *attempts } else { attempts.saturating_sub(1) }).id;
        match action {
            // The answer of the payment step is an approval or a refusal.
            Action::Done(SagaStep::Payment) => checkout.payment_approved(attempt(&true), now_is),
            Action::Done(step) => checkout.step_done(*step, now_is),
            Action::Refused(SagaStep::Payment) => checkout.payment_failed(attempt(&true), reason_for(Code::PaymentFailed), now_is),
            Action::Refused(step) => checkout.step_refused(*step, reason_for(Code::OutOfStock), now_is),
            Action::Undone(step) => checkout.step_undone(*step, now_is),
            Action::Approved(current) => checkout.payment_approved(attempt(current), now_is),
            Action::Declined(current) => checkout.payment_failed(attempt(current), reason_for(Code::InsufficientFunds), now_is),
            Action::Pay => {
                let before = checkout.order.state;
                let paid = checkout.pay(payment(*attempts + 1), now_is);
                assert!(paid.is_err() || before == OrderState::AwaitingPayment);
                *attempts += u128::from(paid.is_ok());
            }
            Action::Cancel => {
                let before = checkout.order.state;
                if let Ok(happened) = checkout.cancel("on a whim", now_is) {
                    let allowed = [OrderState::Pending, OrderState::AwaitingPayment, OrderState::Paid, OrderState::Preparing];
                    assert!(allowed.contains(&before) || (!happened && [OrderState::Cancelling, OrderState::Cancelled].contains(&before)));
                }
            }
            Action::AdvanceClock(time) => {
                *now = now.after(*time);
                checkout.on_deadline(*now);
            }
            Action::Advance(to) => {
                let _ = checkout.advance(*to, now_is);
            }
            Action::Confirm => {
                let _ = checkout.confirm(now_is);
            }
        }
        self.emitted.extend(take_emitted(&mut self.checkout));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    // I-O8, I-O10, I-O11, I-O12
    #[test]
    fn the_invariants_hold_for_any_answers(shape in OrderShape::any(), actions in prop::collection::vec(any_action(), 0..80)) {
        let mut run = RandomRun { checkout: shape.place(), now: NOW, attempts: 1, emitted: Vec::new() };
        run.emitted.extend(take_emitted(&mut run.checkout));
        for action in &actions {
            let before = run.checkout.clone();
            let emitted_before = run.emitted.len();
            run.apply(action);
            check(&run.checkout, &run.emitted);
            let over = [OrderState::Failed, OrderState::Expired, OrderState::Cancelled, OrderState::Confirmed].contains(&before.order.state);
            if over {
                prop_assert_eq!(&run.checkout.order, &before.order);
                prop_assert_eq!(run.emitted.len(), emitted_before);
            }
            // A new order stays marked as changed, so that it is written.
            prop_assert!(run.checkout.is_changed);
        }
    }

    // An unmarked change of the order would not be stored.
    #[test]
    fn every_change_is_marked(shape in OrderShape::any(), actions in prop::collection::vec(any_action(), 0..60)) {
        let mut run = RandomRun { checkout: shape.place(), now: NOW, attempts: 1, emitted: Vec::new() };
        for action in &actions {
            run.checkout.is_changed = false;
            let before = run.checkout.order.clone();
            run.apply(action);
            prop_assert_eq!(run.checkout.is_changed, run.checkout.order != before, "{:?} in {:?}", action, before.state);
        }
    }
}
