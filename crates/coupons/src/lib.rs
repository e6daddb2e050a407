//! First-come coupons: what is announced, who got one, who waits, which order uses it.
//!
//! Owns the tables `coupons_*` and the stream `coupons`. It knows orders only by id and takes their word for nothing: owner, validity,
//! store, minimum and discount are checked again here. It never issues more than the quantity, never serves a later ticket before an
//! earlier one, never gives out a coupon after its end, and never touches money.
//!
//! Read it in this order: `api/claim.rs` (a rush), `model/definition.rs` (its rules), `store/books.rs` (one row, loaded and saved once a
//! transaction), `waitlist.rs` (units that come back), `messages.rs` (the coupon step of a checkout).

mod api;
mod gate;
mod jobs;
mod links;
mod messages;
mod model;
pub mod redis_gate;
mod store;
mod waitlist;

use contracts::calls::GetIssuedCoupons;
use futures::future::BoxFuture;
use gate::{Doors, Gate, SHARED_TTL};
use kit::{Fault, Kit, Service, Work, db::Migration, engine::Envelope, jobs::Job, links::Answers};
use serde::Deserialize;
use std::sync::Arc;
use store::Books;
use utoipa_axum::router::OpenApiRouter;

/// How claims reach the database (C25). The answers are the same; one conformance suite holds for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All claims that arrived meanwhile are settled by one transaction.
    #[default]
    GroupCommit,
    /// A transaction for each claim: the baseline that the other is compared with.
    RowLock,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CouponsSettings {
    pub strategy: Strategy,
}

pub struct Coupons {
    kit: Kit,
    settings: CouponsSettings,
    gate: Arc<Gate>,
}

impl Coupons {
    pub fn new(kit: Kit, settings: CouponsSettings) -> Self {
        let ttl = kit.is_shared().then_some(SHARED_TTL);
        Self { kit, settings, gate: Arc::new(Gate::new(ttl)) }
    }
}

impl Service for Coupons {
    fn name(&self) -> &'static str {
        "coupons"
    }

    fn migrations(&self) -> &'static [Migration] {
        const MIGRATIONS: &[Migration] = &[Migration::new(1, "init", include_str!("../migrations/V1__init.sql"))];
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
        Box::pin(messages::consume(work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let mut books = work.take_stash::<Books>();
            let changed = books.save(&mut work.tx).await?;
            let news: Vec<_> = changed.into_iter().map(|definition| (definition.id, Doors::from(definition))).collect();
            if !news.is_empty() {
                let gate = Arc::clone(&self.gate);
                work.after_commit(move || gate.learn(news));
            }
            work.put_stash(books);
            Ok(())
        })
    }

    fn answers(self: Arc<Self>, answers: &mut Answers) {
        answers.add::<GetIssuedCoupons, _, _, _>(move |call| {
            let coupons = Arc::clone(&self);
            async move { links::issued_coupons(&coupons, call).await }
        });
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        jobs::all(&self)
    }
}
