//! Accounts: sign-up, sign-in, sessions and roles.
//!
//! Owns members, their sessions, refresh tokens and browser cookies.
//! Other services know a member only by its id and by the claims of its access token.
//! It stores hashes of passwords, refresh tokens and cookies, never the secrets. It never hashes a password on the writer's thread.

mod api;
mod cache;
mod credentials;
mod import;
mod jobs;
mod links;
mod messages;
mod model;
mod start;
mod store;

pub use import::{ImportError, ImportedMember, NewMember};

use cache::{revocations, web_sessions::WebSessions};
use contracts::{
    MemberId,
    calls::{GetEndedSessions, GetWebSession},
};
use futures::future::BoxFuture;
use kit::{
    Fault, Kit, Service, Work,
    auth::{LoginAttempts, PasswordGate, cookie::Cookies},
    db::Migration,
    engine::Envelope,
    jobs::Job,
    links::CallHandlers,
};
use model::EndReason;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
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
        let attempts = LoginAttempts::shared(kit.redis.clone(), Arc::clone(&kit.clock));
        let web_sessions = Arc::new(WebSessions::new(&kit));
        Accounts { kit, settings, passwords: PasswordGate::default(), attempts, web_sessions }
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

impl Service for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn migrations(&self) -> &'static [Migration] {
        const MIGRATIONS: &[Migration] = &[
            Migration::new(1, "init", include_str!("../migrations/V1__init.sql")),
            Migration::new(2, "web_sessions", include_str!("../migrations/V2__web_sessions.sql")),
        ];
        MIGRATIONS
    }

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(self: Arc<Self>) -> OpenApiRouter {
        api::router(self)
    }

    fn reads(&self) -> &'static [contracts::Kind] {
        &[contracts::Kind::StoreCreated]
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(work, messages))
    }

    fn on_notification(&self, text: Option<&str>) {
        revocations::apply_notification(&self.kit, text);
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        vec![jobs::prune_sessions(self)]
    }

    fn cookies(self: Arc<Self>) -> Option<Arc<dyn Cookies>> {
        Some(Arc::clone(&self.web_sessions) as _)
    }

    fn register_calls(self: Arc<Self>, handlers: &mut CallHandlers) {
        let accounts = Arc::clone(&self);
        handlers.register::<GetWebSession, _, _, _>(move |call| links::web_session(Arc::clone(&accounts), call));
        handlers.register::<GetEndedSessions, _, _, _>(move |call| links::ended_sessions(Arc::clone(&self), call));
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(start::start(self))
    }

    fn start_remote(self: Arc<Self>) {
        revocations::start_remote(&self);
    }
}
