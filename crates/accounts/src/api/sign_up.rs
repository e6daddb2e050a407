//! `accounts.sign_up`: opens a customer account. Anyone, within limits for each address and in all.

use super::views::Profile;
use crate::{
    Accounts,
    credentials::anonymous_key_scope,
    model::{self, Email, Member, SecretDigest},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId, Message, messages::MemberRegistered};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::{Role, password},
    http::{Peer, Problem, ProblemBody, State, StrangerInput, Trace, rules, text},
    ports,
};
use serde::Deserialize;
use std::{collections::HashSet, sync::Arc};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Identifies the account; case does not matter.
    #[garde(custom(rules::text(254)))]
    #[schema(max_length = 254, example = "minji@example.com")]
    pub email: String,
    /// At least 8 characters, and hard to guess; any characters.
    #[garde(skip)]
    #[schema(min_length = 8)]
    pub password: String,
    #[serde(deserialize_with = "text::cleaned")]
    #[garde(custom(rules::text(100)))]
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    #[serde(default)]
    #[garde(custom(rules::text(30)))]
    #[schema(max_length = 30, example = "010-1234-5678")]
    pub phone: Option<String>,
}

/// Opens a customer account
///
/// Anyone. There is no mail yet, so the answer tells whether an address has an account, and nothing proves that the caller owns it.
/// The number of sign-ups is limited by client address and in all.
#[utoipa::path(
    post, path = "/v1/accounts", operation_id = "accounts.sign_up", tag = "accounts", request_body = NewAccount,
    responses(
        (status = 201, body = Profile),
        (status = 409, description = "email-taken: an account has this address, or an operator who closed the account had it", body = ProblemBody),
        (status = 422, description = "invalid-field, too-long, unknown-field, weak-password", body = ProblemBody),
        (status = 429, description = "too-many-requests: too many sign-ups from this address, with Retry-After", body = ProblemBody),
        (status = 503, description = "overloaded: too many sign-ups, with Retry-After", body = ProblemBody),
    )
)]
pub async fn sign_up(
    State(accounts): State<Arc<Accounts>>,
    peer: Peer,
    trace: Trace,
    input: StrangerInput<NewAccount>,
) -> Result<Response, Problem> {
    let form = &input.value;
    let email = Email::parse(&form.email).ok_or_else(|| invalid("/email", "must be an e-mail address"))?;
    let name = form.name.clone();
    let phone = form.phone.as_deref().map(checked_phone).transpose()?;
    password::check_strength(&form.password, &[&email.shown, &name])?;
    let key = accounts.protect_request_hash(input.key(anonymous_key_scope(&email.normalized)));
    let limits = &accounts.kit.limits;
    limits.take_sign_up(peer.source()).await?;
    let password_hash = match accounts.hash_new(&form.password, peer).await {
        Ok(hash) => hash,
        Err(too_busy) => {
            limits.give_back_sign_up(peer.source()).await;
            return Err(too_busy);
        }
    };
    let command = SignUp {
        id: MemberId(ports::new_id()),
        email,
        name,
        phone,
        password_hash,
        role: Role::Customer,
        takes_reserved: false,
        trace: trace.0,
    };
    kit::submit::run(&accounts, command, key, trace).await
}

pub fn checked_phone(text: &str) -> Result<String, Problem> {
    model::parse_phone(text).ok_or_else(|| invalid("/phone", "must have 8 to 15 digits; spaces, hyphens and a leading + are fine"))
}

pub fn invalid(pointer: &str, message: &str) -> Problem {
    Problem::field(pointer, Code::InvalidField, message)
}

/// Opens an account. The password was hashed outside the transaction.
pub struct SignUp {
    pub id: MemberId,
    pub email: Email,
    pub name: String,
    pub phone: Option<String>,
    pub password_hash: String,
    pub role: Role,
    /// A reserved address is no obstacle.
    pub takes_reserved: bool,
    pub trace: Uuid,
}

impl Command for SignUp {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.sign_up";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let emails = commands.iter().map(|command| command.email.normalized.as_str());
        let known = store::members::with_emails(&mut work.tx, emails).await?;
        let mut taken: HashSet<&str> = known.iter().filter_map(|member| member.email_normalized.as_deref()).collect();
        let hashes: Vec<SecretDigest> = commands.iter().map(|command| accounts.address_hash(&command.email.normalized)).collect();
        let reserved = store::reserved_addresses::among(&mut work.tx, &hashes).await?;
        let mut released: Vec<SecretDigest> = Vec::new();
        let mut opened: Vec<Member> = Vec::with_capacity(commands.len());
        let mut outcomes = Vec::with_capacity(commands.len());
        for (command, hash) in commands.iter().zip(&hashes) {
            let is_reserved = reserved.contains(hash);
            if is_reserved && !command.takes_reserved || !taken.insert(&command.email.normalized) {
                outcomes.push(Code::EmailTaken.into());
                continue;
            }
            if is_reserved {
                released.push(*hash);
            }
            let (name, phone, hash) = (command.name.clone(), command.phone.clone(), command.password_hash.clone());
            let member = Member::new(command.id, &command.email, name, phone, hash, command.role, work.now);
            outcomes.push(Answer::json(201, &Profile::from(&member))?.into());
            work.trace(member.id, command.trace);
            work.emit(member.id, Message::MemberRegistered(MemberRegistered { member_id: member.id }))?;
            opened.push(member);
        }
        store::reserved_addresses::release(&mut work.tx, &released).await?;
        store::members::insert(&mut work.tx, &opened).await?;
        Ok(outcomes)
    }
}
