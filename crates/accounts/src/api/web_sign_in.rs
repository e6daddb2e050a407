//! `accounts.web_sign_in`: opens a session for a browser. Anyone with an address and its password, from our own pages.
//!
//! The rules, rate limits and refusals are those of `accounts.sign_in`. The browser gets a cookie that no script can read.
//! Tokens would have to be kept within reach of every script on the page.

use super::{
    sign_in::{Credentials, SessionCredential},
    tokens::no_store,
    views::Profile,
};
use crate::{Accounts, model::SESSION_LIFETIME};
use axum::{http::StatusCode, response::Response};
use kit::{
    auth::{cookie, web_sessions::SessionSecret},
    http::{Peer, Problem, ProblemBody, State, StrangerInput, Trace},
};
use std::sync::Arc;

/// Opens a session for a browser
///
/// Anyone with an address and its password. The cookie replaces an access token in every request; if both are sent, the token counts.
/// Requests with the cookie that change something must come from our own pages, by `Sec-Fetch-Site` or `Origin`.
#[utoipa::path(
    post, path = "/v1/web-sessions", operation_id = "accounts.web_sign_in", tag = "accounts", request_body = Credentials,
    responses(
        (status = 200, body = Profile, headers(("Set-Cookie" = String, description = "`__Host-onrush`: HttpOnly, Secure, SameSite=Lax"))),
        (status = 401, description = "bad-credentials", body = ProblemBody),
        (status = 403, description = "csrf", body = ProblemBody),
        (status = 429, description = "too-many-attempts: too many wrong passwords or sign-ins, with Retry-After", body = ProblemBody),
        (status = 503, description = "overloaded: too many passwords are being checked", body = ProblemBody),
    )
)]
pub async fn web_sign_in(
    State(accounts): State<Arc<Accounts>>,
    peer: Peer,
    trace: Trace,
    input: StrangerInput<Credentials>,
) -> Result<Response, Problem> {
    let secret = SessionSecret::fresh();
    let command = accounts.open_session(&input.value, peer, SessionCredential::Cookie(secret.hash())).await?;
    let mut answer = no_store(kit::submit::run(&accounts, command, None, trace).await?);
    if answer.status() == StatusCode::OK {
        // The browser keeps the cookie for the longest session; the server decides when it expires.
        cookie::set(answer.headers_mut(), &secret.text(), SESSION_LIFETIME);
    }
    Ok(answer)
}
