//! `accounts.sign_in`: opens a session. Anyone with an address and its password may.
//!
//! Unknown address, wrong password, closed and disabled account are told the same, after the same work.
//! Signing in twice only makes two sessions, so no answer is stored under an `Idempotency-Key`: it would keep tokens in the database.

use super::{
    tokens::{RefreshToken, Tokens, never_stored},
    views::Profile,
};
use crate::{
    Accounts,
    model::{Email, Session, Token, WebSession},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    http::{Input, Peer, Problem, ProblemBody, State, Trace, rules},
    ports,
    redis::sessions::SessionHash,
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
/// Anyone with an address and its password may.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "accounts.sign_in", tag = "accounts", request_body = Credentials,
    responses(
        (status = 200, body = Tokens),
        (status = 401, description = "bad-credentials", body = ProblemBody),
        (status = 429, description = "too-many-attempts, with Retry-After", body = ProblemBody),
        (status = 503, description = "overloaded: too many passwords are being checked", body = ProblemBody),
    )
)]
pub async fn sign_in(
    State(accounts): State<Arc<Accounts>>,
    peer: Peer,
    trace: Trace,
    input: Input<Credentials>,
) -> Result<Response, Problem> {
    let command = accounts.open_session(&input.value, peer, Credential::Tokens(RefreshToken::fresh())).await?;
    let answer = kit::http::run(&accounts, command, None, trace).await?;
    Ok(never_stored(answer))
}

impl Accounts {
    /// Checks a password: the command that opens the session then.
    pub(super) async fn open_session(&self, form: &Credentials, peer: Peer, credential: Credential) -> Result<OpenSession, Problem> {
        let address = Email::parse(&form.email).map(|email| email.normalized);
        let member = match &address {
            Some(normalized) => {
                let mut reader = self.kit.db.reader().await?;
                store::members::by_email(&mut reader, normalized).await?
            }
            None => None,
        };
        // An address that cannot exist is counted under its own text, like any unknown one.
        let account = address.unwrap_or_else(|| form.email.to_lowercase());
        let member = self.check_password(&account, peer, member, &form.password).await?;
        Ok(OpenSession { member_id: member.id, checked_against: member.password_hash, session_id: ports::new_id(), credential })
    }
}

/// What a session is continued with.
pub(super) enum Credential {
    /// By programs, which are told the tokens.
    Tokens(RefreshToken),
    /// By browsers, which are told who they are.
    Cookie(SessionHash),
}

/// Opens a session for a member whose password was checked outside the transaction.
pub(super) struct OpenSession {
    member_id: MemberId,
    checked_against: String,
    session_id: Uuid,
    credential: Credential,
}

impl Command for OpenSession {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.sign_in";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let members = store::members::lock(&mut work.tx, commands.iter().map(|command| command.member_id)).await?;
        let members: HashMap<MemberId, _> = members.into_iter().map(|member| (member.id, member)).collect();
        let mut sessions: Vec<Session> = Vec::with_capacity(commands.len());
        let (mut tokens, mut cookies): (Vec<Token>, Vec<WebSession>) = (Vec::new(), Vec::new());
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let Some(member) = members.get(&command.member_id).filter(|member| member.lets_in(&command.checked_against).is_ok()) else {
                outcomes.push(Code::BadCredentials.into());
                continue;
            };
            let session = Session::open(command.session_id, member.id, work.now);
            let answer = match &command.credential {
                Credential::Tokens(token) => {
                    tokens.push(Token::issue(token.digest(), &session, work.now));
                    Answer::json(200, &Tokens::new(accounts, member, &session, token, work.now))
                }
                Credential::Cookie(SessionHash(hash)) => {
                    cookies.push(WebSession::open(*hash, &session, work.now));
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
