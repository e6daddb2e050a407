//! `accounts.web_sign_in`: opens a session for a browser. Anyone with an address and its password may, from our own pages.
//!
//! The same rules, brakes and refusals as for `accounts.sign_in`; instead of tokens, which a page would have to keep within reach of every
//! script on it, the browser gets a cookie that no script can read.

use super::{
    sign_in::{Credential, Credentials},
    tokens::never_stored,
    views::Profile,
};
use crate::{Accounts, model::SESSION_LIFETIME};
use axum::{http::StatusCode, response::Response};
use kit::{
    auth::cookie,
    http::{Input, Peer, Problem, ProblemBody, State, Trace},
    redis::sessions::SessionSecret,
};
use std::sync::Arc;

/// Opens a session for a browser
///
/// Anyone with an address and its password may. The cookie stands for an access token wherever one is taken; where both are sent, the token
/// counts. Requests with the cookie that change something must come from our own pages, by `Sec-Fetch-Site` or `Origin`.
#[utoipa::path(
    post, path = "/v1/web-sessions", operation_id = "accounts.web_sign_in", tag = "accounts", request_body = Credentials,
    responses(
        (status = 200, body = Profile, headers(("Set-Cookie" = String, description = "`__Host-onrush`: HttpOnly, Secure, SameSite=Lax"))),
        (status = 401, description = "bad-credentials", body = ProblemBody),
        (status = 403, description = "csrf", body = ProblemBody),
        (status = 429, description = "too-many-attempts, with Retry-After", body = ProblemBody),
        (status = 503, description = "overloaded: too many passwords are being checked", body = ProblemBody),
    )
)]
pub async fn web_sign_in(
    State(accounts): State<Arc<Accounts>>,
    peer: Peer,
    trace: Trace,
    input: Input<Credentials>,
) -> Result<Response, Problem> {
    let secret = SessionSecret::fresh();
    let command = accounts.open_session(&input.value, peer, Credential::Cookie(secret.hash())).await?;
    let mut answer = never_stored(kit::http::run(&accounts, command, None, trace).await?);
    if answer.status() == StatusCode::OK {
        // The browser keeps it as long as any session can last; when it is over is decided here.
        cookie::set(answer.headers_mut(), &secret.text(), SESSION_LIFETIME);
    }
    Ok(answer)
}
