//! `accounts.refresh`: exchanges a refresh token for a new pair of tokens. Any holder of the token.
//!
//! A token works once. A second use ends the whole session for every holder, even if both requests run at the same time.
//! So a client that refreshes twice in parallel has to sign in again. A client that lost an answer has to, as well:
//! telling it from a thief would take a stored copy of the new token, and the database must not hold one.

use super::tokens::{RefreshSecret, TokenPair, no_store};
use crate::{
    Accounts,
    model::{EndReason, Member, RefreshToken, Rotation, SecretDigest, Session, rotate},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    http::{Peer, Problem, ProblemBody, State, StrangerInput, Trace},
    line_limit::LineLimit,
};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShownToken {
    #[garde(skip)]
    pub refresh_token: String,
}

/// Exchanges a refresh token for a new pair of tokens
///
/// Any holder of the token. A session refreshes ten times at once, and then once a minute. A refused refresh leaves the token usable.
#[utoipa::path(
    post, path = "/v1/sessions/refresh", operation_id = "accounts.refresh", tag = "accounts", request_body = ShownToken,
    responses(
        (status = 200, body = TokenPair),
        (status = 401, description = "unauthenticated: unknown, expired or revoked; token-reused: the session has ended", body = ProblemBody),
        (status = 429, description = "too-many-requests, with Retry-After", body = ProblemBody),
    )
)]
pub async fn refresh(
    State(accounts): State<Arc<Accounts>>,
    peer: Peer,
    trace: Trace,
    input: StrangerInput<ShownToken>,
) -> Result<Response, Problem> {
    let shown = RefreshSecret::parse(&input.value.refresh_token).ok_or(Code::Unauthenticated)?.digest();
    let session_id = {
        let mut reader = accounts.kit.db.reader().await?;
        store::sessions::of_tokens(&mut reader, &[&shown]).await?.pop().ok_or(Code::Unauthenticated)?
    };
    accounts.kit.limits.take_refresh(session_id, peer.source())?;
    let command = RefreshSession { shown, next: RefreshSecret::generate() };
    let answer = kit::submit::run(&accounts, command, None, trace).await?;
    Ok(no_store(answer))
}

struct RefreshSession {
    shown: SecretDigest,
    next: RefreshSecret,
}

/// The rows that a batch of refreshes needs.
struct Families {
    tokens: HashMap<SecretDigest, RefreshToken>,
    sessions: HashMap<Uuid, Session>,
    members: HashMap<MemberId, Member>,
}

impl Families {
    async fn load(work: &mut Work, commands: &[&RefreshSession]) -> Result<Families, Fault> {
        let shown: Vec<&SecretDigest> = commands.iter().map(|command| &command.shown).collect();
        // Sessions before tokens, the order in which ending a session locks them as well.
        let ids = store::sessions::of_tokens(&mut work.tx, &shown).await?;
        let sessions = store::sessions::lock(&mut work.tx, ids).await?;
        let tokens = store::sessions::lock_tokens(&mut work.tx, &shown).await?;
        // Closing or disabling a member ends its sessions, and these are locked. So the member's row needs no lock.
        let members = store::members::by_ids(&mut work.tx, sessions.iter().map(|session| session.member_id)).await?;
        Ok(Families {
            tokens: tokens.into_iter().map(|token| (token.hash, token)).collect(),
            sessions: sessions.into_iter().map(|session| (session.id, session)).collect(),
            members: members.into_iter().map(|member| (member.id, member)).collect(),
        })
    }
}

static REUSED: LineLimit = LineLimit::new("used refresh token presented again");

fn log_reuse(member: MemberId, session: Uuid) {
    metrics::counter!("onrush_accounts_tokens_reused_total").increment(1);
    if let Some(left_out) = REUSED.take() {
        tracing::warn!(
            target: "audit", %member, %session, left_out,
            "session ended: a used refresh token was presented again"
        );
    }
}

impl Command for RefreshSession {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.refresh";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut families = Families::load(work, commands).await?;
        let mut issued: Vec<RefreshToken> = Vec::new();
        let mut ended: Vec<Uuid> = Vec::new();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        for command in commands {
            let Some(token) = families.tokens.get_mut(&command.shown) else {
                outcomes.push(Code::Unauthenticated.into());
                continue;
            };
            let session = families.sessions.get_mut(&token.session_id).ok_or_else(|| Fault::Bug("a token without a session".into()))?;
            let member = families.members.get(&session.member_id).ok_or_else(|| Fault::Bug("a session without a member".into()))?;
            outcomes.push(match rotate(token, session, member.is_active(), command.next.digest(), work.now) {
                Rotation::Rotated(next) => {
                    issued.push(next);
                    Answer::json(200, &TokenPair::new(accounts, member, session, &command.next, work.now))?.into()
                }
                Rotation::Reused => {
                    // A token shown several times in a batch ends its session once.
                    if !ended.contains(&session.id) {
                        ended.push(session.id);
                        let (member_id, session_id) = (member.id, session.id);
                        work.after_commit(move || log_reuse(member_id, session_id));
                    }
                    Code::TokenReused.into()
                }
                Rotation::Refused(code) => code.into(),
            });
        }
        // Used tokens first, because the unique index allows one live token per family at any moment.
        store::sessions::save_tokens(&mut work.tx, families.tokens.values()).await?;
        store::sessions::insert_tokens(&mut work.tx, &issued).await?;
        accounts.end_sessions(work, ended, EndReason::TokenReused).await?;
        Ok(outcomes)
    }
}
