//! Handles answers and routing slips from the participants of a checkout. Each answer advances its order. Late and repeated answers change
//! nothing. A closed account loses its cart and its unpaid orders.

use crate::{
    Orders,
    loaded::{self, LoadedOrders},
    model::Checkout,
    store,
};
use contracts::{
    Kind, MemberId, Message, OrderId, Timestamp,
    messages::{SagaAnswer, saga_reads},
};
use kit::{
    Work,
    engine::{Envelope, Fault},
    idempotency,
};
use std::sync::LazyLock;

/// Message kinds that the service reads.
pub static READS: LazyLock<Vec<Kind>> = LazyLock::new(|| saga_reads("orders", &[Kind::MemberClosed]));

/// Reason in the history of an unpaid order.
const ACCOUNT_CLOSED: &str = "The buyer closed the account.";

pub async fn consume(orders: &Orders, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut answers: Vec<&Envelope> = Vec::with_capacity(messages.len());
    let mut closed: Vec<MemberId> = Vec::new();
    for envelope in messages.iter().copied() {
        match &envelope.message {
            Message::MemberClosed(closing) => closed.push(closing.member_id),
            _ => answers.push(envelope),
        }
    }
    advance(orders, work, &answers).await?;
    if closed.is_empty() { Ok(()) } else { close_members(orders, work, &closed).await }
}

/// Cancels the unpaid orders of these members, empties their carts, and erases their stored answers. A repeat finds what came in between.
async fn close_members(orders: &Orders, work: &mut Work, members: &[MemberId]) -> Result<(), Fault> {
    let now = work.now;
    let unpaid = store::unpaid_order_ids(&mut work.tx, members).await?;
    loaded::load(orders, work, unpaid.iter().copied()).await?;
    for id in unpaid {
        if let Some(checkout) = work.loaded::<LoadedOrders>().get_mut(id) {
            checkout.cancel_unpaid(ACCOUNT_CLOSED, now);
        }
        loaded::emit_outgoing(work, id)?;
    }
    let (tx, LoadedOrders { carts, .. }) = work.rows::<LoadedOrders>();
    carts.load(tx, members.iter().copied()).await?;
    for member_id in members {
        carts.cart_mut(*member_id).clear();
    }
    let scopes: Vec<_> = members.iter().map(|member_id| member_id.0).collect();
    Ok(idempotency::forget(tx, "orders", &scopes).await?)
}

async fn advance(orders: &Orders, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
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
