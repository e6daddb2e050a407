//! `accounts.list_sessions`: lists the caller's open sessions, newest first. Any signed-in account, for itself.

use crate::{Accounts, model::OpenSessionCard, store};
use axum::Json;
use contracts::{MemberId, Timestamp};
use kit::{
    extract::SignedIn,
    http::{Listing, Problem, ProblemBody, Query, State, page_limit},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const CURSOR: &str = "accounts.sessions";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionsQuery {
    /// 1 to 100; 20 when absent.
    pub limit: Option<i64>,
    pub cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// A program, which holds tokens.
    Token,
    /// A browser, which holds a cookie.
    Cookie,
}

/// An open session: the result of a sign-in that was not ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    pub id: Uuid,
    pub kind: SessionKind,
    /// The session of this request.
    pub is_current: bool,
    /// The sign-in.
    pub created_at: Timestamp,
    /// The last renewal: of tokens by a refresh, of a cookie by its use, written at most once a day.
    pub last_used_at: Timestamp,
    /// The session ends at this instant, or earlier if it is not used.
    pub expires_at: Timestamp,
}

/// The start of the next page. The cursor includes the member, so that a foreign cursor is refused.
type SessionCursor = (MemberId, Uuid);

/// Lists the caller's open sessions, newest first
///
/// Any signed-in account, for itself. A session that was not used for 14 days has ended and is missing.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "accounts.list_sessions", tag = "accounts", params(SessionsQuery),
    responses(
        (status = 200, body = Listing<SessionView>),
        (status = 400, description = "invalid-cursor, duplicate-parameter", body = ProblemBody),
        (status = 401, description = "unauthenticated", body = ProblemBody),
        (status = 422, description = "invalid-parameter", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn list_sessions(
    State(accounts): State<Arc<Accounts>>,
    SignedIn(caller): SignedIn,
    Query(query): Query<SessionsQuery>,
) -> Result<Json<Listing<SessionView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after: Option<SessionCursor> = query.cursor.map(|cursor| accounts.kit.cursors.decode(CURSOR, &cursor)).transpose()?;
    let after = match after {
        Some((owner, id)) if owner == caller.member_id => Some(id),
        Some(_) => return Err(contracts::Code::InvalidCursor.into()),
        None => None,
    };
    let now = accounts.kit.clock.now();
    let mut found = {
        let mut reader = accounts.kit.db.reader().await?;
        store::sessions::page_of(&mut reader, caller.member_id, after, now, limit + 1).await?
    };
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().filter(|_| has_more);
    let next_cursor = last.map(|last| accounts.kit.cursors.encode(CURSOR, &(caller.member_id, last.id)));
    let items = found.into_iter().map(|session| view(&session, caller.session_id)).collect();
    Ok(Json(Listing { items, next_cursor }))
}

fn view(session: &OpenSessionCard, current: Uuid) -> SessionView {
    SessionView {
        id: session.id,
        kind: if session.cookie_expires_at.is_some() { SessionKind::Cookie } else { SessionKind::Token },
        is_current: session.id == current,
        created_at: session.created_at,
        last_used_at: session.last_used_at(),
        expires_at: session.expires_at,
    }
}
