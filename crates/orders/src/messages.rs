//! Handles answers and routing slips from the participants of a checkout. Each answer advances its order. Late and repeated answers change
//! nothing.

use crate::{
    Orders,
    loaded::{self, LoadedOrders},
    model::Checkout,
};
use contracts::{
    Kind, Message, OrderId, Timestamp,
    messages::{SagaAnswer, saga_reads},
};
use kit::{
    Work,
    engine::{Envelope, Fault},
};
use std::sync::LazyLock;

/// Message kinds that the service reads.
pub static READS: LazyLock<Vec<Kind>> = LazyLock::new(|| saga_reads("orders", &[]));

pub async fn consume(orders: &Orders, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    // The key of every answer is the order's id.
    loaded::load(orders, work, messages.iter().map(|envelope| OrderId(envelope.key))).await?;
    let now = work.now;
    for envelope in messages {
        let id = OrderId(envelope.key);
        match work.loaded::<LoadedOrders>().get_mut(id) {
            Some(checkout) => apply(checkout, &envelope.message, now),
            None => tracing::warn!(order.id = %id, kind = envelope.message.kind(), "answer ignored: unknown order"),
        }
        loaded::emit_outgoing(work, id)?;
    }
    Ok(())
}

fn apply(checkout: &mut Checkout, message: &Message, now: Timestamp) {
    if let Some(slip) = message.slip() {
        checkout.apply_slip(slip, now);
    } else if let Some(answer) = SagaAnswer::in_message(message) {
        checkout.apply_answer(answer, now);
    }
}
