//! `orders.confirm`: confirms a delivered purchase, which then earns points and cannot be cancelled. The buyer.

use crate::{
    Orders,
    loaded::{self, OrderChange},
    model::Checkout,
    view::OrderView,
    wait,
};
use axum::{extract::State, response::Response};
use contracts::{Code, MemberId, OrderId, Refusal, Timestamp};
use kit::{
    Answer, Command, Outcome, Work,
    batch::{Deferred, TraceId},
    engine::Fault,
    extract::SignedIn,
    http::{Empty, Input, Path, Problem, ProblemBody, Trace},
};
use std::sync::Arc;

/// Confirms a delivered purchase, which then earns points and cannot be cancelled
///
/// The buyer.
#[utoipa::path(post, path = "/v1/orders/{id}/confirmation", operation_id = "orders.confirm", tag = "orders",
    params(("id" = OrderId, Path, description = "The order")),
    responses((status = 200, description = "confirmed, or already was", body = OrderView),
              (status = 409, description = "`illegal-transition`: not delivered", body = ProblemBody),
              (status = 404, description = "`not-found`: unknown, or not yours", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn confirm(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    Path(id): Path<OrderId>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run(&orders, ConfirmOrder { order_id: id, member_id: caller.member_id, trace: trace.0 }, key, trace).await
}

pub struct ConfirmOrder {
    order_id: OrderId,
    member_id: MemberId,
    trace: TraceId,
}

impl Command for ConfirmOrder {
    type Service = Orders;
    const OPERATION: &'static str = "orders.confirm";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        loaded::apply_changes(orders, work, commands).await
    }

    async fn resolve<'a>(_: &'a Orders, work: &'a mut Work, deferred: &'a [Deferred<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        wait::resolve(work, deferred, |_| None).await
    }
}

impl OrderChange for ConfirmOrder {
    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn trace(&self) -> TraceId {
        self.trace
    }

    fn apply(&self, checkout: &mut Checkout, now: Timestamp) -> Result<(), Refusal> {
        if checkout.order.member_id != self.member_id {
            return Err(Code::NotFound.into());
        }
        checkout.confirm(now).map(|_| ())
    }
}
