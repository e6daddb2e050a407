//! `accounts.refresh`: a refresh token for a new pair of tokens. Whoever holds the token may.
//!
//! A token is good once. Showing a used one ends the whole session, for every holder, also when the two requests run at the same time:
//! a client that refreshes twice in parallel has to sign in again. (A client that lost an answer is in the same place; telling it from
//! a thief would take a stored copy of the new token, which is what must not lie in the database.)

use super::tokens::{RefreshToken, Tokens, never_stored};
use crate::{
    Accounts,
    model::{Digest, EndReason, Member, Presented, Session, Token, present},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    http::{Input, Problem, ProblemBody, State, Trace},
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

/// A refresh token for a new pair of tokens
///
/// Whoever holds the token may.
#[utoipa::path(
    post, path = "/v1/sessions/refresh", operation_id = "accounts.refresh", tag = "accounts", request_body = ShownToken,
    responses(
        (status = 200, body = Tokens),
        (status = 401, description = "unauthenticated: unknown, expired or revoked; token-reused: the session has ended", body = ProblemBody),
    )
)]
pub async fn refresh(State(accounts): State<Arc<Accounts>>, trace: Trace, input: Input<ShownToken>) -> Result<Response, Problem> {
    let shown = RefreshToken::parse(&input.value.refresh_token).ok_or(Code::Unauthenticated)?;
    let command = Refresh { shown: shown.digest(), next: RefreshToken::fresh() };
    let answer = kit::http::run(&accounts, command, None, trace).await?;
    Ok(never_stored(answer))
}

struct Refresh {
    shown: Digest,
    next: RefreshToken,
}

/// The rows a batch of refreshes is about.
struct Families {
    tokens: HashMap<Digest, Token>,
    sessions: HashMap<Uuid, Session>,
    members: HashMap<MemberId, Member>,
}

impl Families {
    async fn load(work: &mut Work, commands: &[&Refresh]) -> Result<Families, Fault> {
        let shown: Vec<&Digest> = commands.iter().map(|command| &command.shown).collect();
        // Sessions before tokens, as everywhere: ending a session locks them in this order too.
        let ids = store::sessions::of_tokens(&mut work.tx, &shown).await?;
        let sessions = store::sessions::lock(&mut work.tx, ids).await?;
        let tokens = store::sessions::lock_tokens(&mut work.tx, &shown).await?;
        // A member's own changes end its sessions, which are locked: its row needs no lock of its own.
        let members = store::members::by_ids(&mut work.tx, sessions.iter().map(|session| session.member_id)).await?;
        Ok(Families {
            tokens: tokens.into_iter().map(|token| (token.hash, token)).collect(),
            sessions: sessions.into_iter().map(|session| (session.id, session)).collect(),
            members: members.into_iter().map(|member| (member.id, member)).collect(),
        })
    }
}

impl Command for Refresh {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.refresh";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut families = Families::load(work, commands).await?;
        let mut issued: Vec<Token> = Vec::new();
        let mut ended: Vec<Uuid> = Vec::new();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        for command in commands {
            let Some(token) = families.tokens.get_mut(&command.shown) else {
                outcomes.push(Code::Unauthenticated.into());
                continue;
            };
            let session = families.sessions.get_mut(&token.session_id).ok_or_else(|| Fault::Bug("a token without a session".into()))?;
            let member = families.members.get(&session.member_id).ok_or_else(|| Fault::Bug("a session without a member".into()))?;
            outcomes.push(match present(token, session, member.is_active(), command.next.digest(), work.now) {
                Presented::Renewed(next) => {
                    issued.push(next);
                    Answer::json(200, &Tokens::new(accounts, member, session, &command.next, work.now))?.into()
                }
                Presented::Reused => {
                    ended.push(session.id);
                    let (member_id, session_id) = (member.id, session.id);
                    work.after_commit(move || {
                        tracing::warn!(
                            target: "audit", member = %member_id, session = %session_id,
                            "a used refresh token was shown again: the session has ended"
                        );
                    });
                    Code::TokenReused.into()
                }
                Presented::Refused(code) => code.into(),
            });
        }
        // Used tokens first: a family may have one live token only, at every moment.
        store::sessions::save_tokens(&mut work.tx, families.tokens.values()).await?;
        store::sessions::insert_tokens(&mut work.tx, &issued).await?;
        accounts.end_sessions(work, ended, EndReason::TokenReused).await?;
        Ok(outcomes)
    }
}
