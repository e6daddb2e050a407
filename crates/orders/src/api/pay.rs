//! `orders.pay`: pays an order that awaits payment, at most once. The buyer.

use super::quote::PaymentChoice;
use crate::{
    Orders,
    loaded::{self, OrderChange},
    model::{Checkout, PaymentAttempt},
    view::OrderView,
    wait::{self, WaitPreference},
};
use axum::{extract::State, http::HeaderMap, response::Response};
use contracts::{Code, MemberId, OrderId, PaymentId, Refusal, Timestamp, Won, messages::PaymentMethod};
use kit::{
    Answer, Command, Outcome, Work,
    batch::{Deferred, TraceId},
    engine::Fault,
    extract::SignedIn,
    http::{Input, Path, Problem, ProblemBody, Trace},
    ports::new_id,
};
use std::sync::Arc;

/// Pays an order that awaits payment, at most once
///
/// The buyer.
#[utoipa::path(post, path = "/v1/orders/{id}/payments", operation_id = "orders.pay", tag = "orders", request_body = PaymentChoice,
    params(("id" = OrderId, Path, description = "The order"), ("Idempotency-Key" = String, Header, description = "Names the intention"),
           ("Prefer" = Option<String>, Header, description = "`wait=<seconds>`: answer when the payment is decided")),
    responses((status = 200, description = "paid", body = OrderView), (status = 202, description = "the payment is running", body = OrderView),
              (status = 409, description = "`insufficient-funds`, `payment-failed`, `already-paid`, `payment-in-progress`, `order-expired`, `amount-mismatch`, `illegal-transition`", body = ProblemBody),
              (status = 404, description = "`not-found`: unknown, or not yours", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn pay(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Path(id): Path<OrderId>,
    headers: HeaderMap,
    trace: Trace,
    input: Input<PaymentChoice>,
) -> Result<Response, Problem> {
    let key = input.required_key(caller.member_id)?;
    let wait = wait::parse_prefer(&headers, trace);
    let PaymentChoice { method, token, amount } = input.value;
    let command = PayOrder { order_id: id, member_id: caller.member_id, payment_id: PaymentId(new_id()), method, token, amount, wait };
    wait::submit_and_wait(&orders, id, command, key, wait).await
}

pub struct PayOrder {
    order_id: OrderId,
    member_id: MemberId,
    payment_id: PaymentId,
    method: PaymentMethod,
    token: Option<String>,
    amount: Option<Won>,
    wait: WaitPreference,
}

impl Command for PayOrder {
    type Service = Orders;
    const OPERATION: &'static str = "orders.pay";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        loaded::apply_changes(orders, work, commands).await
    }

    async fn resolve<'a>(_: &'a Orders, work: &'a mut Work, deferred: &'a [Deferred<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        wait::resolve(work, deferred, |command| Some(command.wait)).await
    }
}

impl OrderChange for PayOrder {
    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn trace(&self) -> TraceId {
        self.wait.trace
    }

    fn apply(&self, checkout: &mut Checkout, now: Timestamp) -> Result<(), Refusal> {
        if checkout.order.member_id != self.member_id {
            return Err(Code::NotFound.into());
        }
        let total = checkout.order.total;
        if self.amount.is_some_and(|amount| amount != total) {
            return Err(Refusal::new(Code::AmountMismatch, format!("The order's total is {total} won.")));
        }
        let method = if total.0 == 0 { PaymentMethod::None } else { self.method };
        if method == PaymentMethod::None && total.0 > 0 {
            return Err(Refusal::new(Code::PaymentMethodNotAllowed, "“none” is only for orders that cost nothing."));
        }
        checkout.pay(PaymentAttempt { id: self.payment_id, method, token: self.token.clone() }, now)
    }
}
