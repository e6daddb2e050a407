//! `orders.cancel`: cancels an order before dispatch and undoes all its steps. The buyer, or an operator.

use crate::{
    Orders,
    loaded::{self, OrderChange},
    model::Checkout,
    view::OrderView,
    wait::{self, WaitPreference},
};
use axum::{extract::State, http::HeaderMap, response::Response};
use contracts::{Code, OrderId, Refusal, Timestamp};
use garde::Validate;
use kit::{
    Answer, Command, Outcome, Work,
    auth::{Caller, Role},
    batch::{Deferred, TraceId},
    engine::Fault,
    extract::SignedIn,
    http::{Input, Path, Problem, ProblemBody, Trace, rules, text},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Cancellation)]
pub struct CancellationInput {
    /// Reason for the order's history.
    #[serde(default, deserialize_with = "text::cleaned_option")]
    #[garde(inner(custom(rules::text(200))))]
    pub reason: Option<String>,
}

/// Cancels an order before dispatch and undoes all its steps
///
/// The buyer, or an operator.
#[utoipa::path(post, path = "/v1/orders/{id}/cancellation", operation_id = "orders.cancel", tag = "orders", request_body = CancellationInput,
    params(("id" = OrderId, Path, description = "The order"), ("Idempotency-Key" = String, Header, description = "Names the intention"),
           ("Prefer" = Option<String>, Header, description = "`wait=<seconds>`: answer when everything is undone")),
    responses((status = 200, description = "cancelled, or already was", body = OrderView), (status = 202, description = "being undone", body = OrderView),
              (status = 409, description = "`illegal-transition`, `payment-in-progress`", body = ProblemBody),
              (status = 404, description = "`not-found`: unknown, or not yours", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn cancel(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Path(id): Path<OrderId>,
    headers: HeaderMap,
    trace: Trace,
    input: Input<CancellationInput>,
) -> Result<Response, Problem> {
    let key = input.required_key(caller.member_id)?;
    let wait = wait::parse_prefer(&headers, trace);
    wait::submit_and_wait(&orders, id, CancelOrder { order_id: id, caller, reason: input.value.reason, wait }, key, wait).await
}

pub struct CancelOrder {
    order_id: OrderId,
    caller: Caller,
    reason: Option<String>,
    wait: WaitPreference,
}

impl Command for CancelOrder {
    type Service = Orders;
    const OPERATION: &'static str = "orders.cancel";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        loaded::apply_changes(orders, work, commands).await
    }

    async fn resolve<'a>(_: &'a Orders, work: &'a mut Work, deferred: &'a [Deferred<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        wait::resolve(work, deferred, |command| Some(command.wait)).await
    }
}

impl OrderChange for CancelOrder {
    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn trace(&self) -> TraceId {
        self.wait.trace
    }

    fn apply(&self, checkout: &mut Checkout, now: Timestamp) -> Result<(), Refusal> {
        let by_buyer = checkout.order.member_id == self.caller.member_id;
        if !by_buyer && !matches!(self.caller.role, Role::Operator) {
            return Err(Code::NotFound.into());
        }
        let reason = self.reason.as_deref();
        let cancelled = match by_buyer {
            true => checkout.cancel_by_buyer(reason.unwrap_or("Cancelled by the buyer."), now),
            false => checkout.cancel(reason.unwrap_or("Cancelled by the mall."), now),
        };
        cancelled.map(|_| ())
    }
}
