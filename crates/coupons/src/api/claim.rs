//! `coupons.claim`: issues a coupon to the caller, first come, first served. Any signed-in account, for itself.
//!
//! One transaction settles all claims that arrived during the previous one, in the order of their arrival. It loads the coupon once and
//! saves it once. Each caller is answered after the commit. With `Prefer: respond-async` the caller gets 202 once the claim is durable in
//! the claims log, and polls for the outcome.

use crate::{
    Coupons, Strategy,
    admission::{ClaimPermit, ClaimRequest},
    claims::{
        Claimant,
        answer::{self, ClaimIssued, ClaimPending, ClaimWaiting},
        deferred, settle,
    },
    loaded::LoadedCoupons,
    store::claims::{self, SettledClaim},
};
use axum::{extract::State, http::HeaderMap, response::Response};
use contracts::{ClaimId, CouponId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    batch::SubmitError,
    extract::SignedIn,
    http::{Empty, Input, Path, Preferences, Problem, ProblemBody, Trace},
    idempotency::{self, IdempotencyKey, KeyState},
    kafka::RequestLogs,
};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc};
use utoipa::ToSchema;

/// Admissions of one claim before it is answered with 503: a permit that expires in the queue three times means overload.
const MAX_ADMISSIONS: u32 = 3;

/// No coupon yet; `state` names the reason.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes two answers that are written apart")]
pub enum ClaimAccepted {
    Waiting(ClaimWaiting),
    Pending(ClaimPending),
}

