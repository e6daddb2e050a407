//! How a checkout among participants that keep their word ends, however it is led.

use super::*;

/// What is left with stock, coupons, the wallet and payments, in this order.
pub struct Books<'a> {
    /// Steps whose effect is there; for payments: captured.
    pub holds: [&'a [Step]; 4],
    /// What the first three hold is sold, used, spent.
    pub made_final: [bool; 3],
}

/// A checkout with its participants.
pub trait Course: Sized {
    type Act;
    const PAY: Self::Act;
    const CANCEL: Self::Act;

    fn checkout(&self) -> &Checkout;
    fn books(&self) -> Books<'_>;
    fn apply(&mut self, act: &Self::Act);
    fn pass(&mut self, time: Duration);
    /// Lets everything arrive, and the clock run while someone is waited for.
    fn settle(&mut self);

    fn check_books(&self) {
        all_or_nothing(self.checkout(), &self.books());
    }

    /// When everyone answers in the end, it is all or nothing.
    fn ends_all_or_nothing(mut self, acts: &[Self::Act]) {
        acts.iter().for_each(|act| self.apply(act));
        self.settle();
        self.check_books();
        if self.checkout().order.state == State::AwaitingPayment {
            self.pass(UNPAID);
            self.settle();
            self.check_books();
            assert_eq!(self.checkout().order.state, State::Expired);
        }
    }

    /// Whatever is paid can be taken back whole.
    fn can_be_cancelled_whole(mut self, shape: Shape, acts: &[Self::Act]) {
        self.settle();
        if !shape.inline {
            self.apply(&Self::PAY);
            self.settle();
        }
        assert_eq!(self.checkout().order.state, State::Paid);
        self.check_books();
        self.apply(&Self::CANCEL);
        acts.iter().for_each(|act| self.apply(act));
        self.settle();
        assert_eq!(self.checkout().order.state, State::Cancelled);
        self.check_books();
    }
}

/// The books agree with the state in which the order rests.
pub fn all_or_nothing(checkout: &Checkout, books: &Books<'_>) {
    let order = &checkout.order;
    let expected = |step: Step| order.itinerary.contains(&step);
    let held = books.holds.map(|steps| !steps.is_empty());
    let wanted = [true, expected(Step::CouponHold), expected(Step::PointsHold)];
    match order.state {
        State::Paid => {
            assert_eq!((&held[..3], held[3], books.made_final), (&wanted[..], true, wanted));
            assert_eq!(books.holds[0].contains(&Step::StockTake), expected(Step::StockTake));
        }
        State::AwaitingPayment => assert_eq!((&held[..3], held[3], books.made_final), (&wanted[..], false, [false; 3])),
        State::Failed | State::Expired | State::Cancelled => {
            assert_eq!((held, books.made_final), ([false; 4], [false; 3]), "something is left behind by {:?}", order.state);
        }
        state => panic!("{state:?} is not a place to rest"),
    }
    assert!(books.holds[3].len() <= 1, "charged twice");
}
