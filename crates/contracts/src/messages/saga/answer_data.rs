//! The data of answers, made from the requests that they answer.

use crate::{
    OrderId, PaymentId, Refusal,
    messages::{PaymentApproved, PaymentRefused, PaymentRequest, StepDone, StepRefused},
};

/// Data of the message that a step is done. `R`: its request.
pub trait DoneData<R> {
    fn answer_to(request: &R) -> Self;

    fn payment_id(&self) -> Option<PaymentId>;
}

/// Data of the message that a step is refused. `R`: its request.
pub trait RefusedData<R> {
    fn answer_to(request: &R, refusal: Refusal) -> Self;

    fn payment_id(&self) -> Option<PaymentId>;

    fn refusal(&self) -> Refusal;
}

/// A request about one order.
pub trait RequestOfOrder {
    fn order_id(&self) -> OrderId;
}

impl<R: RequestOfOrder> DoneData<R> for StepDone {
    fn answer_to(request: &R) -> Self {
        Self { order_id: request.order_id() }
    }
    fn payment_id(&self) -> Option<PaymentId> {
        None
    }
}

impl<R: RequestOfOrder> RefusedData<R> for StepRefused {
    fn answer_to(request: &R, Refusal { code, detail }: Refusal) -> Self {
        Self { order_id: request.order_id(), code, detail }
    }
    fn payment_id(&self) -> Option<PaymentId> {
        None
    }
    fn refusal(&self) -> Refusal {
        Refusal::new(self.code, self.detail.clone())
    }
}

impl DoneData<PaymentRequest> for PaymentApproved {
    fn answer_to(request: &PaymentRequest) -> Self {
        Self { order_id: request.order_id, payment_id: request.payment_id, amount: request.amount }
    }
    fn payment_id(&self) -> Option<PaymentId> {
        Some(self.payment_id)
    }
}

impl RefusedData<PaymentRequest> for PaymentRefused {
    fn answer_to(request: &PaymentRequest, Refusal { code, detail }: Refusal) -> Self {
        Self { order_id: request.order_id, payment_id: request.payment_id, code, detail }
    }
    fn payment_id(&self) -> Option<PaymentId> {
        Some(self.payment_id)
    }
    fn refusal(&self) -> Refusal {
        Refusal::new(self.code, self.detail.clone())
    }
}
