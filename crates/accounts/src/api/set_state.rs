//! `accounts.set_state`: disables an account, or enables it again. Operators only; never their own account, nor that of the last operator.
//!
//! The sessions of a disabled account end at once. It keeps its address and all its data.

use super::views::AccountView;
use crate::{
    Accounts,
    model::{EndReason, Member},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::Operator,
    http::{Input, Path, Problem, ProblemBody, State, Trace},
    idempotency::IdempotencyKey,
};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};
use utoipa::ToSchema;

#[derive(Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateChange {
    #[garde(skip)]
    pub state: WantedState,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WantedState {
    Active,
    Disabled,
}

/// Disables an account, or enables it again
///
/// Operators only; never their own account.
#[utoipa::path(
    patch, path = "/v1/accounts/{id}", operation_id = "accounts.set_state", tag = "accounts", params(("id" = MemberId, Path)),
    request_body = StateChange,
    responses(
        (status = 200, body = AccountView),
        (status = 403, description = "forbidden", body = ProblemBody),
        (status = 404, description = "not-found", body = ProblemBody),
        (status = 409, description = "last-operator: no other operator is active", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn set_state(
    State(accounts): State<Arc<Accounts>>,
    Operator(caller): Operator,
    Path(id): Path<MemberId>,
    trace: Trace,
    input: Input<StateChange>,
) -> Result<Response, Problem> {
    // The key belongs to the account, because its answer shows the account. Closing the account erases it.
    let key = input.key(id).map(|key| IdempotencyKey { key: format!("{} {}", caller.member_id, key.key), ..key });
    let command = SetAccountState { member_id: id, by: caller.member_id, active: input.value.state == WantedState::Active };
    kit::submit::run(&accounts, command, key, trace).await
}

struct SetAccountState {
    member_id: MemberId,
    by: MemberId,
    active: bool,
}

impl Command for SetAccountState {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.set_state";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let members = store::members::lock_with_operators(&mut work.tx, commands.iter().map(|command| command.member_id)).await?;
        let mut members: HashMap<MemberId, Member> = members.into_iter().map(|member| (member.id, member)).collect();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        let mut disabled: Vec<MemberId> = Vec::new();
        for command in commands {
            let operators = members.values().filter(|member| member.is_active_operator()).count();
            let Some(member) = members.get_mut(&command.member_id) else {
                outcomes.push(Code::NotFound.into());
                continue;
            };
            match member.set_active(command.active, command.by, operators) {
                Ok(changed) => {
                    if changed {
                        let (member_id, by, active) = (command.member_id, command.by, command.active);
                        work.after_commit(move || {
                            tracing::info!(target: "audit", member = %member_id, by = %by, active, "account state set by an operator");
                        });
                    }
                    if changed && !command.active {
                        disabled.push(member.id);
                    }
                    outcomes.push(Answer::json(200, &AccountView::from(&*member))?.into());
                }
                Err(refusal) => outcomes.push(refusal.into()),
            }
        }
        store::members::save(&mut work.tx, members.values()).await?;
        accounts.end_sessions_of(work, disabled.into_iter().map(|member_id| (member_id, None)), EndReason::AccountDisabled).await?;
        Ok(outcomes)
    }
}
