//! What an order is told of its payment: by a message of its own, or, when it is choreographed, by the slip that asked. Decides nothing.

use super::Next;
use crate::model::payment::Payment;
use contracts::{
    Message, OrderId, Refusal, Timestamp,
    messages::{PaymentApproved, PaymentRefused, RoutingSlip, StepDone, WalletTransfer},
};

pub fn transfer(payment: &Payment) -> WalletTransfer {
    WalletTransfer { payment_id: payment.id, order_id: payment.order_id, member_id: payment.member_id, amount: payment.amount }
}

pub fn tell_approved(payment: &Payment, now: Timestamp) -> Next {
    if let Some(slip) = &payment.slip {
        return pass_on(slip, |slip| slip.answer(Ok(()), now));
    }
    let approved = PaymentApproved { order_id: payment.order_id, payment_id: payment.id, amount: payment.amount };
    Next::Tell(payment.order_id, Message::PaymentApproved(approved))
}

pub fn tell_failed(payment: &Payment, now: Timestamp) -> Next {
    if let Some(slip) = &payment.slip {
        return pass_on(slip, |slip| slip.answer(Err(payment.refusal()), now));
    }
    let Refusal { code, detail } = payment.refusal();
    Next::Tell(
        payment.order_id,
        Message::PaymentFailed(PaymentRefused { order_id: payment.order_id, payment_id: payment.id, code, detail }),
    )
}

pub fn tell_cancelled(order_id: OrderId, slip: Option<&RoutingSlip>, now: Timestamp) -> Next {
    if let Some(slip) = slip {
        return pass_on(slip, |slip| slip.undone(now));
    }
    Next::Tell(order_id, Message::PaymentCancelled(StepDone { order_id }))
}

/// A choreographed order hears what came of its payment from the slip that asked for it.
fn pass_on(slip: &RoutingSlip, settle: impl FnOnce(&mut RoutingSlip)) -> Next {
    let mut slip = slip.clone();
    settle(&mut slip);
    Next::Tell(slip.order_id, Message::PaymentsSlip(slip))
}
