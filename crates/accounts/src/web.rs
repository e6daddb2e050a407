//! Sessions of browsers: whom a cookie stands for, in every process (A13).
//!
//! The truth is a row of this service, which ends with its session. Processes ask for it by a link, wherever accounts run, and keep what
//! they were told in Redis for a minute. A session that ended meanwhile is refused all the same: by the list of ended sessions, which
//! every process keeps for access tokens. No secret is stored or logged anywhere; rows, questions and copies have its digest.

use crate::{Accounts, model::Digest, store};
use axum::http::Method;
use contracts::{
    Code, MemberId, Timestamp,
    calls::{GetWebSession, WebSession},
};
use futures::future::BoxFuture;
use kit::{
    Answer, Command, Fault, Kit, Outcome, Work,
    auth::{Role, cookie::Cookies},
    cache::Cache,
    http::Problem,
    links::LinkError,
    redis::sessions::{Loaded, Session, SessionHash, SessionTruth, Sessions},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};
use uuid::Uuid;

/// What hands out cookies.
pub const SIGN_IN: &str = "/v1/web-sessions";
/// An access token made for a cookie serves it for so long, so that a page does not cost a signature, nor its checks.
const TOKEN_TIME: Duration = Duration::from_secs(60);
const TOKENS: u64 = 10_000;

/// Whom a cookie stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    member_id: MemberId,
    role: Role,
    session_id: Uuid,
}

/// Asks accounts, here or elsewhere.
struct AskAccounts(Kit);

impl SessionTruth for AskAccounts {
    type Data = Owner;
    type Error = LinkError;

    fn load(&self, id: SessionHash) -> BoxFuture<'_, Loaded<Owner, LinkError>> {
        Box::pin(async move {
            let Some(found) = self.0.links.call(GetWebSession { hash: id.0 }).await? else { return Ok(None) };
            // A role that this version does not know gives no rights in it.
            let Ok(role) = found.role.parse() else { return Ok(None) };
            let data = Owner { member_id: found.member_id, role, session_id: found.session_id };
            Ok(Some(Session { data, expires_at: found.expires_at }))
        })
    }
}

/// The browsers' sessions as one process knows them.
pub struct WebSessions {
    kit: Kit,
    sessions: Sessions<AskAccounts>,
    /// By session, role, and the minute in which they were made.
    tokens: Cache<(Uuid, Role, i64), String>,
}

impl WebSessions {
    pub fn new(kit: &Kit) -> WebSessions {
        let sessions = Sessions::new(AskAccounts(kit.clone()), kit.redis.clone(), "web", kit.cursors.clone(), Arc::clone(&kit.clock));
        WebSessions { kit: kit.clone(), sessions, tokens: Cache::new(TOKENS, TOKEN_TIME) }
    }

    /// These ended.
    pub fn forget(&self, ended: Vec<Digest>) {
        for hash in ended {
            self.sessions.forget(SessionHash(hash));
        }
    }

    async fn token_of(&self, owner: Owner) -> Option<String> {
        let now = self.kit.clock.now();
        let key = (owner.session_id, owner.role, now.seconds().div_euclid(i64::try_from(TOKEN_TIME.as_secs()).unwrap_or(1)));
        let made = async { Ok::<_, Infallible>(self.kit.auth.issue(owner.member_id, owner.role, owner.session_id, now)) };
        let token = self.tokens.get_or_load(key, made).await.ok()?;
        // Refused where the session is on the list of those that ended, whatever a copy says.
        self.kit.auth.verify(&token).map(|_| token)
    }
}

impl Cookies for WebSessions {
    fn token<'a>(&'a self, cookie: &'a str) -> BoxFuture<'a, Result<Option<String>, Problem>> {
        Box::pin(async move {
            match self.sessions.find(cookie).await {
                Ok(Some(session)) => Ok(self.token_of(session.data).await),
                Ok(None) => Ok(None),
                Err(error) => {
                    tracing::warn!(%error, "it cannot be known whose a cookie is");
                    Err(Problem::from(Code::Unavailable).retry_after(1))
                }
            }
        })
    }

    fn are_asked_for(&self, method: &Method, path: &str) -> bool {
        method == Method::POST && path == SIGN_IN
    }
}

/// The truth about a cookie. It lives on because somebody asks.
pub async fn answer(accounts: Arc<Accounts>, call: GetWebSession) -> Result<Option<WebSession>, kit::DbError> {
    let now = accounts.kit.clock.now();
    let found = store::web_sessions::find(&mut *accounts.kit.db.reader().await?, &call.hash, now).await?;
    let Some(mut found) = found else { return Ok(None) };
    if let Some(end) = found.web.extension(found.session_ends, now) {
        let command = Extend { hash: call.hash, session_id: found.web.session_id, expires_at: end };
        match accounts.kit.submit(&accounts, command, None, Uuid::nil()).await {
            Ok(_) => found.web.expires_at = end,
            // There will be other occasions.
            Err(error) => tracing::warn!(%error, session = %found.web.session_id, "a browser's session was not made longer"),
        }
    }
    Ok(Some(WebSession {
        member_id: found.member_id,
        role: found.role.as_str().to_owned(),
        session_id: found.web.session_id,
        expires_at: found.web.expires_at,
    }))
}

/// Moves the end of a cookie's time, unless its session has ended.
struct Extend {
    hash: Digest,
    session_id: Uuid,
    expires_at: Timestamp,
}

impl Command for Extend {
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
