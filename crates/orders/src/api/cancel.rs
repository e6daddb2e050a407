//! `orders.cancel`: cancels an order before it is dispatched; everything is undone. Its buyer, or an operator.

use crate::{
    Orders,
    model::Checkout,
    touched::{self, Change},
    view::OrderView,
    wait::{self, Wait},
};
use axum::{extract::State, http::HeaderMap, response::Response};
use contracts::{Code, OrderId, Refusal, Timestamp};
use garde::Validate;
use kit::{
    Answer, Command, Outcome, Work,
    auth::{Caller, Role, SignedIn},
    batch::{Later, TraceId},
    engine::Fault,
    http::{Input, Path, Problem, ProblemBody, Trace, rules},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancellation {
    /// For the order's history.
    #[serde(default)]
    #[garde(inner(custom(rules::text(200))))]
    pub reason: Option<String>,
}

/// Cancels an order before it is dispatched; everything is undone
///
/// Its buyer, or an operator.
#[utoipa::path(post, path = "/v1/orders/{id}/cancellation", operation_id = "orders.cancel", tag = "orders", request_body = Cancellation,
    params(("id" = OrderId, Path, description = "The order"), ("Idempotency-Key" = String, Header, description = "Names the intention"),
           ("Prefer" = Option<String>, Header, description = "`wait=<seconds>`: answer when everything is undone")),
    responses((status = 200, description = "cancelled, also when it was before", body = OrderView), (status = 202, description = "being undone", body = OrderView),
              (status = 409, description = "`illegal-transition`, `payment-in-progress`", body = ProblemBody),
              (status = 404, description = "`not-found`: unknown, or not yours", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn cancel(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Path(id): Path<OrderId>,
    headers: HeaderMap,
    trace: Trace,
    input: Input<Cancellation>,
) -> Result<Response, Problem> {
    let key = input.required_key(caller.member_id)?;
    let wait = wait::preferred(&headers, trace);
    wait::run(&orders, id, Cancel { order_id: id, caller, reason: input.value.reason, wait }, key, wait).await
}

pub struct Cancel {
    order_id: OrderId,
    caller: Caller,
    reason: Option<String>,
    wait: Wait,
}

impl Command for Cancel {
    type Service = Orders;
    const OPERATION: &'static str = "orders.cancel";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        touched::change_each(orders, work, commands).await
    }

    async fn resolve<'a>(_: &'a Orders, work: &'a mut Work, later: &'a [Later<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        wait::resolve(work, later, |command| Some(command.wait)).await
    }
}

impl Change for Cancel {
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
        let unsaid = if by_buyer { "Cancelled by the buyer." } else { "Cancelled by the mall." };
        checkout.cancel(self.reason.as_deref().unwrap_or(unsaid), now).map(|_| ())
    }
}
