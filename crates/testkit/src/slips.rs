//! Routing slips, for tests of participants in a choreographed checkout.

use super::App;
use contracts::{
    Message, OrderId,
    messages::{RoutingSlip, StepOutcome},
};

impl App {
    /// Sends an order's slip to its first step, as orders does.
    pub async fn send_slip(&self, slip: RoutingSlip) {
        self.emit("orders", slip.order_id, Message::OrdersSlip(slip)).await;
    }

    /// The outcomes that this participant wrote on the slips of an order.
    pub async fn slip_outcomes(&self, participant: &str, order: OrderId) -> Vec<&'static str> {
        let messages = self.messages(participant).await;
        messages.iter().filter(|(key, _)| *key == order.0).filter_map(|(_, message)| message.slip()).flat_map(slip_outcomes).collect()
    }
}

/// `done`, `undone`, or the refusal's code, for every entry of a slip.
pub fn slip_outcomes(slip: &RoutingSlip) -> Vec<&'static str> {
    let outcome = |outcome: &StepOutcome| match outcome {
        StepOutcome::Done => "done",
        StepOutcome::Undone => "undone",
        StepOutcome::Refused(refusal) => refusal.code.slug(),
    };
    slip.log.iter().map(|visit| outcome(&visit.outcome)).collect()
}
