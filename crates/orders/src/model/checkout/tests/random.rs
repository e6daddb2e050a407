//! Random tests with arbitrary participants: any answer may come at any time, and the invariants still hold.

use super::*;

#[derive(Clone, Debug)]
enum RandomAction {
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

fn any_action() -> impl Strategy<Value = RandomAction> {
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
        8 => step().prop_map(RandomAction::Done),
        1 => step().prop_map(RandomAction::Refused),
        4 => step().prop_map(RandomAction::Undone),
        3 => any::<bool>().prop_map(RandomAction::Approved),
        2 => any::<bool>().prop_map(RandomAction::Declined),
        3 => Just(RandomAction::Pay),
        1 => Just(RandomAction::Cancel),
        2 => prop::sample::select(vec![1, 29, 31, 300, 601]).prop_map(|seconds| RandomAction::AdvanceClock(Duration::from_secs(seconds))),
        1 => prop::sample::select(OrderState::ALL.to_vec()).prop_map(RandomAction::Advance),
        1 => Just(RandomAction::Confirm),
    ]
}

struct RandomRun {
    checkout: Checkout,
    now: Timestamp,
    attempts: u128,
    emitted: Vec<&'static str>,
}

impl RandomRun {
    fn apply(&mut self, action: &RandomAction) {
        let RandomRun { checkout, now, attempts, .. } = self;
        let now_is = *now;
        let attempt = |current: &bool| payment(if *current { *attempts } else { attempts.saturating_sub(1) }).id;
        match action {
            // The answer of the payment step is an approval or a refusal.
            RandomAction::Done(SagaStep::Payment) => checkout.payment_approved(attempt(&true), now_is),
            RandomAction::Done(step) => checkout.step_done(*step, now_is),
            RandomAction::Refused(SagaStep::Payment) => checkout.payment_failed(attempt(&true), reason_for(Code::PaymentFailed), now_is),
            RandomAction::Refused(step) => checkout.step_refused(*step, reason_for(Code::OutOfStock), now_is),
            RandomAction::Undone(step) => checkout.step_undone(*step, now_is),
            RandomAction::Approved(current) => checkout.payment_approved(attempt(current), now_is),
            RandomAction::Declined(current) => checkout.payment_failed(attempt(current), reason_for(Code::InsufficientFunds), now_is),
            RandomAction::Pay => {
                let before = checkout.order.state;
                let paid = checkout.pay(payment(*attempts + 1), now_is);
                assert!(paid.is_err() || before == OrderState::AwaitingPayment);
                *attempts += u128::from(paid.is_ok());
            }
            RandomAction::Cancel => {
                let before = checkout.order.state;
                if let Ok(happened) = checkout.cancel("on a whim", now_is) {
                    let allowed = [OrderState::Pending, OrderState::AwaitingPayment, OrderState::Paid, OrderState::Preparing];
                    assert!(allowed.contains(&before) || (!happened && [OrderState::Cancelling, OrderState::Cancelled].contains(&before)));
                }
            }
            RandomAction::AdvanceClock(time) => {
                *now = now.after(*time);
                checkout.on_deadline(*now);
            }
            RandomAction::Advance(to) => {
                let _ = checkout.advance(*to, now_is);
            }
            RandomAction::Confirm => {
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
