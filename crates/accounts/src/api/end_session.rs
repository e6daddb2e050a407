//! `accounts.end_session`: ends one of the caller's sessions. Any signed-in account, its own.

use crate::{Accounts, model::EndReason, store};
use axum::response::Response;
use contracts::{Code, MemberId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::cookie,
    extract::SignedIn,
    http::{Empty, Input, Path, Problem, ProblemBody, State, Trace},
};
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

/// Ends one of the caller's sessions
///
/// Any signed-in account, its own. Every process refuses the tokens and the cookie of the session from now on.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", operation_id = "accounts.end_session", tag = "accounts", params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "The session has ended, now or before"),
        (status = 401, description = "unauthenticated", body = ProblemBody),
        (status = 404, description = "not-found: unknown, or of another account", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn end_session(
    State(accounts): State<Arc<Accounts>>,
    SignedIn(caller): SignedIn,
    Path(session_id): Path<Uuid>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let command = EndOwnSession { member_id: caller.member_id, session_id };
    let mut answer = kit::submit::run(&accounts, command, key, trace).await?;
    if answer.status().is_success() && session_id == caller.session_id {
        cookie::clear(answer.headers_mut());
    }
    Ok(answer)
}

struct EndOwnSession {
    member_id: MemberId,
    session_id: Uuid,
}

impl Command for EndOwnSession {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.end_session";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let owners: Vec<(Uuid, MemberId)> = commands.iter().map(|command| (command.session_id, command.member_id)).collect();
        let owned: HashSet<Uuid> = store::sessions::owned(&mut work.tx, &owners).await?.into_iter().collect();
        let outcomes = commands.iter().map(|command| match owned.contains(&command.session_id) {
            true => Answer::empty(204).into(),
            false => Code::NotFound.into(),
        });
        let outcomes: Vec<Outcome> = outcomes.collect();
        accounts.end_sessions(work, owned.into_iter().collect(), EndReason::SignedOut).await?;
        Ok(outcomes)
    }
}
