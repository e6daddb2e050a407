//! Routing slips, for the tests of those who take part in a choreographed checkout.

use super::App;
use contracts::{
    Message, OrderId,
    messages::{Outcome, RoutingSlip},
};

impl App {
    /// Sends an order's slip on its way, as orders does.
    pub async fn send_slip(&self, slip: RoutingSlip) {
        self.emit("orders", slip.order_id, Message::OrdersSlip(slip)).await;
    }

    /// What this participant wrote on the slips of an order that it passed on.
    pub async fn slip_outcomes(&self, participant: &str, order: OrderId) -> Vec<&'static str> {
        let messages = self.messages(participant).await;
        messages.iter().filter(|(key, _)| *key == order.0).filter_map(|(_, message)| message.slip()).flat_map(slip_outcomes).collect()
    }
}

/// `done`, `undone`, or the code of the refusal, for every visit that is written on a slip.
pub fn slip_outcomes(slip: &RoutingSlip) -> Vec<&'static str> {
    let outcome = |outcome: &Outcome| match outcome {
        Outcome::Done => "done",
        Outcome::Undone => "undone",
        Outcome::Refused(refusal) => refusal.code.slug(),
    };
    slip.log.iter().map(|visit| outcome(&visit.outcome)).collect()
}
