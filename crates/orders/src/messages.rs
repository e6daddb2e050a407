//! Handles answers and routing slips from the participants of a checkout. Each answer advances its order. Late and repeated answers change
//! nothing.

use crate::{
    Orders,
    loaded::{self, LoadedOrders},
    model::{Checkout, Reason, SagaStep},
};
use contracts::{Kind, Message, OrderId, Refusal, Timestamp, messages::StepRefused};
use kit::{
    Work,
    engine::{Envelope, Fault},
};

/// Message kinds that the service reads.
pub const READS: &[Kind] = &[
    Kind::StockReserved,
    Kind::StockRefused,
    Kind::StockTaken,
    Kind::StockTakeRefused,
    Kind::StockReleased,
    Kind::CouponHeld,
    Kind::CouponRefused,
    Kind::CouponReleased,
    Kind::PointsHeld,
    Kind::PointsRefused,
    Kind::PointsReleased,
    Kind::PaymentApproved,
    Kind::PaymentFailed,
    Kind::PaymentCancelled,
    Kind::StockSlip,
    Kind::CouponsSlip,
    Kind::WalletSlip,
    Kind::PaymentsSlip,
];

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
    match message {
        Message::StockReserved(_) => checkout.step_done(SagaStep::StockReserve, now),
        Message::StockTaken(_) => checkout.step_done(SagaStep::StockTake, now),
        Message::CouponHeld(_) => checkout.step_done(SagaStep::CouponHold, now),
        Message::PointsHeld(_) => checkout.step_done(SagaStep::PointsHold, now),
        Message::StockRefused(refused) => checkout.step_refused(SagaStep::StockReserve, reason(refused), now),
        Message::StockTakeRefused(refused) => checkout.step_refused(SagaStep::StockTake, reason(refused), now),
        Message::CouponRefused(refused) => checkout.step_refused(SagaStep::CouponHold, reason(refused), now),
        Message::PointsRefused(refused) => checkout.step_refused(SagaStep::PointsHold, reason(refused), now),
        Message::StockReleased(_) => checkout.step_undone(SagaStep::StockReserve, now),
        Message::CouponReleased(_) => checkout.step_undone(SagaStep::CouponHold, now),
        Message::PointsReleased(_) => checkout.step_undone(SagaStep::PointsHold, now),
        Message::PaymentCancelled(_) => checkout.step_undone(SagaStep::Payment, now),
        Message::PaymentApproved(approved) => checkout.payment_approved(approved.payment_id, now),
        Message::PaymentFailed(failed) => {
            checkout.payment_failed(failed.payment_id, Refusal::new(failed.code, failed.detail.clone()).into(), now);
        }
        message => {
            if let Some(slip) = message.slip() {
                checkout.apply_slip(slip, now);
            }
        }
    }
}

fn reason(refused: &StepRefused) -> Reason {
    Refusal::new(refused.code, refused.detail.clone()).into()
}
