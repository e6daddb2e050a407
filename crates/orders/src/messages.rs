//! What the participants of a checkout answered, or wrote on the slip that they passed on. Each answer moves its order on; those that come
//! late or twice change nothing.

use crate::{
    Orders,
    model::{Checkout, Reason, Step},
    touched::{self, Touched},
};
use contracts::{Message, OrderId, Refusal, Timestamp, messages::StepRefused};
use kit::{
    Work,
    engine::{Envelope, Fault},
};

pub const READS: &[&str] = &[
    "stock.reserved",
    "stock.refused",
    "stock.taken",
    "stock.take_refused",
    "stock.released",
    "coupon.held",
    "coupon.refused",
    "coupon.released",
    "points.held",
    "points.refused",
    "points.released",
    "payment.approved",
    "payment.failed",
    "payment.cancelled",
    "stock.slip",
    "coupons.slip",
    "wallet.slip",
    "payments.slip",
];

pub async fn consume(orders: &Orders, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    // Every answer of a checkout is keyed by its order.
    touched::load(orders, work, messages.iter().map(|envelope| OrderId(envelope.key))).await?;
    let now = work.now;
    for envelope in messages {
        let id = OrderId(envelope.key);
        match work.stash::<Touched>().get_mut(id) {
            Some(checkout) => apply(checkout, &envelope.message, now),
            None => tracing::warn!(order.id = %id, kind = envelope.message.kind(), "an answer about an order that does not exist"),
        }
        touched::emit_outgoing(work, id)?;
    }
    Ok(())
}

fn apply(checkout: &mut Checkout, message: &Message, now: Timestamp) {
    match message {
        Message::StockReserved(_) => checkout.step_done(Step::StockReserve, now),
        Message::StockTaken(_) => checkout.step_done(Step::StockTake, now),
        Message::CouponHeld(_) => checkout.step_done(Step::CouponHold, now),
        Message::PointsHeld(_) => checkout.step_done(Step::PointsHold, now),
        Message::StockRefused(refused) => checkout.step_refused(Step::StockReserve, reason(refused), now),
        Message::StockTakeRefused(refused) => checkout.step_refused(Step::StockTake, reason(refused), now),
        Message::CouponRefused(refused) => checkout.step_refused(Step::CouponHold, reason(refused), now),
        Message::PointsRefused(refused) => checkout.step_refused(Step::PointsHold, reason(refused), now),
        Message::StockReleased(_) => checkout.step_undone(Step::StockReserve, now),
        Message::CouponReleased(_) => checkout.step_undone(Step::CouponHold, now),
        Message::PointsReleased(_) => checkout.step_undone(Step::PointsHold, now),
        Message::PaymentCancelled(_) => checkout.step_undone(Step::Payment, now),
        Message::PaymentApproved(approved) => checkout.payment_approved(approved.payment_id, now),
        Message::PaymentFailed(failed) => {
            checkout.payment_failed(failed.payment_id, Refusal::new(failed.code, failed.detail.clone()).into(), now);
        }
        message => {
            if let Some(slip) = message.slip() {
                checkout.follow(slip, now);
            }
        }
    }
}

fn reason(refused: &StepRefused) -> Reason {
    Refusal::new(refused.code, refused.detail.clone()).into()
}
