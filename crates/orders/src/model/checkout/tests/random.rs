//! Whatever comes, in whatever order: the rules hold. Here participants may say anything at any time.

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Done(Step),
    Refused(Step),
    Undone(Step),
    /// Of the running payment, or of one before it.
    Approved(bool),
    Declined(bool),
    Pay,
    Cancel,
    Pass(Duration),
    Advance(State),
    Confirm,
}

fn act() -> impl Strategy<Value = Act> {
    let step = || prop::sample::select(vec![Step::StockReserve, Step::CouponHold, Step::PointsHold, Step::StockTake, Step::Payment]);
    prop_oneof![
        8 => step().prop_map(Act::Done),
        1 => step().prop_map(Act::Refused),
        4 => step().prop_map(Act::Undone),
        3 => any::<bool>().prop_map(Act::Approved),
        2 => any::<bool>().prop_map(Act::Declined),
        3 => Just(Act::Pay),
        1 => Just(Act::Cancel),
        2 => prop::sample::select(vec![1, 29, 31, 300, 601]).prop_map(|seconds| Act::Pass(Duration::from_secs(seconds))),
        1 => prop::sample::select(State::ALL.to_vec()).prop_map(Act::Advance),
        1 => Just(Act::Confirm),
    ]
}

struct Run {
    checkout: Checkout,
    now: Timestamp,
    attempts: u128,
    said: Vec<&'static str>,
}

impl Run {
    fn apply(&mut self, act: &Act) {
        let Run { checkout, now, attempts, .. } = self;
        let now_is = *now;
        let attempt = |current: &bool| payment(if *current { *attempts } else { attempts.saturating_sub(1) }).id;
        match act {
            // Answers of a payment are approvals; the others are plain.
            Act::Done(Step::Payment) => checkout.payment_approved(attempt(&true), now_is),
            Act::Done(step) => checkout.step_done(*step, now_is),
            Act::Refused(Step::Payment) => checkout.payment_failed(attempt(&true), no(Code::PaymentFailed), now_is),
            Act::Refused(step) => checkout.step_refused(*step, no(Code::OutOfStock), now_is),
            Act::Undone(step) => checkout.step_undone(*step, now_is),
            Act::Approved(current) => checkout.payment_approved(attempt(current), now_is),
            Act::Declined(current) => checkout.payment_failed(attempt(current), no(Code::InsufficientFunds), now_is),
            Act::Pay => {
                let before = checkout.order.state;
                let paid = checkout.pay(payment(*attempts + 1), now_is);
                assert!(paid.is_err() || before == State::AwaitingPayment);
                *attempts += u128::from(paid.is_ok());
            }
            Act::Cancel => {
                let before = checkout.order.state;
                if let Ok(happened) = checkout.cancel("on a whim", now_is) {
                    let allowed = [State::Pending, State::AwaitingPayment, State::Paid, State::Preparing];
                    assert!(allowed.contains(&before) || (!happened && [State::Cancelling, State::Cancelled].contains(&before)));
                }
            }
            Act::Pass(time) => {
                *now = now.after(*time);
                checkout.fall_due(*now);
            }
            Act::Advance(to) => {
                let _ = checkout.advance(*to, now_is);
            }
            Act::Confirm => {
                let _ = checkout.confirm(now_is);
            }
        }
        self.said.extend(hear(&mut self.checkout));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    // I-O8, I-O10, I-O11, I-O12
    #[test]
    fn the_rules_hold_whatever_is_said(shape in Shape::any(), acts in prop::collection::vec(act(), 0..80)) {
        let mut run = Run { checkout: shape.place(), now: NOW, attempts: 1, said: Vec::new() };
        run.said.extend(hear(&mut run.checkout));
        for act in &acts {
            let before = run.checkout.clone();
            let heard = run.said.len();
            run.apply(act);
            check(&run.checkout, &run.said);
            let over = [State::Failed, State::Expired, State::Cancelled, State::Confirmed].contains(&before.order.state);
            if over {
                prop_assert_eq!(&run.checkout.order, &before.order);
                prop_assert_eq!(run.said.len(), heard);
            }
            // What changed is what will be written: nothing may change without being marked.
            prop_assert!(run.checkout.is_changed);
        }
    }

    /// A change of the order that is not marked would not be stored.
    #[test]
    fn every_change_is_marked(shape in Shape::any(), acts in prop::collection::vec(act(), 0..60)) {
        let mut run = Run { checkout: shape.place(), now: NOW, attempts: 1, said: Vec::new() };
        for act in &acts {
            run.checkout.is_changed = false;
            let before = run.checkout.order.clone();
            run.apply(act);
            prop_assert_eq!(run.checkout.is_changed, run.checkout.order != before, "{:?} in {:?}", act, before.state);
        }
    }
}
