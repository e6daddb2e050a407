//! The choreographed side of a checkout: which slip an order sends off, and what it learns from those that the participants pass on.
//!
//! A slip is ahead of what its order knows, and what it tells comes late, twice, and in any order among the participants' streams. Each
//! slip therefore carries its whole log, and is read by the same rules as an orchestrated answer: what does not belong to the step that
//! runs is ignored. An order that is given up sends a slip back over everything its last one may have reached: where that is faster, its
//! undo leaves a tombstone, and the late do is refused.

use super::{Checkout, SagaState, Step};
use contracts::{
    Code, Timestamp,
    messages::{Message, Outcome, RoutingSlip, Stop},
};

impl Checkout {
    pub(super) fn is_choreographed(&self) -> bool {
        self.order.slip_run.is_some()
    }

    /// The last step that may have been asked for. A finished itinerary ends at its last step.
    pub(super) fn reach(&self) -> usize {
        let last = self.order.itinerary.len() - 1;
        if self.is_choreographed() && self.order.saga_state == SagaState::Running {
            return self.slip_end() - 1;
        }
        self.order.progress.min(last)
    }

    /// Sends the itinerary off from the step that runs now, as far as it goes without the buyer.
    pub(super) fn send_forward(&mut self) {
        let Some(run) = self.order.slip_run else { return };
        let run = run + 1;
        self.order.slip_run = Some(run);
        let stops = self.stops(self.slip_end());
        let from = self.stops(self.order.progress).len();
        let slip = RoutingSlip::forward(self.order.id, run, stops, from, !self.order.paid_inline);
        self.outgoing.push(Message::OrdersSlip(slip));
    }

    /// Sends a slip back from the step that is to be undone first.
    pub(super) fn send_back(&mut self) {
        self.order.slip_run = self.order.slip_run.map(|run| run + 1);
        self.send_back_again();
    }

    /// The same from where the way back is now, when nothing has been heard of it for long. It keeps its number: whichever of the two
    /// comes through counts.
    pub(super) fn send_back_again(&mut self) {
        let Some(run) = self.order.slip_run.filter(|_| self.order.saga_state == SagaState::Undoing) else { return };
        let slip = RoutingSlip::back(self.order.id, run, self.stops(self.order.progress + 1));
        self.outgoing.push(Message::OrdersSlip(slip));
    }

    /// What happened on the way of a slip. One of an older number is none of this order's business any more: what was done by it has been
    /// undone by the one that was sent after it, or was refused.
    pub fn follow(&mut self, slip: &RoutingSlip, now: Timestamp) {
        if self.order.slip_run != Some(slip.run) {
            return;
        }
        for visit in &slip.log {
            let stop = slip.stops.get(visit.stop);
            let Some((stop, step)) = stop.and_then(|stop| Some((stop, Step::parse(stop.step())?))) else { continue };
            // Clocks differ between processes; history runs forward all the same.
            let at = visit.at.min(now).max(self.order.updated_at);
            match &visit.outcome {
                Outcome::Done => match stop {
                    Stop::Payment(ask) => self.payment_approved(ask.payment_id, at),
                    _ => self.step_done(step, at),
                },
                // An echo: a repeat of this slip met the undo of a refusal that is still on its way here, and says why.
                Outcome::Refused(refusal) if refusal.code == Code::StepTimedOut && self.order.saga_state == SagaState::Running => return,
                Outcome::Refused(refusal) => match stop {
                    Stop::Payment(ask) => self.payment_failed(ask.payment_id, refusal.clone().into(), at),
                    _ => self.step_refused(step, refusal.clone().into(), at),
                },
                Outcome::Undone => self.step_undone(step, at),
            }
        }
    }

    /// Up to where the slip goes that covers the step at `progress`: the buyer's payment, or the end.
    fn slip_end(&self) -> usize {
        let itinerary = &self.order.itinerary;
        let rest = itinerary.iter().position(|step| *step == Step::AwaitPayment);
        rest.filter(|rest| self.order.progress < *rest).unwrap_or(itinerary.len())
    }

    /// The steps before `end`, as stops. Waiting for the buyer is none.
    fn stops(&self, end: usize) -> Vec<Stop> {
        let steps = self.order.itinerary[..end].iter().filter(|step| **step != Step::AwaitPayment);
        steps.map(|step| self.stop(*step)).collect()
    }
}
