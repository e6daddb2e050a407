//! `accounts.sign_out_everywhere`: ends all sessions of the caller, or all but this one. Any signed-in account, for itself.

use crate::{Accounts, model::EndReason, store};
use axum::response::Response;
use contracts::MemberId;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::cookie,
    extract::SignedIn,
    http::{Empty, Input, Problem, ProblemBody, Query, State, Trace},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use uuid::Uuid;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SignOutQuery {
    /// `true`: the session of this request stays. `false` when absent.
    #[serde(default)]
    pub keep_current: bool,
}

/// Ends all sessions of the caller, or all but this one
///
/// Any signed-in account, for itself. Every process refuses the tokens and cookies of these sessions from now on.
#[utoipa::path(
    delete, path = "/v1/sessions", operation_id = "accounts.sign_out_everywhere", tag = "accounts", params(SignOutQuery),
    responses(
        (status = 204, description = "The sessions have ended"),
        (status = 401, description = "unauthenticated", body = ProblemBody),
        (status = 422, description = "invalid-parameter", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn sign_out_everywhere(
    State(accounts): State<Arc<Accounts>>,
    SignedIn(caller): SignedIn,
    Query(SignOutQuery { keep_current }): Query<SignOutQuery>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let command = EndAllSessions { member_id: caller.member_id, keep: keep_current.then_some(caller.session_id) };
    let mut answer = kit::submit::run(&accounts, command, key, trace).await?;
    if answer.status().is_success() && !keep_current {
        cookie::clear(answer.headers_mut());
    }
    Ok(answer)
}

struct EndAllSessions {
    member_id: MemberId,
    keep: Option<Uuid>,
}

impl Command for EndAllSessions {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.sign_out_everywhere";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        // Locked, so that none of the members opens another session meanwhile.
        store::members::lock(&mut work.tx, commands.iter().map(|command| command.member_id)).await?;
        let members = commands.iter().map(|command| (command.member_id, command.keep));
        accounts.end_sessions_of(work, members, EndReason::SignedOut).await?;
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
