//! `wallet.grant`: grants points to a member. Operators only; the ledger records the operator and the reason.

use crate::{
    Wallet,
    model::{AccountKey, Ledger, Note, POINTS_GRANTED},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId, Won, calls::HasAccount};
use garde::Validate;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::Operator,
    http::{Input, Problem, State, Trace, rules, text},
    ports::new_id,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// Highest grant, in points: far above any goodwill grant, so that typing errors are refused.
const MAX_GRANT: Won = Won(10_000_000);
/// Longest reason, in characters: a sentence.
const MAX_REASON: usize = 200;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantBody {
    #[garde(skip)]
    pub member_id: MemberId,
    /// Points; at most 10,000,000.
    #[garde(skip)]
    pub amount: Won,
    #[serde(deserialize_with = "text::cleaned")]
    #[garde(custom(rules::text(MAX_REASON)))]
    pub reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Granted {
    /// The `id` of the entry.
    pub grant_id: Uuid,
    pub member_id: MemberId,
    pub amount: Won,
    /// The member's available points after this grant.
    pub points: Won,
}

/// Grants points to a member
///
/// Operators only; the ledger records the operator and the reason.
#[utoipa::path(post, path = "/v1/wallet/grants", operation_id = "wallet.grant", tag = "wallet", request_body = GrantBody,
    params(("Idempotency-Key" = String, Header, description = "required")),
    responses((status = 201, body = Granted),
        (status = 400, description = "idempotency-key-missing", body = kit::http::ProblemBody),
        (status = 401, description = "unauthenticated", body = kit::http::ProblemBody),
        (status = 403, description = "forbidden", body = kit::http::ProblemBody),
        (status = 422, description = "amount-out-of-range, invalid-field: also for a member without an account", body = kit::http::ProblemBody)),
    security(("bearer" = [])))]
pub async fn grant(
    State(wallet): State<Arc<Wallet>>,
    Operator(caller): Operator,
    trace: Trace,
    input: Input<GrantBody>,
) -> Result<Response, Problem> {
    let key = input.required_key(caller.member_id)?;
    let prepare = prepare(&wallet, input.value, caller.member_id);
    kit::submit::run_prepared(&wallet, Some(key), trace, prepare).await
}

async fn prepare(wallet: &Wallet, body: GrantBody, granted_by: MemberId) -> Result<GrantPoints, Problem> {
    let GrantBody { member_id, amount, reason } = body;
    if amount.0 < 1 || amount > MAX_GRANT {
        return Err(Problem::field("/amount", Code::AmountOutOfRange, format!("A grant is 1 to {MAX_GRANT} points")));
    }
    if !wallet.kit.links.call(HasAccount { member_id }).await? {
        return Err(Problem::field("/member_id", Code::InvalidField, "is not the id of an account"));
    }
    Ok(GrantPoints { member_id, amount, reason, granted_by: Some(granted_by) })
}

/// Adds points to a member's reward account.
#[derive(Clone, Debug)]
pub struct GrantPoints {
    pub member_id: MemberId,
    pub amount: Won,
    pub reason: String,
    /// The operator. `None`: the program itself grants, as `seed` does.
    pub granted_by: Option<MemberId>,
}

impl Command for GrantPoints {
    type Service = Wallet;
    const OPERATION: &'static str = "wallet.grant";

    async fn handle<'a>(_: &'a Wallet, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, ledger) = work.rows::<Ledger>();
        let keys = commands.iter().map(|command| AccountKey::reward(command.member_id)).chain([POINTS_GRANTED]).collect();
        store::load_accounts(tx, ledger, &keys).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let (member_id, amount) = (command.member_id, command.amount);
            let note = Note { reason: Some(command.reason.clone()), granted_by: command.granted_by };
            outcomes.push(match ledger.grant(new_id(), member_id, amount, note, now)? {
                Ok(received) => {
                    Answer::json(201, &Granted { grant_id: received.tx_id, member_id, amount, points: received.available })?.into()
                }
                Err(refusal) => refusal.into(),
            });
        }
        Ok(outcomes)
    }
}
