//! Accounts: who may come in, and as what.
//!
//! Owns members, their sessions, and what these are continued with: refresh tokens, and the cookies of browsers. Everyone else knows a member only by its id and by what its access token says.
//! It never keeps a password, a refresh token or a cookie, only their hashes; and it never hashes a password on the writer's thread.

mod api;
mod bootstrap;
mod credentials;
mod import;
mod jobs;
mod messages;
mod model;
mod revocations;
mod store;
mod web;

pub use import::{ImportError, Imported, NewMember};

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
    links::Answers,
};
use model::EndReason;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;
use web::WebSessions;

/// What the process is told about accounts.
#[derive(Clone, Default)]
pub struct AccountsSettings {
    /// E-mail and password of an operator that exists after the start.
    pub operator: Option<(String, String)>,
}

pub struct Accounts {
    kit: Kit,
    settings: AccountsSettings,
    passwords: PasswordGate,
    attempts: LoginAttempts,
    web: Arc<WebSessions>,
}

impl Accounts {
    pub fn new(kit: Kit, settings: AccountsSettings) -> Accounts {
        let attempts = LoginAttempts::shared(kit.redis.clone(), Arc::clone(&kit.clock));
        let web = Arc::new(WebSessions::new(&kit));
        Accounts { kit, settings, passwords: PasswordGate::default(), attempts, web }
    }

    /// Ends sessions: in the database with this transaction, and for their access tokens and cookies as soon as it is durable.
    async fn end_sessions(&self, work: &mut Work, ids: Vec<Uuid>, reason: EndReason) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut ids = ids;
        ids.sort_unstable();
        ids.dedup();
        store::sessions::revoke(&mut work.tx, &ids, reason, work.now).await?;
        let cookies = store::web_sessions::end(&mut work.tx, &ids).await?;
        for text in revocations::texts(&ids) {
            work.notice(text);
        }
        let (auth, web, now) = (self.kit.auth.clone(), Arc::clone(&self.web), work.now);
        work.after_commit(move || {
            for id in ids {
                auth.revoke_session(id, now);
            }
            web.forget(cookies);
        });
        Ok(())
    }

    /// Ends all sessions of each of these members but the one named. The members must be locked: then none gets another one meanwhile.
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

    fn reads(&self) -> &'static [&'static str] {
        &["store.created"]
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(work, messages))
    }

    fn noticed(&self, text: Option<&str>) {
        revocations::noticed(&self.kit, text);
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        vec![jobs::prune_sessions(self)]
    }

    fn cookies(self: Arc<Self>) -> Option<Arc<dyn Cookies>> {
        Some(Arc::clone(&self.web) as _)
    }

    fn answers(self: Arc<Self>, answers: &mut Answers) {
        let accounts = Arc::clone(&self);
        answers.add::<GetWebSession, _, _, _>(move |call| web::answer(Arc::clone(&accounts), call));
        answers.add::<GetEndedSessions, _, _, _>(move |call| {
            let accounts = Arc::clone(&self);
            async move { store::sessions::revoked_since(&mut *accounts.kit.db.reader().await?, call.since).await }
        });
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(bootstrap::start(self))
    }

    fn start_elsewhere(self: Arc<Self>) {
        revocations::start_elsewhere(&self);
    }
}
