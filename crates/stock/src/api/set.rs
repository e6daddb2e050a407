//! `stock.set`: sets the units on hand of a SKU after a count. The seller of its store, or an operator.

use super::{StockLevel, find_own_item, item_outcome};
use crate::{
    Stock,
    model::{LoadedStock, MAX_ON_HAND},
    store,
};
use axum::{extract::State, response::Response};
use contracts::Sku;
use garde::Validate;
use kit::{
    Command, Fault, Outcome, Work,
    extract::Seller,
    http::{Input, Path, Problem, ProblemBody, Trace},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetStock {
    /// Units that are not sold, including those held by unpaid orders. Units of paid orders that wait for dispatch do not count, although
    /// they may still be in the warehouse.
    #[garde(range(min = 0, max = MAX_ON_HAND))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    on_hand: i64,
    /// `on_hand` as the caller last read it. The change is refused if it differs now, for instance because a unit was sold meanwhile.
    #[garde(skip)]
    seen: Option<i64>,
}

/// Sets the units on hand of a SKU after a count
///
/// The seller of its store, or an operator.
#[utoipa::path(put, path = "/v1/stock/{sku}", operation_id = "stock.set", tag = "stock",
    params(("sku" = Sku, Path, description = "The SKU")),
    request_body = SetStock,
    responses(
        (status = 200, body = StockLevel),
        (status = 404, description = "unknown, or of another seller's store", body = ProblemBody),
        (status = 409, description = "stock-below-reserved, stock-changed: `on_hand` is not `seen` any more", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn set(
    State(stock): State<Arc<Stock>>,
    Seller(caller): Seller,
    Path(sku): Path<Sku>,
    trace: Trace,
    input: Input<SetStock>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let SetStock { on_hand, seen } = input.value;
    kit::submit::run_prepared(&stock, key, trace, async {
        find_own_item(&stock, &caller, sku).await?;
        Ok(SetOnHand { sku, on_hand, seen })
    })
    .await
}

struct SetOnHand {
    sku: Sku,
    on_hand: i64,
    seen: Option<i64>,
}

impl Command for SetOnHand {
    type Service = Stock;
    const OPERATION: &'static str = "stock.set";

    async fn handle<'a>(_: &'a Stock, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, loaded) = work.rows::<LoadedStock>();
        store::load_items(tx, loaded, commands.iter().map(|command| command.sku).collect()).await?;
        commands.iter().map(|command| item_outcome(loaded.set(command.sku, command.on_hand, command.seen, now))).collect()
    }
}
