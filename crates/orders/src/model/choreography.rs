//! Choreographed checkouts: the routing slips that an order sends, and the slips it reads from the participants.
//!
//! A slip is ahead of its order. Participants' streams deliver it late, repeatedly and in any order, so each slip carries its whole log.
//! The log is applied by the rules of orchestrated answers: entries that do not belong to the running step are ignored.
//! An order that gives up sends an undo slip over every step that its last slip may have reached. Where the undo arrives first, it leaves
//! a tombstone that refuses the late request.

use super::{Checkout, SagaState};
use contracts::{
    Code, Timestamp,
    messages::{Message, RoutingSlip, SagaAnswer, SagaStep, SlipStep, StepOutcome},
};

impl Checkout {
    pub(super) fn is_choreographed(&self) -> bool {
        self.order.slip_run.is_some()
    }

    /// Index of the last step that a participant may have been asked for. For a finished itinerary: its last step.
    pub(super) fn last_reachable_step(&self) -> usize {
        let last = self.order.itinerary.len() - 1;
        if self.is_choreographed() && self.order.saga_state == SagaState::Running {
            return self.slip_end() - 1;
        }
        self.order.progress.min(last)
    }

    /// Sends a slip from the running step up to the next step that needs the buyer.
    pub(super) fn send_forward_slip(&mut self) {
        let Some(run) = self.order.slip_run else { return };
        let run = run + 1;
        self.order.slip_run = Some(run);
        let requests = self.requests_before(self.slip_end());
        let from = self.requests_before(self.order.progress).len();
        let slip = RoutingSlip::forward(self.order.id, run, requests, from, !self.order.paid_inline);
        self.outgoing.push(Message::OrdersSlip(slip));
    }

    /// Sends an undo slip with a new run number, from the step to undo first.
    pub(super) fn send_undo_slip(&mut self) {
        self.order.slip_run = self.order.slip_run.map(|run| run + 1);
        self.resend_undo_slip();
    }

    /// Sends the undo slip again from the current step, when its answer is overdue. It keeps the run number, so that either copy counts.
    pub(super) fn resend_undo_slip(&mut self) {
        let Some(run) = self.order.slip_run.filter(|_| self.order.saga_state == SagaState::Undoing) else { return };
        let slip = RoutingSlip::back(self.order.id, run, self.requests_before(self.order.progress + 1));
        self.outgoing.push(Message::OrdersSlip(slip));
    }

    /// Applies the log of a slip. Slips of older runs are ignored: their steps were refused, or are undone by a later slip.
    pub fn apply_slip(&mut self, slip: &RoutingSlip, now: Timestamp) {
        if self.order.slip_run != Some(slip.run) {
            return;
        }
        for entry in &slip.log {
            let Some(step) = slip.stops.get(entry.stop) else { continue };
            let is_running = self.order.saga_state == SagaState::Running;
            if is_running && matches!(&entry.outcome, StepOutcome::Refused(refusal) if refusal.code == Code::StepTimedOut) {
                // An echo: a repeat of this slip was refused by the tombstone of an undo. The slip with the real refusal is still to come.
                return;
            }
            // Clocks differ between processes, so times are clamped to keep the history ascending.
            let at = entry.at.min(now).max(self.order.updated_at);
            self.apply_answer(SagaAnswer::in_slip(step, &entry.outcome), at);
        }
    }

    /// End (exclusive) of the slip that covers the step at `progress`: the wait for the buyer's payment, or the end of the itinerary.
    fn slip_end(&self) -> usize {
        let itinerary = &self.order.itinerary;
        let wait = itinerary.iter().position(|step| *step == SagaStep::AwaitPayment);
        wait.filter(|wait| self.order.progress < *wait).unwrap_or(itinerary.len())
    }

    /// Requests of the steps before `end`. Waiting for the buyer has none.
    fn requests_before(&self, end: usize) -> Vec<SlipStep> {
        self.order.itinerary[..end].iter().filter_map(|step| self.request_for(*step)).collect()
    }
}
