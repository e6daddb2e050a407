//! `accounts.sign_out`: ends the session of the caller's access token. Any signed-in account, for itself.

use crate::{Accounts, model::EndReason};
use axum::response::Response;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::SignedIn,
    http::{Empty, Input, Problem, ProblemBody, State, Trace},
};
use std::sync::Arc;
use uuid::Uuid;

/// Ends the session of the caller's access token
///
/// Any signed-in account, for itself.
#[utoipa::path(
    delete, path = "/v1/sessions/current", operation_id = "accounts.sign_out", tag = "accounts",
    responses((status = 204, description = "The session's tokens are refused from now on"), (status = 401, description = "unauthenticated", body = ProblemBody)),
    security(("bearer" = []))
)]
pub async fn sign_out(
    State(accounts): State<Arc<Accounts>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run(&accounts, EndSession { session_id: caller.session_id }, key, trace).await
}

pub(super) struct EndSession {
    pub session_id: Uuid,
}

impl Command for EndSession {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.sign_out";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let ids = commands.iter().map(|command| command.session_id).collect();
        accounts.end_sessions(work, ids, EndReason::SignedOut).await?;
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
