//! `accounts.close_me`: closes the caller's account permanently. Any signed-in account, for itself.
//!
//! The row stays, so that orders and coupons keep their owner. Personal data is erased, and the address is free again.

use crate::{
    Accounts,
    model::{EndReason, Member},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::SignedIn,
    http::{Empty, Input, Problem, ProblemBody, State, Trace},
};
use std::{collections::HashMap, sync::Arc};

/// Closes the caller's account permanently
///
/// Any signed-in account, for itself.
#[utoipa::path(
    delete, path = "/v1/me", operation_id = "accounts.close_me", tag = "accounts",
    responses((status = 204, description = "The account is closed"), (status = 401, description = "unauthenticated", body = ProblemBody)),
    security(("bearer" = []))
)]
pub async fn close_me(
    State(accounts): State<Arc<Accounts>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run(&accounts, CloseAccount { member_id: caller.member_id }, key, trace).await
}

struct CloseAccount {
    member_id: MemberId,
}

impl Command for CloseAccount {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.close_me";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let members = store::members::lock(&mut work.tx, commands.iter().map(|command| command.member_id)).await?;
        let mut members: HashMap<MemberId, Member> = members.into_iter().map(|member| (member.id, member)).collect();
        let now = work.now;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        for command in commands {
            // A second close at the same time succeeds as well: the account is closed.
            outcomes.push(match members.get_mut(&command.member_id) {
                Some(member) => {
                    member.close(now);
                    Answer::empty(204).into()
                }
                None => Code::Unauthenticated.into(),
            });
        }
        store::members::save(&mut work.tx, members.values()).await?;
        accounts.end_sessions_of(work, members.into_keys().map(|member_id| (member_id, None)), EndReason::AccountClosed).await?;
        Ok(outcomes)
    }
}
