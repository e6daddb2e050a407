//! `accounts.web_sign_out`: ends a browser's session. Any signed-in account, for itself.

use super::sign_out::EndSession;
use crate::Accounts;
use axum::{http::StatusCode, response::Response};
use kit::{
    auth::cookie,
    extract::SignedIn,
    http::{Empty, Input, Problem, ProblemBody, State, Trace},
};
use std::sync::Arc;

/// Ends a browser's session
///
/// Any signed-in account, for itself. Like `accounts.sign_out`, and clears the browser's cookie.
#[utoipa::path(
    delete, path = "/v1/web-sessions/current", operation_id = "accounts.web_sign_out", tag = "accounts",
    responses(
        (status = 204, description = "The session's cookie is refused from now on"),
        (status = 401, description = "unauthenticated", body = ProblemBody),
        (status = 403, description = "csrf", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn web_sign_out(
    State(accounts): State<Arc<Accounts>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let mut answer = kit::submit::run(&accounts, EndSession { session_id: caller.session_id }, key, trace).await?;
    if answer.status() == StatusCode::NO_CONTENT {
        cookie::clear(answer.headers_mut());
    }
    Ok(answer)
}
