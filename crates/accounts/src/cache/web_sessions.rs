//! Browser sessions: exchanges a cookie for an access token, in every process (A13).
//!
//! The source of truth is a row of this service, deleted when its session ends. Each process reads the row through a link,
//! wherever accounts runs, and caches the answer in Redis for a minute. The list of ended sessions, which every process
//! keeps for access tokens, also refuses a cached session that has ended. Secrets are never stored or logged: rows, link
//! calls and cache entries hold their digest.

use crate::model::SecretDigest;
use axum::http::Method;
use contracts::{Code, MemberId, calls::GetWebSession};
use futures::future::BoxFuture;
use kit::{
    Kit,
    auth::{
        Role,
        cookie::Cookies,
        web_sessions::{ActiveSession, SessionHash, SessionResult, SessionSource, Sessions},
    },
    cache::Cache,
    http::Problem,
    links::LinkError,
};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, sync::Arc, time::Duration};
use uuid::Uuid;

/// The path that issues cookies.
const SIGN_IN_PATH: &str = "/v1/web-sessions";
/// Time for which an access token made for a cookie is reused, so that a page view costs neither a signature nor its check.
const TOKEN_TTL: Duration = Duration::from_secs(60);
/// Most cached access tokens; bounds memory.
const MAX_TOKENS: u64 = 10_000;

/// The member and session that a cookie belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieOwner {
    member_id: MemberId,
    role: Role,
    session_id: Uuid,
}

/// Loads a browser session by a call to accounts, in this process or another.
struct WebSessionLoader(Kit);

impl SessionSource for WebSessionLoader {
    type Data = CookieOwner;
    type Error = LinkError;

    fn load(&self, id: SessionHash) -> BoxFuture<'_, SessionResult<CookieOwner, LinkError>> {
        Box::pin(async move {
            let Some(found) = self.0.links.call(GetWebSession { hash: id.0 }).await? else { return Ok(None) };
            // A role unknown to this version gives no rights here.
            let Ok(role) = found.role.parse() else { return Ok(None) };
            let data = CookieOwner { member_id: found.member_id, role, session_id: found.session_id };
            Ok(Some(ActiveSession { data, expires_at: found.expires_at }))
        })
    }
}

/// Browser sessions, cached by this process.
pub struct WebSessions {
    kit: Kit,
    sessions: Sessions<WebSessionLoader>,
    /// Access tokens by session, role and minute of issue.
    tokens: Cache<(Uuid, Role, i64), String>,
}

impl WebSessions {
    pub fn new(kit: &Kit) -> WebSessions {
        let sessions = Sessions::new(WebSessionLoader(kit.clone()), kit.redis.clone(), "web", kit.cursors.clone(), Arc::clone(&kit.clock));
        WebSessions { kit: kit.clone(), sessions, tokens: Cache::new(MAX_TOKENS, TOKEN_TTL) }
    }

    /// Drops the cached sessions of cookies that ended.
    pub fn invalidate(&self, ended: Vec<SecretDigest>) {
        for hash in ended {
            self.sessions.invalidate(SessionHash(hash));
        }
    }

    /// `None`: the session has ended.
    async fn access_token(&self, owner: CookieOwner) -> Option<String> {
        let now = self.kit.clock.now();
        let key = (owner.session_id, owner.role, now.seconds().div_euclid(i64::try_from(TOKEN_TTL.as_secs()).unwrap_or(1)));
        let made = async { Ok::<_, Infallible>(self.kit.auth.issue(owner.member_id, owner.role, owner.session_id, now)) };
        let token = self.tokens.get_or_load(key, made).await.ok()?;
        // The list of ended sessions overrides the cached session.
        self.kit.auth.verify(&token).map(|_| token)
    }
}

impl Cookies for WebSessions {
    fn token<'a>(&'a self, cookie: &'a str) -> BoxFuture<'a, Result<Option<String>, Problem>> {
        Box::pin(async move {
            match self.sessions.find(cookie).await {
                Ok(Some(session)) => Ok(self.access_token(session.data).await),
                Ok(None) => Ok(None),
                Err(error) => {
                    tracing::warn!(%error, "session of a cookie not loaded");
                    Err(Problem::from(Code::Unavailable).retry_after(1))
                }
            }
        })
    }

    fn issues_cookie(&self, method: &Method, path: &str) -> bool {
        method == Method::POST && path == SIGN_IN_PATH
    }
}
