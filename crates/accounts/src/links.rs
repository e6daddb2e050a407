//! Answers to other services and processes: the session of a cookie, and the sessions that ended.

use crate::{
    Accounts,
    model::{MemberState, SecretDigest},
    store,
};
use contracts::{
    Timestamp,
    calls::{GetEndedSessions, GetWebSession, HasAccount, WebSession},
};
use kit::{Answer, Command, DbError, Fault, Outcome, Work, links::CallHandlers};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

pub fn register(accounts: &Arc<Accounts>, handlers: &mut CallHandlers) {
    handlers.register_for(accounts, web_session);
    handlers.register_for(accounts, ended_sessions);
    handlers.register_for(accounts, has_account);
}

/// Reads the session of a cookie from the database, and extends the cookie because its browser is active.
/// `None`: the cookie is unknown or expired, or its session has ended.
async fn web_session(accounts: Arc<Accounts>, call: GetWebSession) -> Result<Option<WebSession>, DbError> {
    let now = accounts.kit.clock.now();
    let found = store::web_sessions::find(&mut *accounts.kit.db.reader().await?, &call.hash, now).await?;
    let Some(mut found) = found else { return Ok(None) };
    if let Some(end) = found.cookie.extended_until(found.session_ends, now) {
        let command = ExtendCookie { hash: call.hash, session_id: found.cookie.session_id, expires_at: end };
        match accounts.kit.batch.submit(&accounts, command, None, Uuid::nil()).await {
            Ok(_) => found.cookie.expires_at = end,
            // The next use of the cookie tries again.
            Err(error) => tracing::warn!(%error, session = %found.cookie.session_id, "cookie not extended"),
        }
    }
    Ok(Some(WebSession {
        member_id: found.member_id,
        role: found.role.as_str().to_owned(),
        session_id: found.cookie.session_id,
        expires_at: found.cookie.expires_at,
    }))
}

/// Reads the sessions that ended at or after `since`, with their times.
async fn ended_sessions(accounts: Arc<Accounts>, call: GetEndedSessions) -> Result<Vec<(Uuid, Timestamp)>, DbError> {
    store::sessions::revoked_since(&mut *accounts.kit.db.reader().await?, call.since).await
}

async fn has_account(accounts: Arc<Accounts>, call: HasAccount) -> Result<bool, DbError> {
    let found = store::members::by_id(&mut *accounts.kit.db.reader().await?, call.member_id).await?;
    Ok(found.is_some_and(|member| member.state != MemberState::Closed))
}

/// Moves the expiry of a cookie, unless its session has ended.
struct ExtendCookie {
    hash: SecretDigest,
    session_id: Uuid,
    expires_at: Timestamp,
}

impl Command for ExtendCookie {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.extend_web_session";

    async fn handle<'a>(_: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let sessions = store::sessions::lock(&mut work.tx, commands.iter().map(|command| command.session_id)).await?;
        let ends: HashMap<Uuid, Timestamp> =
            sessions.iter().filter(|session| session.is_live(work.now)).map(|session| (session.id, session.expires_at)).collect();
        let live = commands.iter().filter_map(|command| {
            let session_ends = ends.get(&command.session_id)?;
            Some((&command.hash, command.expires_at.min(*session_ends)))
        });
        store::web_sessions::extend(&mut work.tx, live).await?;
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
