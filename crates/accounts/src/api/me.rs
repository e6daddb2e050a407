//! `accounts.me`: reads the caller's own account. Any signed-in account.

use super::views::Profile;
use crate::{Accounts, model::Member, store};
use axum::Json;
use contracts::Code;
use kit::{
    extract::SignedIn,
    http::{Problem, ProblemBody, State},
};
use std::sync::Arc;

/// Reads the caller's own account
///
/// Any signed-in account.
#[utoipa::path(
    get, path = "/v1/me", operation_id = "accounts.me", tag = "accounts",
    responses((status = 200, body = Profile), (status = 401, description = "unauthenticated", body = ProblemBody)),
    security(("bearer" = []))
)]
pub async fn me(State(accounts): State<Arc<Accounts>>, SignedIn(caller): SignedIn) -> Result<Json<Profile>, Problem> {
    let mut reader = accounts.kit.db.reader().await?;
    let member = store::members::by_id(&mut reader, caller.member_id).await?;
    // A closed or disabled account has no profile, even while its token is still valid.
    let member = member.filter(Member::is_active).ok_or(Code::Unauthenticated)?;
    Ok(Json(Profile::from(&member)))
}
