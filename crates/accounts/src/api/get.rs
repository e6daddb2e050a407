//! `accounts.get`: reads any account. Operators only.

use super::views::AccountView;
use crate::{Accounts, store};
use axum::Json;
use contracts::{Code, MemberId};
use kit::{
    extract::Operator,
    http::{Path, Problem, ProblemBody, State},
};
use std::sync::Arc;

/// Reads any account
///
/// Operators only.
#[utoipa::path(
    get, path = "/v1/accounts/{id}", operation_id = "accounts.get", tag = "accounts", params(("id" = MemberId, Path)),
    responses(
        (status = 200, body = AccountView),
        (status = 403, description = "forbidden", body = ProblemBody),
        (status = 404, description = "not-found", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn get(State(accounts): State<Arc<Accounts>>, _: Operator, Path(id): Path<MemberId>) -> Result<Json<AccountView>, Problem> {
    let mut reader = accounts.kit.db.reader().await?;
    let member = store::members::by_id(&mut reader, id).await?.ok_or(Code::NotFound)?;
    Ok(Json(AccountView::from(&member)))
}
