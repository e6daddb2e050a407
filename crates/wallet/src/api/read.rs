//! `wallet.read`: reads the caller's balances. Any signed-in account, for itself.

use crate::{Wallet, model::AccountKind, store};
use axum::Json;
use contracts::Won;
use kit::{
    extract::SignedIn,
    http::{Problem, State},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Balances {
    /// Money, in won.
    pub cash: Won,
    /// Points that can be used now.
    pub points: Won,
    /// Points held by unpaid orders.
    pub points_held: Won,
}

/// Reads the caller's balances
///
/// Any signed-in account, for itself.
#[utoipa::path(get, path = "/v1/wallet", operation_id = "wallet.read", tag = "wallet",
    responses((status = 200, body = Balances), (status = 401, description = "unauthenticated", body = kit::http::ProblemBody)),
    security(("bearer" = [])))]
pub async fn read(State(wallet): State<Arc<Wallet>>, SignedIn(caller): SignedIn) -> Result<Json<Balances>, Problem> {
    let mut reader = wallet.kit.db.reader().await?;
    let mut answer = Balances::default();
    for (kind, balance, held) in store::balances(&mut reader, caller.member_id).await? {
        match kind {
            AccountKind::Cash => answer.cash = balance,
            AccountKind::Reward => (answer.points, answer.points_held) = (Won(balance.0 - held.0), held),
            AccountKind::CashIn | AccountKind::Sales | AccountKind::PointsGranted | AccountKind::PointsSpent => {}
        }
    }
    Ok(Json(answer))
}
