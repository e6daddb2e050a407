//! `accounts.edit_me`: changes name, phone number or password. Any signed-in account, for itself.
//!
//! A new password requires the current one. It ends all other sessions of the account and their access tokens.

use super::{
    sign_up::{checked_phone, invalid},
    views::Profile,
};
use crate::{
    Accounts,
    model::{EndReason, Member, MemberChanges, NewPassword},
    store,
};
use axum::response::Response;
use contracts::{Code, MemberId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::{Caller, password},
    extract::SignedIn,
    http::{Input, Peer, Problem, ProblemBody, State, Trace, rules, text},
};
use serde::{Deserialize, Deserializer};
use std::{collections::HashMap, sync::Arc};
use utoipa::ToSchema;
use uuid::Uuid;

/// Absent fields stay unchanged.
#[derive(Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileChanges {
    #[serde(default, deserialize_with = "text::cleaned_option")]
    #[garde(custom(rules::text(100)))]
    #[schema(min_length = 1, max_length = 100)]
    pub name: Option<String>,
    /// `null` removes the number.
    #[serde(default, deserialize_with = "deserialize_present")]
    #[garde(custom(rules::text(30)))]
    #[schema(value_type = Option<String>, max_length = 30)]
    pub phone: Option<Option<String>>,
    /// The new password; `current_password` must be given with it.
    #[serde(default)]
    #[garde(skip)]
    #[schema(min_length = 8)]
    pub password: Option<String>,
    #[serde(default)]
    #[garde(skip)]
    pub current_password: Option<String>,
}

/// Distinguishes `null` from an absent field.
fn deserialize_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Changes name, phone number or password
///
/// Any signed-in account, for itself. Wrong current passwords have a limit of their own, by account and address.
/// They do not count for signing in.
#[utoipa::path(
    patch, path = "/v1/me", operation_id = "accounts.edit_me", tag = "accounts", request_body = ProfileChanges,
    responses(
        (status = 200, body = Profile),
        (status = 401, description = "unauthenticated; bad-credentials: the current password is wrong", body = ProblemBody),
        (status = 422, description = "invalid-field, too-long, unknown-field, weak-password", body = ProblemBody),
        (status = 429, description = "too-many-attempts: too many wrong current passwords; too-many-requests; both with Retry-After", body = ProblemBody),
        (status = 503, description = "overloaded: too many passwords are being checked", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn edit_me(
    State(accounts): State<Arc<Accounts>>,
    SignedIn(caller): SignedIn,
    peer: Peer,
    trace: Trace,
    input: Input<ProfileChanges>,
) -> Result<Response, Problem> {
    let key = accounts.protect_request_hash(input.key(caller.member_id));
    // A repeat of a new password must get its first answer: the current password is another one by then.
    kit::submit::run_prepared(&accounts, key, trace, prepare(&accounts, &caller, peer, &input.value)).await
}

async fn prepare(accounts: &Accounts, caller: &Caller, peer: Peer, form: &ProfileChanges) -> Result<EditAccount, Problem> {
    let name = form.name.clone();
    let phone = form.phone.as_ref().map(|phone| phone.as_deref().map(checked_phone).transpose()).transpose()?;
    let password = match (&form.password, &form.current_password) {
        (Some(new), Some(current)) => Some(new_password(accounts, caller, peer, new, current).await?),
        (Some(_), None) => return Err(invalid("/current_password", "must be given with a new password")),
        (None, _) => None,
    };
    let changes = MemberChanges { name, phone, password };
    Ok(EditAccount { member_id: caller.member_id, session_id: caller.session_id, changes })
}

async fn new_password(accounts: &Accounts, caller: &Caller, peer: Peer, new: &str, current: &str) -> Result<NewPassword, Problem> {
    let member = {
        let mut reader = accounts.kit.db.reader().await?;
        store::members::by_id(&mut reader, caller.member_id).await?
    };
    let member = member.filter(Member::is_active).ok_or(Code::Unauthenticated)?;
    password::check_strength(new, &[&member.email, &member.name])?;
    let member = accounts.confirm_password(member, peer, current).await?;
    let hash = accounts.hash_changed(new, peer).await?;
    Ok(NewPassword { verified_hash: member.password_hash, hash })
}

struct EditAccount {
    member_id: MemberId,
    /// The caller's session; a new password ends all others.
    session_id: Uuid,
    changes: MemberChanges,
}

impl Command for EditAccount {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.edit_me";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let members = store::members::lock(&mut work.tx, commands.iter().map(|command| command.member_id)).await?;
        let mut members: HashMap<MemberId, Member> = members.into_iter().map(|member| (member.id, member)).collect();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        let mut new_passwords: Vec<&EditAccount> = Vec::new();
        for command in commands {
            let Some(member) = members.get_mut(&command.member_id) else {
                outcomes.push(Code::Unauthenticated.into());
                continue;
            };
            match member.edit(&command.changes) {
                Ok(()) => {
                    if command.changes.password.is_some() {
                        new_passwords.push(command);
                    }
                    outcomes.push(Answer::json(200, &Profile::from(&*member))?.into());
                }
                Err(code) => outcomes.push(code.into()),
            }
        }
        store::members::save(&mut work.tx, members.values()).await?;
        let ended = new_passwords.into_iter().map(|command| (command.member_id, Some(command.session_id)));
        accounts.end_sessions_of(work, ended, EndReason::PasswordChanged).await?;
        Ok(outcomes)
    }
}
