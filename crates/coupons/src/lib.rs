//! First-come coupons: definitions, claims, the waitlist, holds by orders, use and expiry.
//!
//! Owns the tables `coupons_*` and the stream `coupons`. It knows orders only by id and checks their requests itself: owner, validity,
//! store, minimum and discount. It never issues more than the quantity, and never serves a later ticket before an earlier one. It never
//! issues a coupon after its end, and never touches money.
//!
//! Rooms; each imports only from those after it: `start`, `api`, `messages`, `jobs`, `links`, `claims`, `closing`, `waitlist`, `loaded`,
//! `admission`, `store`, `model`. The room `checks` imports none of them.
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
mod checks;
mod claims;
mod closing;
mod jobs;
mod links;
mod loaded;
mod messages;
mod model;
mod start;
mod store;
mod waitlist;

use admission::{
    memory::{RefusalCache, SHARED_TTL},
    redis::{DatabaseSource, GateTimes, SharedGate},
};
use claims::deferred::HeldSlots;
use kit::Kit;
use serde::Deserialize;
use std::sync::Arc;

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

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CouponsSettings {
    pub strategy: Strategy,
    /// Refuses claims before they reach the database, where that is certain. Without it, measurements see the cost of the database alone.
    pub refuses_early: bool,
    /// Times of the gate in Redis.
    #[serde(skip)]
    pub gate: GateTimes,
}

impl Default for CouponsSettings {
    fn default() -> Self {
        Self { strategy: Strategy::default(), refuses_early: true, gate: GateTimes::default() }
    }
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

kit::module! {
    impl Module for Coupons {
        name: "coupons",
        migrations: kit::migrations!("init", "claims", postgres "room", "closing", "folded"),
        checks: checks::checks,
        reads: &messages::READS,
        consume: messages::consume,
        flush: Coupons::save,
        router: api::router,
        calls: links::register,
        jobs: jobs::all,
        start: start::start,
    }
}