/// Issues a coupon to the caller, first come, first served
///
/// Any signed-in account, for itself. A repeat gets the same coupon or ticket while `per_member` is 1. With more per member, a repeat
/// without an `Idempotency-Key` claims one more. A refusal that is certain before the claim reaches the database is not stored under a
/// key: a repeat is decided anew. `Prefer: respond-async` works where claims pass the gate of all processes and a log:
/// the answer is then 202 with state `pending`, and the claim is settled in the order of the log.
#[utoipa::path(
    post, path = "/v1/coupons/{id}/claims", operation_id = "coupons.claim", tag = "coupons",
    params(("id" = CouponId, Path),
           ("Prefer" = Option<String>, Header, description = "`respond-async`: answer as soon as the claim is durable, where that is possible")),
    responses(
        (status = 201, description = "issued", body = ClaimIssued),
        (status = 202, description = "on the waitlist (a repeat gets the same ticket), or pending in the log", body = ClaimAccepted,
            headers(("Location" = String, description = "outcome of a pending claim"),
                    ("Preference-Applied" = String, description = "`respond-async`, for a pending claim"))),
        (status = 404, description = "unknown or withdrawn", body = ProblemBody),
        (status = 409, description = "already-issued, sold-out, not-open or closed", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn claim(
    State(coupons): State<Arc<Coupons>>,
    SignedIn(caller): SignedIn,
    Path(coupon_id): Path<CouponId>,
    trace: Trace,
    headers: HeaderMap,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let (member_id, key) = (caller.member_id, input.key(caller.member_id));
    let claimant = Claimant { coupon_id, member_id };
    if Preferences::of(&headers).respond_async
        && let Some(log) = coupons.claims_log()
    {
        return claim_later(&coupons, log, claimant, key, trace).await;
    }
    claim_now(&coupons, claimant, None, key, trace).await
}

/// Writes the claim to the log; settles it now if the log may have lost it.
async fn claim_later(
    coupons: &Arc<Coupons>,
    log: &RequestLogs,
    claimant: Claimant,
    key: Option<IdempotencyKey>,
    trace: Trace,
) -> Result<Response, Problem> {
    let id = deferred::claim_id(&coupons.kit, claimant, key.as_ref());
    if let Some(accepted) = coupons.enqueue(log, id, claimant, key.as_ref(), trace).await? {
        return Ok(accepted);
    }
    // The log may contain the claim or not. The database decides it once under this id, here or from the log.
    let is_keyed = key.is_some();
    let answer = claim_now(coupons, claimant, Some(id), key, trace).await?;
    // A repeat with this key may reach the log and get 202, so this request must get 202, too.
    if is_keyed && has_outcome(coupons, id).await? { deferred::accepted(claimant, id) } else { Ok(answer) }
}

/// True: `coupons.outcome` can show the answer to this claim.
async fn has_outcome(coupons: &Coupons, id: ClaimId) -> Result<bool, Problem> {
    Ok(claims::find(&mut *coupons.kit.db.reader().await?, [id]).await?.contains_key(&id))
}

/// Admits the claim and settles it in the next transaction.
async fn claim_now(
    coupons: &Arc<Coupons>,
    claimant: Claimant,
    id: Option<ClaimId>,
    key: Option<IdempotencyKey>,
    trace: Trace,
) -> Result<Response, Problem> {
    let Claimant { coupon_id, member_id } = claimant;
    let mut request = ClaimRequest { coupon_id, member_id, may_be_repeat: id.is_some(), is_deferred: false };
    let is_exclusive = coupons.settings.strategy == Strategy::RowLock;
    for _ in 0..MAX_ADMISSIONS {
        let mut admitted = coupons.admit(request).await;
        if admitted.is_err() && is_repeat(coupons, key.as_ref()).await? {
            request.may_be_repeat = true;
            admitted = coupons.admit(request).await;
        }
        let permit = admitted?;
        match coupons.kit.batch.submit(coupons, ClaimCoupon { claimant, id, is_exclusive, permit }, key.clone(), trace.0).await {
            // The permit expired in the queue. Ask for another one.
            Err(SubmitError::Stale) => {}
            reply => return Ok(kit::http::reply(reply?)),
        }
    }
    Err(SubmitError::Overloaded.into())
}

/// True: an earlier request with this key reached the database, so only its answer counts. A refusal before the database stores no key:
/// otherwise refused claims could fill the disk.
async fn is_repeat(coupons: &Coupons, key: Option<&IdempotencyKey>) -> Result<bool, Problem> {
    let Some(key) = key else { return Ok(false) };
    let state = idempotency::look_up(&mut *coupons.kit.db.reader().await?, "coupons", answer::OPERATION, key).await?;
    Ok(!matches!(state, KeyState::Fresh))
}

struct ClaimCoupon {
    claimant: Claimant,
    /// The id of a claim that the log may contain, too.
    id: Option<ClaimId>,
    is_exclusive: bool,
    permit: ClaimPermit,
}

impl Command for ClaimCoupon {
    type Service = Coupons;
    const OPERATION: &'static str = answer::OPERATION;

    fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_definitions(tx, commands.iter().map(|command| command.claimant.coupon_id)).await?;
        let recorded = claims::find(tx, commands.iter().filter_map(|command| command.id)).await?;
        // The rows are locked now, so the permits can be checked.
        let steps: Vec<ClaimStep> = commands.iter().map(|command| command.next_step(&recorded)).collect();
        let to_settle: Vec<&ClaimCoupon> =
            commands.iter().zip(&steps).filter(|(_, step)| matches!(step, ClaimStep::Settle)).map(|(command, _)| *command).collect();
        let answers = settle_all(work, &to_settle).await?;
        Ok(outcomes(steps, answers))
    }
}

/// The next step for a claim that has reached its transaction.
enum ClaimStep<'r> {
    /// The claim was settled from the log. Repeat its answer.
    Repeat(&'r Answer),
    Settle,
    /// The permit has expired. The caller of the command asks for another one.
    Readmit,
}

impl ClaimCoupon {
    fn next_step<'r>(&self, recorded: &'r HashMap<ClaimId, Answer>) -> ClaimStep<'r> {
        match self.id.and_then(|id| recorded.get(&id)) {
            Some(answer) => ClaimStep::Repeat(answer),
            None if self.permit.is_current() => ClaimStep::Settle,
            None => ClaimStep::Readmit,
        }
    }

    /// The record of an answer. `None`: the log cannot contain this claim.
    fn record(&self, answer: &Answer) -> Option<SettledClaim> {
        let Claimant { coupon_id, member_id } = self.claimant;
        Some(SettledClaim { id: self.id?, coupon_id, member_id, answer: answer.clone() })
    }
}

/// Settles the claims in their order, and records the answers of those that the log may contain.
async fn settle_all(work: &mut Work, commands: &[&ClaimCoupon]) -> Result<Vec<Answer>, Fault> {
    let loaded = work.loaded::<LoadedCoupons>();
    for command in commands {
        loaded.settle_permit(command.claimant.coupon_id, &command.permit);
    }
    let claimants: Vec<Claimant> = commands.iter().map(|command| command.claimant).collect();
    let answers = settle(work, &claimants).await?;
    let records: Vec<SettledClaim> = commands.iter().zip(&answers).filter_map(|(command, answer)| command.record(answer)).collect();
    claims::insert(&mut work.tx, &records, work.now).await?;
    Ok(answers)
}

/// `answers` has one answer for each [`ClaimStep::Settle`], in the same order.
fn outcomes(steps: Vec<ClaimStep<'_>>, answers: Vec<Answer>) -> Vec<Outcome> {
    let mut answers = answers.into_iter();
    let outcome = |step| match step {
        ClaimStep::Repeat(answer) => answer.clone().into(),
        ClaimStep::Settle => answers.next().map_or(Outcome::Stale, Outcome::from),
        ClaimStep::Readmit => Outcome::Stale,
    };
    steps.into_iter().map(outcome).collect()
}
