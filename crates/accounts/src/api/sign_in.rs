//! `accounts.sign_in`: opens a session. Anyone with an address and its password.
//!
//! An unknown address, a wrong password, a closed and a disabled account get the same answer after the same work.
//! No answer is stored under an `Idempotency-Key`, because it would put tokens into the database. A repeat opens a second session.

use super::{
    tokens::{RefreshSecret, TokenPair, no_store},
    views::Profile,
};
use crate::{
    Accounts,
    model::{Email, RefreshToken, Session, SessionCookie},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::web_sessions::SessionHash,
    http::{Peer, Problem, ProblemBody, State, StrangerInput, Trace, rules},
    ports,
};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    #[garde(custom(rules::text(254)))]
    #[schema(max_length = 254)]
    pub email: String,
    #[garde(skip)]
    pub password: String,
}

/// Opens a session
///
/// Anyone with an address and its password.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "accounts.sign_in", tag = "accounts", request_body = Credentials,
    responses(
        (status = 200, body = TokenPair),
        (status = 401, description = "bad-credentials", body = ProblemBody),
        (status = 429, description = "too-many-attempts: too many wrong passwords or sign-ins, with Retry-After", body = ProblemBody),
        (status = 503, description = "overloaded: too many passwords are being checked", body = ProblemBody),
    )
)]
pub async fn sign_in(
    State(accounts): State<Arc<Accounts>>,
    peer: Peer,
    trace: Trace,
    input: StrangerInput<Credentials>,
) -> Result<Response, Problem> {
    let command = accounts.open_session(&input.value, peer, SessionCredential::Tokens(RefreshSecret::generate())).await?;
    let answer = kit::submit::run(&accounts, command, None, trace).await?;
    Ok(no_store(answer))
}

impl Accounts {
    /// Checks the password and returns the command that opens the session.
    pub(super) async fn open_session(&self, form: &Credentials, peer: Peer, credential: SessionCredential) -> Result<OpenSession, Problem> {
        let address = Email::parse(&form.email).map(|email| email.normalized);
        let member = match &address {
            Some(normalized) => {
                let mut reader = self.kit.db.reader().await?;
                store::members::by_email(&mut reader, normalized).await?
            }
            None => None,
        };
        // Guesses at a text that is no address are counted under that text, like those at an unknown address.
        let account = address.unwrap_or_else(|| form.email.to_lowercase());
        let member = self.check_password(&account, peer, member, &form.password).await?;
        Ok(OpenSession { member_id: member.id, verified_hash: member.password_hash, session_id: ports::new_id(), credential })
    }
}

/// The secret that continues a session.
pub(super) enum SessionCredential {
    /// For programs, whose answer contains the tokens.
    Tokens(RefreshSecret),
    /// For browsers, whose answer contains the profile.
    Cookie(SessionHash),
}

/// Opens a session for a member whose password was checked outside the transaction.
pub(super) struct OpenSession {
    member_id: MemberId,
    verified_hash: String,
    session_id: Uuid,
    credential: SessionCredential,
}

impl Command for OpenSession {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.sign_in";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let members = store::members::lock(&mut work.tx, commands.iter().map(|command| command.member_id)).await?;
        let members: HashMap<MemberId, _> = members.into_iter().map(|member| (member.id, member)).collect();
        let mut sessions: Vec<Session> = Vec::with_capacity(commands.len());
        let (mut tokens, mut cookies): (Vec<RefreshToken>, Vec<SessionCookie>) = (Vec::new(), Vec::new());
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let Some(member) = members.get(&command.member_id).filter(|member| member.confirm_password(&command.verified_hash).is_ok())
            else {
                outcomes.push(Code::BadCredentials.into());
                continue;
            };
            let session = Session::open(command.session_id, member.id, work.now);
            let answer = match &command.credential {
                SessionCredential::Tokens(token) => {
                    tokens.push(RefreshToken::issue(token.digest(), &session, work.now));
                    Answer::json(200, &TokenPair::new(accounts, member, &session, token, work.now))
                }
                SessionCredential::Cookie(SessionHash(hash)) => {
                    cookies.push(SessionCookie::issue(*hash, &session, work.now));
                    Answer::json(200, &Profile::from(member))
                }
            };
            outcomes.push(answer?.into());
            sessions.push(session);
        }
        store::sessions::insert(&mut work.tx, &sessions).await?;
        store::sessions::insert_tokens(&mut work.tx, &tokens).await?;
        store::web_sessions::insert(&mut work.tx, &cookies).await?;
        Ok(outcomes)
    }
}
