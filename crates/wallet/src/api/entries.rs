//! `wallet.entries`: lists all changes of the caller's cash or points, newest first. Any signed-in account, for itself.

use crate::{
    Wallet,
    model::AccountKey,
    store::{self, EntryRow},
};
use axum::Json;
use contracts::{Code, MemberId, OrderId, Timestamp, Won};
use kit::{
    extract::SignedIn,
    http::{Listing, Problem, Query, State, page_limit},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountName {
    #[default]
    Cash,
    Points,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EntriesQuery {
    /// The account; cash when absent.
    #[serde(default)]
    #[param(inline)]
    pub account: AccountName,
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<i64>,
    #[param(min_length = 1)]
    pub cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EntryItem {
    /// The transaction. Its other entry is on an account of the mall.
    pub id: Uuid,
    /// charge, grant, use, return, earn, earn_back, pay, refund or forfeit.
    pub kind: String,
    /// Negative: the amount left the account.
    pub amount: Won,
    pub balance_after: Won,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub at: Timestamp,
}

const CURSOR: &str = "wallet.entries";

/// The start of the next page. The cursor includes the member and the account, so that a foreign cursor is refused.
type EntryCursor = (MemberId, AccountName, Uuid);

/// Lists all changes of the caller's cash or points, newest first
///
/// Any signed-in account, for itself.
#[utoipa::path(get, path = "/v1/wallet/entries", operation_id = "wallet.entries", tag = "wallet", params(EntriesQuery),
    responses((status = 200, body = Listing<EntryItem>),
        (status = 400, description = "invalid-cursor, duplicate-parameter", body = kit::http::ProblemBody),
        (status = 401, description = "unauthenticated", body = kit::http::ProblemBody),
        (status = 422, description = "invalid-parameter", body = kit::http::ProblemBody)),
    security(("bearer" = [])))]
pub async fn entries(
    State(wallet): State<Arc<Wallet>>,
    SignedIn(caller): SignedIn,
    Query(query): Query<EntriesQuery>,
) -> Result<Json<Listing<EntryItem>>, Problem> {
    let limit = page_limit(query.limit)?;
    let account = match query.account {
        AccountName::Cash => AccountKey::cash(caller.member_id),
        AccountName::Points => AccountKey::reward(caller.member_id),
    };
    let position = match &query.cursor {
        Some(text) => Some(position(&wallet, text, caller.member_id, query.account)?),
        None => None,
    };
    let mut reader = wallet.kit.db.reader().await?;
    let from = match position {
        Some(from) => Some(from),
        None => store::last_transaction(&mut reader, account).await?,
    };
    let rows = match from {
        Some(from) => store::history(&mut reader, account, from, limit).await?,
        None => Vec::new(),
    };
    drop(reader);
    let next = rows.last().filter(|_| rows.len() >= limit as usize).and_then(|row| row.previous_tx);
    let next_cursor = next.map(|next| wallet.kit.cursors.encode(CURSOR, &(caller.member_id, query.account, next)));
    Ok(Json(Listing { items: rows.into_iter().map(item).collect(), next_cursor }))
}

fn position(wallet: &Wallet, text: &str, member_id: MemberId, account: AccountName) -> Result<Uuid, Problem> {
    let (owner, cursor_account, from): EntryCursor = wallet.kit.cursors.decode(CURSOR, text)?;
    if (owner, cursor_account) == (member_id, account) { Ok(from) } else { Err(Code::InvalidCursor.into()) }
}

fn item(row: EntryRow) -> EntryItem {
    EntryItem {
        id: row.tx_id,
        kind: row.cause,
        amount: row.amount,
        balance_after: row.balance_after,
        order_id: row.order_id,
        reason: row.reason,
        at: row.at,
    }
}
