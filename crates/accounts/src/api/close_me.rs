//! `accounts.close_me`: closes the caller's account permanently. Any signed-in account, for itself, but not the last operator.
//!
//! The row stays, so that orders and coupons keep their owner. Personal data is erased, also from the stored answers of the account and
//! of its address. The address is free again, except that of an operator: the settings may still name it.
//!
//! An account with cash, open orders or a store is refused. The services that own these are asked before the transaction. They learn of
//! the closing by a message, and end all that came in between, see [0021](../../../docs/decisions/0021-closing.md).

use crate::{
    Accounts,
    credentials::anonymous_key_scope,
    model::{EndReason, Member, SecretDigest},
    store,
};
use axum::response::Response;
use contracts::{
    Code, MemberId, Message,
    calls::{CountOpenOrders, GetCash, GetStoresOfSeller},
    messages::MemberClosed,
};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::Role,
    batch::Deferred,
    extract::SignedIn,
    http::{Empty, Input, Problem, ProblemBody, State, Trace},
    idempotency,
};
use serde_json::json;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Closes the caller's account permanently
///
/// Any signed-in account, for itself, but not the last operator. Coupons, points, the cart and unpaid orders end with the account.
/// Refused with `account-in-use` while the account has cash, a store, or orders that are paid and not delivered. `reasons` names them:
/// `cash`, `store`, `open-orders`.
#[utoipa::path(
    delete, path = "/v1/me", operation_id = "accounts.close_me", tag = "accounts",
    responses(
        (status = 204, description = "The account is closed. Its points are forfeited"),
        (status = 401, description = "unauthenticated", body = ProblemBody),
        (status = 409, description = "account-in-use, with `reasons`; last-operator", body = ProblemBody),
        (status = 503, description = "service-unavailable: a service with things of the account does not answer", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn close_me(
    State(accounts): State<Arc<Accounts>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let member_id = caller.member_id;
    let prepare = async {
        check_unused(&accounts, member_id).await?;
        Ok(CloseAccount { member_id, trace: trace.0 })
    };
    kit::submit::run_prepared(&accounts, input.key(member_id), trace, prepare).await
}

/// Refuses an account with cash, a store or open orders.
async fn check_unused(accounts: &Accounts, member_id: MemberId) -> Result<(), Problem> {
    let links = &accounts.kit.links;
    let cash = links.call(GetCash { member_id }).await?;
    let stores = links.call(GetStoresOfSeller { seller_id: member_id }).await?;
    let orders = links.call(CountOpenOrders { member_id }).await?;
    let found = [
        (cash.0 > 0, "cash", format!("{cash} won are left in its wallet")),
        (!stores.is_empty(), "store", "it runs a store".to_owned()),
        (orders > 0, "open-orders", format!("{orders} of its orders are not delivered")),
    ];
    let (reasons, texts): (Vec<&str>, Vec<String>) =
        found.into_iter().filter(|(applies, ..)| *applies).map(|(_, reason, text)| (reason, text)).unzip();
    if reasons.is_empty() {
        return Ok(());
    }
    let detail = format!("The account cannot be closed yet: {}.", texts.join(", "));
    Err(Problem::new(Code::AccountInUse, detail).with("reasons", json!(reasons)))
}

struct CloseAccount {
    member_id: MemberId,
    trace: Uuid,
}

/// Owners of the answers to erase at the end of the transaction.
#[derive(Default)]
struct ErasedScopes(Vec<Uuid>);

/// An account that this transaction closes.
struct Closing {
    member_id: MemberId,
    email_normalized: String,
    was_operator: bool,
    trace: Uuid,
}

impl Command for CloseAccount {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.close_me";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let members = store::members::lock_with_operators(&mut work.tx, commands.iter().map(|command| command.member_id)).await?;
        let mut members: HashMap<MemberId, Member> = members.into_iter().map(|member| (member.id, member)).collect();
        let now = work.now;
        let mut closings: Vec<Closing> = Vec::with_capacity(commands.len());
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        for command in commands {
            let operators = members.values().filter(|member| member.is_active_operator()).count();
            let Some(member) = members.get_mut(&command.member_id) else {
                outcomes.push(Code::Unauthenticated.into());
                continue;
            };
            let (address, was_operator) = (member.email_normalized.clone(), member.role == Role::Operator);
            outcomes.push(match member.close(operators, now) {
                Ok(is_first) => {
                    if let Some(email_normalized) = address.filter(|_| is_first) {
                        closings.push(Closing { member_id: member.id, email_normalized, was_operator, trace: command.trace });
                    }
                    // A second close at the same time succeeds as well: the account is closed.
                    Outcome::Deferred(member.id.0)
                }
                Err(refusal) => refusal.into(),
            });
        }
        store::members::save(&mut work.tx, members.values()).await?;
        accounts.complete_closings(work, &closings).await?;
        Ok(outcomes)
    }

    /// Erases stored answers. Earlier commands of this transaction have stored theirs by now.
    async fn resolve<'a>(_: &'a Accounts, work: &'a mut Work, deferred: &'a [Deferred<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        let ErasedScopes(scopes) = std::mem::take(work.loaded());
        idempotency::forget(&mut work.tx, "accounts", &scopes).await?;
        Ok(deferred.iter().map(|_| Some(Answer::empty(204))).collect())
    }
}

impl Accounts {
    /// Ends sessions, reserves the addresses of operators, and informs the other services.
    async fn complete_closings(&self, work: &mut Work, closings: &[Closing]) -> Result<(), Fault> {
        let ids: Vec<MemberId> = closings.iter().map(|closing| closing.member_id).collect();
        let operators = closings.iter().filter(|closing| closing.was_operator);
        let reserved: Vec<SecretDigest> = operators.map(|closing| self.address_hash(&closing.email_normalized)).collect();
        store::reserved_addresses::reserve(&mut work.tx, &reserved, work.now).await?;
        store::members::set_closings(&mut work.tx, &ids, 1).await?;
        for closing in closings {
            let scopes = [closing.member_id.0, anonymous_key_scope(&closing.email_normalized)];
            work.loaded::<ErasedScopes>().0.extend(scopes);
            work.trace(closing.member_id, closing.trace);
            work.emit(closing.member_id, Message::MemberClosed(MemberClosed { member_id: closing.member_id }))?;
        }
        self.end_sessions_of(work, ids.into_iter().map(|member_id| (member_id, None)), EndReason::AccountClosed).await
    }
}
