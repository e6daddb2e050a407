//! Builds the replies to an order: a message when it is orchestrated, the requesting slip when it is choreographed. Decides nothing.

use super::NextAction;
use crate::model::payment::Payment;
use contracts::{
    Message, OrderId, Refusal, Timestamp,
    messages::{PaymentApproved, PaymentRefused, RoutingSlip, StepDone, WalletTransfer},
};

pub fn transfer(payment: &Payment) -> WalletTransfer {
    WalletTransfer { payment_id: payment.id, order_id: payment.order_id, member_id: payment.member_id, amount: payment.amount }
}

pub fn reply_approved(payment: &Payment, now: Timestamp) -> NextAction {
    if let Some(slip) = &payment.slip {
        return pass_on(slip, |slip| slip.record_result(Ok(()), now));
    }
    let approved = PaymentApproved { order_id: payment.order_id, payment_id: payment.id, amount: payment.amount };
    NextAction::Emit(payment.order_id, Message::PaymentApproved(approved))
}

pub fn reply_failed(payment: &Payment, now: Timestamp) -> NextAction {
    if let Some(slip) = &payment.slip {
        return pass_on(slip, |slip| slip.record_result(Err(payment.refusal()), now));
    }
    let Refusal { code, detail } = payment.refusal();
    NextAction::Emit(
        payment.order_id,
        Message::PaymentFailed(PaymentRefused { order_id: payment.order_id, payment_id: payment.id, code, detail }),
    )
}

pub fn reply_cancelled(order_id: OrderId, slip: Option<&RoutingSlip>, now: Timestamp) -> NextAction {
    if let Some(slip) = slip {
        return pass_on(slip, |slip| slip.record_undone(now));
    }
    NextAction::Emit(order_id, Message::PaymentCancelled(StepDone { order_id }))
}

/// Passes the requesting slip on, with the outcome.
fn pass_on(slip: &RoutingSlip, settle: impl FnOnce(&mut RoutingSlip)) -> NextAction {
    let mut slip = slip.clone();
    settle(&mut slip);
    NextAction::Emit(slip.order_id, Message::PaymentsSlip(slip))
}
