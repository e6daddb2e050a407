//! Builds the replies to an order: a message when it is orchestrated, the requesting slip when it is choreographed. Decides nothing.

use super::NextAction;
use crate::model::payment::Payment;
use contracts::{
    OrderId, Refusal, Timestamp,
    messages::{PaymentRequest, RequestToPayments, RoutingSlip, SagaStep, WalletTransfer, reply_result, reply_undone},
};

pub fn transfer(payment: &Payment) -> WalletTransfer {
    WalletTransfer { payment_id: payment.id, order_id: payment.order_id, member_id: payment.member_id, amount: payment.amount }
}

pub fn reply_approved(payment: &Payment, now: Timestamp) -> NextAction {
    reply(payment, Ok(()), now)
}

pub fn reply_failed(payment: &Payment, now: Timestamp) -> NextAction {
    reply(payment, Err(payment.refusal()), now)
}

fn reply(payment: &Payment, result: Result<(), Refusal>, now: Timestamp) -> NextAction {
    let request = PaymentRequest {
        order_id: payment.order_id,
        payment_id: payment.id,
        member_id: payment.member_id,
        amount: payment.amount,
        method: payment.method,
        token: payment.token.clone(),
    };
    NextAction::Emit(payment.order_id, reply_result(RequestToPayments::Payment(&request), payment.slip.as_ref(), result, now))
}

pub fn reply_cancelled(order_id: OrderId, slip: Option<&RoutingSlip>, now: Timestamp) -> NextAction {
    match reply_undone::<RequestToPayments<'_>>(SagaStep::Payment, order_id, slip, now) {
        Some(message) => NextAction::Emit(order_id, message),
        None => NextAction::Nothing,
    }
}
