//! First-come coupons: what is announced, who got one, who waits, which order uses it.
//!
//! Owns the tables `coupons_*` and the stream `coupons`. It knows orders only by id and takes their word for nothing: owner, validity,
//! store, minimum and discount are checked again here. It never issues more than the quantity, never serves a later ticket before an
//! earlier one, never gives out a coupon after its end, and never touches money.
//!
//! Read it in this order: `api/claim.rs` (a rush), `model/definition.rs` (its rules), `store/books.rs` (one row, loaded and saved once a
//! transaction), `waitlist.rs` (units that come back), `messages.rs` (the coupon step of a checkout).

mod api;
mod entrance;
mod gate;
mod jobs;
mod later;
mod links;
mod messages;
mod model;
pub mod redis_gate;
mod settle;
mod store;
mod waitlist;

use contracts::calls::GetIssuedCoupons;
use futures::future::BoxFuture;
use gate::{Gate, SHARED_TTL};
use kit::{Fault, Kit, Service, Work, db::Migration, engine::Envelope, jobs::Job, links::Answers};
use redis_gate::{Database, GateTimes, SharedGate};
use serde::Deserialize;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

/// How claims reach the database (C25). The answers are the same; one conformance suite holds for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All claims that arrived meanwhile are settled by one transaction.
    #[default]
    GroupCommit,
    /// A transaction for each claim: the baseline that the others are compared with.
    RowLock,
    /// One gate for all processes, in Redis, lets in as many as there are units; their claims are settled like those of `GroupCommit`.
    Redis,
}

impl Strategy {
    /// As it is called in settings and reports.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::GroupCommit => "group_commit",
            Strategy::RowLock => "row_lock",
            Strategy::Redis => "redis",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CouponsSettings {
    pub strategy: Strategy,
    /// Of the gate in Redis.
    #[serde(skip)]
    pub gate: GateTimes,
}

pub struct Coupons {
    kit: Kit,
    settings: CouponsSettings,
    gate: Arc<Gate>,
    /// The gate of all processes, under that strategy.
    shared: Option<SharedGate>,
    held: Arc<later::Held>,
}

impl Coupons {
    pub fn new(kit: Kit, settings: CouponsSettings) -> Self {
        let ttl = kit.is_shared().then_some(SHARED_TTL);
        let redis = kit.redis.clone().filter(|_| settings.strategy == Strategy::Redis);
        let shared = redis.map(|redis| SharedGate::new(redis, Arc::new(Database(kit.db.clone())), settings.gate));
        Self { kit, settings, gate: Arc::new(Gate::new(ttl)), shared, held: Arc::default() }
    }
}

impl Service for Coupons {
    fn name(&self) -> &'static str {
        "coupons"
    }

    fn migrations(&self) -> &'static [Migration] {
        const MIGRATIONS: &[Migration] = &[
            Migration::new(1, "init", include_str!("../migrations/V1__init.sql")),
            Migration::new(2, "claims", include_str!("../migrations/V2__claims.sql")),
            Migration::only_postgres(3, "room", include_str!("../migrations/V3__room.postgres.sql")),
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
        messages::READS
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(self, work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.save(work))
    }

    fn answers(self: Arc<Self>, answers: &mut Answers) {
        answers.add::<GetIssuedCoupons, _, _, _>(move |call| {
            let coupons = Arc::clone(&self);
            async move { links::issued_coupons(&coupons, call).await }
        });
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            if self.settings.strategy == Strategy::Redis && self.shared.is_none() {
                return Err(Fault::Setting("claim_strategy: redis needs a Redis; set redis to its URL".into()));
            }
            Ok(())
        })
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        jobs::all(&self)
    }
}
