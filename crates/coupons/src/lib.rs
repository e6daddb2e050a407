//! First-come coupons: definitions, claims, the waitlist, holds by orders, use and expiry.
//!
//! Owns the tables `coupons_*` and the stream `coupons`. It knows orders only by id and checks their requests itself: owner, validity,
//! store, minimum and discount. It never issues more than the quantity, and never serves a later ticket before an earlier one. It never
//! issues a coupon after its end, and never touches money.
//!
//! Rooms; each imports only from those after it: `api`, `messages`, `jobs`, `links`, `claims`, `waitlist`, `loaded`, `admission`, `store`, `model`.
//! (All of them know [`Coupons`], the service itself.)
//!
//! Reading order:
//! - `api/claim.rs`: one operation.
//! - `model/definition.rs`: its rules.
//! - `loaded.rs`: its rows, loaded and saved once per transaction.
//! - `waitlist.rs`: units that are returned.
//! - `messages.rs`: the coupon step of a checkout.
//!
//! A function whose name ends in `_in` joins the running transaction of its caller.

pub mod admission;
mod api;
mod claims;
mod jobs;
mod links;
mod loaded;
mod messages;
mod model;
mod store;
mod waitlist;

use admission::{
    memory::{RefusalCache, SHARED_TTL},
    redis::{DatabaseSource, GateTimes, SharedGate},
};
use claims::deferred::HeldSlots;
use contracts::calls::GetIssuedCoupons;
use futures::future::BoxFuture;
use kit::{Fault, Kit, Service, Work, db::Migration, engine::Envelope, jobs::Job, links::CallHandlers};
use serde::Deserialize;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

/// The way of claims to the database (C25). All strategies give the same answers, and one conformance suite tests them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One transaction settles all claims that arrived during the previous one.
    #[default]
    GroupCommit,
    /// One transaction per claim: the baseline for measurements.
    RowLock,
    /// One gate in Redis, shared by all processes, admits as many claims as there are units. They are settled as under `GroupCommit`.
    Redis,
}

impl Strategy {
    /// The name in settings and reports.
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
    /// Times of the gate in Redis.
    #[serde(skip)]
    pub gate: GateTimes,
}

pub struct Coupons {
    kit: Kit,
    settings: CouponsSettings,
    /// Early refusals of this process. Unused while there is a gate.
    refusals: Arc<RefusalCache>,
    /// The gate of all processes. `None`: the strategy is not `Redis`.
    gate: Option<SharedGate>,
    held_slots: Arc<HeldSlots>,
}

impl Coupons {
    pub fn new(kit: Kit, settings: CouponsSettings) -> Self {
        let ttl = kit.is_shared().then_some(SHARED_TTL);
        let redis = kit.redis.clone().filter(|_| settings.strategy == Strategy::Redis);
        let gate = redis.map(|redis| SharedGate::new(redis, Arc::new(DatabaseSource(kit.db.clone())), settings.gate));
        Self { kit, settings, refusals: Arc::new(RefusalCache::new(ttl)), gate, held_slots: Arc::default() }
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

    fn reads(&self) -> &'static [contracts::Kind] {
        messages::READS
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(self, work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.save(work))
    }

    fn register_calls(self: Arc<Self>, handlers: &mut CallHandlers) {
        handlers.register::<GetIssuedCoupons, _, _, _>(move |call| {
            let coupons = Arc::clone(&self);
            async move { links::issued_coupons(&coupons, call).await }
        });
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            if self.settings.strategy == Strategy::Redis && self.gate.is_none() {
                return Err(Fault::Setting("claim_strategy: redis needs a Redis; set redis to its URL".into()));
            }
            Ok(())
        })
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        jobs::all(&self)
    }
}
