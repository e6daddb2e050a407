//! Bulk import of members for `onrush seed` and `onrush demo`: thousands of accounts in seconds, each with a session and an access token.
//!
//! Imported members have no password, so only these tokens give access. A second import of an address returns the account
//! of the first one with another session. An address that a person signed up with is never touched.

use crate::{
    Accounts,
    model::{Email, Member, Session, UNUSABLE_PASSWORD},
    store,
};
use contracts::{Code, MemberId, Message, messages::MemberRegistered};
use kit::{Answer, Command, Fault, Outcome, Reply, Work, auth::Role, batch::SubmitError, ports};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Members per command. Each is a transaction of a few thousand rows, so that requests wait milliseconds, not seconds.
const CHUNK: usize = 500;

pub struct NewMember {
    pub member_id: MemberId,
    pub email: String,
    pub name: String,
}

/// An imported member with an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedMember {
    /// The id of the first import, if the address was imported before.
    pub member_id: MemberId,
    pub email: String,
    pub access_token: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0} is not an e-mail address")]
    BadEmail(String),
    /// An address of the chunk belongs to an account that was not imported. This chunk was not imported, the ones before were.
    #[error("an address belongs to an account that was not imported")]
    Taken,
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("unexpected answer to the import: {0}")]
    Unexpected(String),
}

impl Accounts {
    /// Imports members as customers. Returns them in the order given.
    pub async fn import(self: &Arc<Self>, members: Vec<NewMember>) -> Result<Vec<ImportedMember>, ImportError> {
        let mut imported = Vec::with_capacity(members.len());
        for chunk in members.chunks(CHUNK) {
            let rows = chunk
                .iter()
                .map(|member| {
                    let email = Email::parse(&member.email).ok_or_else(|| ImportError::BadEmail(member.email.clone()))?;
                    Ok(ImportRow { member_id: member.member_id, email, name: member.name.clone(), session_id: ports::new_id() })
                })
                .collect::<Result<Vec<ImportRow>, ImportError>>()?;
            let opened = match self.kit.batch.submit(self, ImportMembers { rows }, None, ports::new_id()).await? {
                Reply::Answer(answer) if answer.status == 200 => serde_json::from_slice::<Vec<OpenedSession>>(&answer.body)
                    .map_err(|error| ImportError::Unexpected(error.to_string()))?,
                Reply::Answer(answer) if answer.status == Code::EmailTaken.status() => return Err(ImportError::Taken),
                reply => return Err(ImportError::Unexpected(format!("{reply:?}"))),
            };
            let now = self.kit.clock.now();
            imported.extend(opened.into_iter().zip(chunk).map(|(opened, member)| ImportedMember {
                member_id: opened.member_id,
                email: member.email.clone(),
                access_token: self.kit.auth.issue(opened.member_id, opened.role, opened.session_id, now),
            }));
        }
        Ok(imported)
    }
}

struct ImportRow {
    member_id: MemberId,
    email: Email,
    name: String,
    session_id: Uuid,
}

/// Imports one chunk, all members or none.
struct ImportMembers {
    rows: Vec<ImportRow>,
}

/// A session opened by the import.
#[derive(Serialize, Deserialize)]
struct OpenedSession {
    member_id: MemberId,
    session_id: Uuid,
    role: Role,
}

impl Command for ImportMembers {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.import";

    async fn handle<'a>(_: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(import(work, &command.rows).await?);
        }
        Ok(outcomes)
    }
}

async fn import(work: &mut Work, rows: &[ImportRow]) -> Result<Outcome, Fault> {
    let known = store::members::with_emails(&mut work.tx, rows.iter().map(|row| row.email.normalized.as_str())).await?;
    // Locked, so that no account is closed while it gets a session here.
    let known = store::members::lock(&mut work.tx, known.iter().map(|member| member.id)).await?;
    if known.iter().any(|member| member.has_usable_password() || !member.is_active()) {
        return Ok(Code::EmailTaken.into());
    }
    let mut by_email: HashMap<&str, (MemberId, Role)> =
        known.iter().filter_map(|member| Some((member.email_normalized.as_deref()?, (member.id, member.role)))).collect();
    let mut members: Vec<Member> = Vec::with_capacity(rows.len());
    let mut sessions: Vec<Session> = Vec::with_capacity(rows.len());
    let mut opened: Vec<OpenedSession> = Vec::with_capacity(rows.len());
    for row in rows {
        let (member_id, role) = *by_email.entry(&row.email.normalized).or_insert_with(|| {
            let (name, hash) = (row.name.clone(), UNUSABLE_PASSWORD.to_owned());
            members.push(Member::new(row.member_id, &row.email, name, None, hash, Role::Customer, work.now));
            (row.member_id, Role::Customer)
        });
        sessions.push(Session::open(row.session_id, member_id, work.now));
        opened.push(OpenedSession { member_id, session_id: row.session_id, role });
    }
    store::members::insert(&mut work.tx, &members).await?;
    store::sessions::insert(&mut work.tx, &sessions).await?;
    for member in &members {
        work.emit(member.id, Message::MemberRegistered(MemberRegistered { member_id: member.id }))?;
    }
    Ok(Answer::json(200, &opened)?.into())
}
