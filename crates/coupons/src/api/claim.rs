//! `coupons.claim`: takes a coupon, first come, first served. Any signed-in account, for itself.
//!
//! All claims that arrived while the last transaction committed are settled by one: the coupon is read once, they are decided in the
//! order of their arrival, and it is saved once. Each is answered after the commit. Who prefers not to wait is answered as soon as his claim
//! is durable in the log of claims, and asks for its outcome later.

use crate::{
    Coupons, Strategy,
    entrance::{Applicant, Pass},
    later,
    model::Ticket,
    settle::{Claimant, settle},
    store::{
        Books,
        claims::{self, Claimed},
    },
};
use axum::{extract::State, http::HeaderMap, response::Response};
use contracts::{ClaimId, CouponId, IssuedCouponId, Timestamp};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::SignedIn,
    batch::SubmitError,
    http::{Empty, Input, Path, Problem, ProblemBody, Trace},
    idempotency::IdempotencyKey,
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How often a claim comes to its transaction too late for what the gate had told it, before it is sent away: then there is too much to do.
const ENTRIES: u32 = 3;

/// The coupon is the caller's.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimIssued {
    #[schema(example = "issued")]
    pub state: &'static str,
    pub issued_coupon_id: IssuedCouponId,
    /// The first that was issued has 1.
    pub number: i64,
    pub expires_at: Timestamp,
}

/// The caller waits for a unit to come free.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimWaiting {
    #[schema(example = "waiting")]
    pub state: &'static str,
    pub ticket: Ticket,
    /// 1 is next.
    pub position: i64,
}

/// The claim is durable and will be settled in its turn; what it came to is told where `Location` points.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimPending {
    #[schema(example = "pending")]
    pub state: &'static str,
    pub claim_id: ClaimId,
}

/// Why there is no coupon yet: told apart by `state`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes two answers that are written apart")]
pub enum ClaimAccepted {
    Waiting(ClaimWaiting),
    Pending(ClaimPending),
}

/// Takes a coupon, first come, first served
///
/// Any signed-in account, for itself. `Prefer: respond-async` is honoured where claims go through the gate of all processes and a log:
/// the answer is then 202 with state `pending`, and the claim is settled in the order of the log.
#[utoipa::path(
    post, path = "/v1/coupons/{id}/claims", operation_id = "coupons.claim", tag = "coupons",
    params(("id" = CouponId, Path),
           ("Prefer" = Option<String>, Header, description = "`respond-async`: answer as soon as the claim is durable, where that is possible")),
    responses(
        (status = 201, description = "issued", body = ClaimIssued),
        (status = 202, description = "on the waitlist (asked again, the same ticket), or taken down to be settled", body = ClaimAccepted,
            headers(("Location" = String, description = "of a claim that is pending"),
                    ("Preference-Applied" = String, description = "`respond-async`, of a claim that is pending"))),
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
    if later::is_preferred(&headers)
        && let Some(log) = coupons.claims_log()
    {
        let id = later::claim_id(&coupons.kit, claimant, key.as_ref());
        return match coupons.take_down(log, id, claimant, key.as_ref(), trace).await? {
            Some(taken) => Ok(taken),
            // It may be in the log or not: only the database may decide, once under this id.
            None => {
                let is_keyed = key.is_some();
                let answer = claim_now(&coupons, claimant, Some(id), key, trace).await?;
                // A repeat may be taken down again, and must be told the same.
                if is_keyed && is_settled(&coupons, id).await? { later::taken_down(claimant, id) } else { Ok(answer) }
            }
        };
    }
    claim_now(&coupons, claimant, None, key, trace).await
}

/// Whether it can be asked for what this claim came to.
async fn is_settled(coupons: &Coupons, id: ClaimId) -> Result<bool, Problem> {
    Ok(claims::find(&mut *coupons.kit.db.reader().await?, [id]).await?.contains_key(&id))
}

async fn claim_now(
    coupons: &Arc<Coupons>,
    claimant: Claimant,
    id: Option<ClaimId>,
    key: Option<IdempotencyKey>,
    trace: Trace,
) -> Result<Response, Problem> {
    let Claimant { coupon_id, member_id } = claimant;
    let applicant = Applicant { coupon_id, member_id, repeats: key.is_some() || id.is_some(), waits: false };
    let alone = coupons.settings.strategy == Strategy::RowLock;
    for _ in 0..ENTRIES {
        let pass = coupons.enter(applicant).await?;
        match coupons.kit.submit(coupons, Claim { claimant, id, alone, pass }, key.clone(), trace.0).await {
            Err(SubmitError::Stale) => {}
            reply => return Ok(kit::http::reply(reply?)),
        }
    }
    Err(SubmitError::Overloaded.into())
}

/// What a claim is called, in keys too: an answer is the same whichever way its claim was settled.
pub const OPERATION: &str = <Claim as Command>::OPERATION;

struct Claim {
    claimant: Claimant,
    /// Of a claim that may also be in the log.
    id: Option<ClaimId>,
    alone: bool,
    pass: Pass,
}

impl Command for Claim {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.claim";

    fn alone(&self) -> bool {
        self.alone
    }

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut books = work.take_stash::<Books>();
        books.load_definitions(&mut work.tx, commands.iter().map(|claim| claim.claimant.coupon_id)).await?;
        let known = claims::find(&mut work.tx, commands.iter().filter_map(|claim| claim.id)).await?;
        // Now that the rows are locked.
        let is_fresh = |claim: &Claim| claim.pass.is_current() && claim.id.is_none_or(|id| !known.contains_key(&id));
        let fresh: Vec<bool> = commands.iter().map(|claim| is_fresh(claim)).collect();
        let to_settle: Vec<&Claim> = commands.iter().zip(&fresh).filter(|(_, fresh)| **fresh).map(|(claim, _)| *claim).collect();
        for claim in &to_settle {
            claim.pass.settled(&mut books, claim.claimant.coupon_id);
        }
        let claimants: Vec<Claimant> = to_settle.iter().map(|claim| claim.claimant).collect();
        let answers = settle(work, &mut books, &claimants).await?;
        let kept: Vec<Claimed> = to_settle.iter().zip(&answers).filter_map(|(claim, answer)| claim.kept(answer)).collect();
        claims::insert(&mut work.tx, &kept, work.now).await?;
        work.put_stash(books);
        let mut answers = answers.into_iter();
        let outcome = |(claim, fresh): (&&Claim, bool)| match claim.id.and_then(|id| known.get(&id)) {
            Some(answer) => answer.clone().into(),
            None if fresh => answers.next().map_or(Outcome::Stale, Outcome::from),
            None => Outcome::Stale,
        };
        Ok(commands.iter().zip(fresh).map(outcome).collect())
    }
}

impl Claim {
    /// What is kept of a claim that may be read from the log later.
    fn kept(&self, answer: &Answer) -> Option<Claimed> {
        let Claimant { coupon_id, member_id } = self.claimant;
        Some(Claimed { id: self.id?, coupon_id, member_id, answer: answer.clone() })
    }
}
