//! `wallet.charge`: adds money from outside to the caller's cash. Any signed-in account, for itself.
//!
//! This version has no bank: the money counts as received, and the ledger's `CASH_IN` account represents the outside.

use crate::{
    Wallet,
    model::{AccountKey, CASH_IN, Ledger, check_charge},
    store,
};
use axum::response::Response;
use contracts::{MemberId, Won};
use garde::Validate;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::SignedIn,
    http::{Input, Problem, State, Trace},
    ports::new_id,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChargeBody {
    /// Won; at least 1,000 and at most 100,000,000.
    #[garde(skip)]
    pub amount: Won,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Charged {
    /// The `id` of the entry.
    pub charge_id: Uuid,
    pub amount: Won,
    /// The cash balance after this charge.
    pub cash: Won,
}

/// Adds money from outside to the caller's cash
///
/// Any signed-in account, for itself.
#[utoipa::path(post, path = "/v1/wallet/charges", operation_id = "wallet.charge", tag = "wallet", request_body = ChargeBody,
    params(("Idempotency-Key" = String, Header, description = "required")),
    responses((status = 201, body = Charged),
        (status = 400, description = "idempotency-key-missing", body = kit::http::ProblemBody),
        (status = 401, description = "unauthenticated", body = kit::http::ProblemBody),
        (status = 422, description = "charge-too-small, amount-out-of-range, invalid-field", body = kit::http::ProblemBody)),
    security(("bearer" = [])))]
pub async fn charge(
    State(wallet): State<Arc<Wallet>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<ChargeBody>,
) -> Result<Response, Problem> {
    let key = input.required_key(caller.member_id)?;
    let amount = input.value.amount;
    check_charge(amount, wallet.settings.charge_unit).map_err(|refusal| Problem::field("/amount", refusal.code, refusal.detail))?;
    kit::submit::run(&wallet, ChargeCash { member_id: caller.member_id, amount }, Some(key), trace).await
}

/// Adds money to a member's cash account.
#[derive(Clone, Copy, Debug)]
pub struct ChargeCash {
    pub member_id: MemberId,
    pub amount: Won,
}

impl Command for ChargeCash {
    type Service = Wallet;
    const OPERATION: &'static str = "wallet.charge";

    async fn handle<'a>(_: &'a Wallet, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, ledger) = work.rows::<Ledger>();
        let keys = commands.iter().map(|command| AccountKey::cash(command.member_id)).chain([CASH_IN]).collect();
        store::load_accounts(tx, ledger, &keys).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let amount = command.amount;
            outcomes.push(match ledger.charge(new_id(), command.member_id, amount, now)? {
                Ok(received) => Answer::json(201, &Charged { charge_id: received.tx_id, amount, cash: received.available })?.into(),
                Err(refusal) => refusal.into(),
            });
        }
        Ok(outcomes)
    }
}
