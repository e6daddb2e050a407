//! `orders.advance`: moves a paid order to `PREPARING`, `SHIPPING` or `DELIVERED`. The seller of all its lines, or an operator.

use super::list_sold::check_runs_store;
use crate::{
    Orders,
    loaded::{self, LoadedOrders, OrderChange},
    model::{Checkout, OrderState},
    store,
    view::{self, OrderHistory, SoldOrderView},
};
use axum::{extract::State, response::Response};
use contracts::{Code, OrderId, Refusal, StoreId, Timestamp};
use garde::Validate;
use kit::{
    Answer, Command, Outcome, Work,
    auth::Caller,
    batch::{Deferred, TraceId},
    engine::Fault,
    extract::Seller,
    http::{Input, Path, Problem, ProblemBody, Trace},
};
use serde::Deserialize;
use std::{collections::BTreeSet, sync::Arc};
use utoipa::ToSchema;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// `PREPARING`, `SHIPPING` or `DELIVERED`. Orders move forward only, one state at a time.
    #[garde(skip)]
    pub state: OrderState,
}

/// Moves a paid order to `PREPARING`, `SHIPPING` or `DELIVERED`
///
/// The seller of all its lines, or an operator.
#[utoipa::path(post, path = "/v1/orders/{id}/fulfilment", operation_id = "orders.advance", tag = "orders", request_body = Advance,
    params(("id" = OrderId, Path, description = "The order")),
    responses((status = 200, description = "moved, or already in this state", body = SoldOrderView),
              (status = 409, description = "`illegal-transition`: another state than these three, or not the next one", body = ProblemBody),
              (status = 404, description = "`not-found`: unknown, or with lines of another store", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn advance(
    State(orders): State<Arc<Orders>>,
    Seller(caller): Seller,
    Path(id): Path<OrderId>,
    trace: Trace,
    input: Input<Advance>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run_prepared(&orders, key, trace, async {
        check_sells_all(&orders, caller, id).await?;
        Ok(AdvanceOrder { order_id: id, to: input.value.state, trace: trace.0 })
    })
    .await
}

/// Lets operators and the seller of all lines pass. `Err`: `not-found` for all others, as for an unknown order.
async fn check_sells_all(orders: &Orders, caller: Caller, id: OrderId) -> Result<(), Problem> {
    let stores: BTreeSet<StoreId> = {
        let mut reader = orders.kit.db.reader().await?;
        store::lines(&mut reader, &[id]).await?.into_values().flatten().map(|line| line.store_id).collect()
    };
    if stores.is_empty() {
        return Err(Code::NotFound.into());
    }
    for store_id in stores {
        check_runs_store(orders, caller, store_id).await?;
    }
    Ok(())
}

pub struct AdvanceOrder {
    order_id: OrderId,
    to: OrderState,
    trace: TraceId,
}

impl Command for AdvanceOrder {
    type Service = Orders;
    const OPERATION: &'static str = "orders.advance";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        loaded::apply_changes(orders, work, commands).await
    }

    async fn resolve<'a>(_: &'a Orders, work: &'a mut Work, deferred: &'a [Deferred<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        let (tx, loaded) = work.rows::<LoadedOrders>();
        let checkouts: Vec<&Checkout> = deferred.iter().map(|deferred| loaded.require(OrderId(deferred.id))).collect::<Result<_, _>>()?;
        let histories = OrderHistory::load_with_unsaved(tx, &checkouts).await?;
        let views = checkouts.iter().zip(&histories).map(|(checkout, history)| {
            // The caller sells all lines, but is neither the buyer nor the payer.
            let view = view::sold_order_view(&checkout.order, &checkout.lines, &history.events, |_| true);
            Ok(Some(Answer::json(200, &view)?))
        });
        views.collect()
    }
}

impl OrderChange for AdvanceOrder {
    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn trace(&self) -> TraceId {
        self.trace
    }

    fn apply(&self, checkout: &mut Checkout, now: Timestamp) -> Result<(), Refusal> {
        checkout.advance(self.to, now).map(|_| ())
    }
}
