//! Common parts of the random tests with correct participants, in both saga modes.

use super::*;

/// Effects that exist at stock, coupons, the wallet and payments, in this order.
pub struct ParticipantHoldings<'a> {
    /// Steps whose effect exists. For payments: captured.
    pub holds: [&'a [SagaStep]; 4],
    /// The holds of stock, coupons and the wallet were made final.
    pub made_final: [bool; 3],
}

/// A checkout with simulated participants.
pub trait CheckoutSimulation: Sized {
    type Action;
    const PAY: Self::Action;
    const CANCEL: Self::Action;

    fn checkout(&self) -> &Checkout;
    fn holdings(&self) -> ParticipantHoldings<'_>;
    fn apply(&mut self, action: &Self::Action);
    fn advance_clock(&mut self, time: Duration);
    /// Delivers all messages, and advances the clock while a participant does not answer.
    fn run_to_rest(&mut self);

    fn check_holdings(&self) {
        assert_all_or_nothing(self.checkout(), &self.holdings());
    }

    /// Applies the actions, delivers everything, and asserts that all steps are done or none.
    fn assert_all_or_nothing_at_the_end(mut self, actions: &[Self::Action]) {
        actions.iter().for_each(|action| self.apply(action));
        self.run_to_rest();
        self.check_holdings();
        if self.checkout().order.state == OrderState::AwaitingPayment {
            self.advance_clock(UNPAID);
            self.run_to_rest();
            self.check_holdings();
            assert_eq!(self.checkout().order.state, OrderState::Expired);
        }
    }

    /// Pays the order, cancels it amid the actions, and asserts that no effect remains.
    fn assert_cancelling_undoes_all(mut self, shape: OrderShape, actions: &[Self::Action]) {
        self.run_to_rest();
        if !shape.inline {
            self.apply(&Self::PAY);
            self.run_to_rest();
        }
        assert_eq!(self.checkout().order.state, OrderState::Paid);
        self.check_holdings();
        self.apply(&Self::CANCEL);
        actions.iter().for_each(|action| self.apply(action));
        self.run_to_rest();
        assert_eq!(self.checkout().order.state, OrderState::Cancelled);
        self.check_holdings();
    }
}

/// Asserts that the participants' effects match the order's state at rest.
pub fn assert_all_or_nothing(checkout: &Checkout, holdings: &ParticipantHoldings<'_>) {
    let order = &checkout.order;
    let expected = |step: SagaStep| order.itinerary.contains(&step);
    let held = holdings.holds.map(|steps| !steps.is_empty());
    let wanted = [true, expected(SagaStep::CouponHold), expected(SagaStep::PointsHold)];
    match order.state {
        OrderState::Paid => {
            assert_eq!((&held[..3], held[3], holdings.made_final), (&wanted[..], true, wanted));
            assert_eq!(holdings.holds[0].contains(&SagaStep::StockTake), expected(SagaStep::StockTake));
        }
        OrderState::AwaitingPayment => assert_eq!((&held[..3], held[3], holdings.made_final), (&wanted[..], false, [false; 3])),
        OrderState::Failed | OrderState::Expired | OrderState::Cancelled => {
            assert_eq!((held, holdings.made_final), ([false; 4], [false; 3]), "effects remain in state {:?}", order.state);
        }
        state => panic!("{state:?} is not a state at rest"),
    }
    assert!(holdings.holds[3].len() <= 1, "charged twice");
}
