//! Accounts: sign-up, sign-in, sessions and roles.
//!
//! Owns members, their sessions, refresh tokens and browser cookies.
//! Other services know a member only by its id and by the claims of its access token.
//! It stores hashes of passwords, refresh tokens and cookies, never the secrets. It never hashes a password on the writer's thread.

mod api;
mod cache;
mod checks;
mod credentials;
mod import;
mod jobs;
mod links;
mod messages;
mod model;
mod operators;
mod start;
mod store;

pub use import::{ImportError, ImportedMember, NewMember};
pub use operators::{OperatorAddition, OperatorCard, OperatorError, list_operators};

use cache::{revocations, web_sessions::WebSessions};
use contracts::MemberId;
use kit::{
    Fault, Kit, Work,
    auth::{LoginAttempts, PasswordGate, cookie::Cookies},
};
use model::EndReason;
use std::sync::Arc;
use uuid::Uuid;

/// Settings of the accounts service.
#[derive(Clone, Default)]
pub struct AccountsSettings {
    /// E-mail and password of the operator that the start creates, unless it exists.
    pub operator: Option<(String, String)>,
}

pub struct Accounts {
    kit: Kit,
    settings: AccountsSettings,
    passwords: PasswordGate,
    attempts: LoginAttempts,
    web_sessions: Arc<WebSessions>,
}

impl Accounts {
    pub fn new(kit: Kit, settings: AccountsSettings) -> Accounts {
        let attempts = LoginAttempts::new(Arc::clone(&kit.limits), kit.redis.clone());
        let web_sessions = Arc::new(WebSessions::new(&kit));
        Accounts { kit, settings, passwords: PasswordGate::default(), attempts, web_sessions }
    }

    fn cookie_authority(&self) -> Arc<dyn Cookies> {
        Arc::clone(&self.web_sessions) as _
    }

    /// Ends sessions. The transaction marks them in the database. After the commit, this process and the others refuse their
    /// access tokens and cookies.
    async fn end_sessions(&self, work: &mut Work, ids: Vec<Uuid>, reason: EndReason) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut ids = ids;
        ids.sort_unstable();
        ids.dedup();
        store::sessions::revoke(&mut work.tx, &ids, reason, work.now).await?;
        let cookies = store::web_sessions::end(&mut work.tx, &ids).await?;
        for text in revocations::notification_texts(&ids) {
            work.notify(text);
        }
        let (auth, web_sessions, now) = (self.kit.auth.clone(), Arc::clone(&self.web_sessions), work.now);
        work.after_commit(move || {
            for id in ids {
                auth.revoke_session(id, now);
            }
            web_sessions.invalidate(cookies);
        });
        Ok(())
    }

    /// Ends all sessions of each member, except the session named with it, if any.
    /// The caller has locked the members, so that none of them opens another session meanwhile.
    async fn end_sessions_of(
        &self,
        work: &mut Work,
        members: impl IntoIterator<Item = (MemberId, Option<Uuid>)> + Send,
        reason: EndReason,
    ) -> Result<(), Fault> {
        let members: Vec<(MemberId, Option<Uuid>)> = members.into_iter().collect();
        let mut ids = Vec::new();
        for (member_id, keep) in members {
            let open = store::sessions::open_of(&mut work.tx, member_id).await?;
            ids.extend(open.into_iter().filter(|id| Some(*id) != keep));
        }
        self.end_sessions(work, ids, reason).await
    }
}

kit::module! {
    impl Module for Accounts {
        name: "accounts",
        migrations: kit::migrations!("init", "web_sessions", "closing"),
        checks: checks::checks,
        reads: messages::READS,
        consume: messages::consume,
        on_notification: revocations::on_notification,
        router: api::router,
        calls: links::register,
        jobs: jobs::all,
        cookies: Accounts::cookie_authority,
        start: start::start,
        start_remote: revocations::start_remote,
    }
}
