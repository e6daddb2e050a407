//! `stock.adjust`: adds received units to a SKU, or subtracts lost ones. The seller of its store, or an operator.

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
    http::{Input, Path, Problem, ProblemBody, Trace, rules, text},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Longest reason of a movement, in characters.
const MAX_REASON: usize = 200;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustStock {
    /// Units to add, or to subtract if negative. Not 0.
    #[garde(range(min = -MAX_ON_HAND, max = MAX_ON_HAND), custom(not_zero))]
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    delta: i64,
    /// Stored with the movement.
    #[serde(deserialize_with = "text::cleaned")]
    #[garde(custom(rules::text(MAX_REASON)))]
    #[schema(max_length = 200)]
    reason: String,
}

fn not_zero(delta: &i64, (): &()) -> garde::Result {
    if *delta == 0 { Err(garde::Error::new("must not be 0")) } else { Ok(()) }
}

/// Adds received units to a SKU, or subtracts lost ones
///
/// The seller of its store, or an operator.
#[utoipa::path(post, path = "/v1/stock/{sku}/adjustments", operation_id = "stock.adjust", tag = "stock",
    params(("sku" = Sku, Path, description = "The SKU")),
    request_body = AdjustStock,
    responses(
        (status = 200, body = StockLevel),
        (status = 404, description = "unknown, or of another seller's store", body = ProblemBody),
        (status = 409, description = "stock-below-reserved", body = ProblemBody),
        (status = 422, description = "amount-out-of-range: more units than can be on hand", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn adjust(
    State(stock): State<Arc<Stock>>,
    Seller(caller): Seller,
    Path(sku): Path<Sku>,
    trace: Trace,
    input: Input<AdjustStock>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let AdjustStock { delta, reason } = input.value;
    kit::submit::run_prepared(&stock, key, trace, async {
        find_own_item(&stock, &caller, sku).await?;
        Ok(AdjustOnHand { sku, delta, reason })
    })
    .await
}

struct AdjustOnHand {
    sku: Sku,
    delta: i64,
    reason: String,
}

impl Command for AdjustOnHand {
    type Service = Stock;
    const OPERATION: &'static str = "stock.adjust";

    async fn handle<'a>(_: &'a Stock, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, loaded) = work.rows::<LoadedStock>();
        store::load_items(tx, loaded, commands.iter().map(|command| command.sku).collect()).await?;
        commands.iter().map(|command| item_outcome(loaded.adjust(command.sku, command.delta, &command.reason, now))).collect()
    }
}
