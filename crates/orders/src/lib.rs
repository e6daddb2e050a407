//! Carts and orders: what they cost, what state they are in, and the checkout saga that brings stock, coupons, points and payment together.
//!
//! Owns carts, orders, their lines, their history and the saga's state. It never touches stock, coupons, money or prices itself: it asks by
//! message, remembers what was asked, and undoes in reverse what was done when a later step is refused.

mod api;
mod carts;
mod jobs;
mod messages;
pub mod model;
mod store;
mod touched;
mod view;
mod wait;

use contracts::OrderId;
use futures::future::BoxFuture;
use kit::{
    Kit, Service, Work,
    cache::Cache,
    db::Migration,
    engine::{Envelope, Fault},
    jobs::Job,
};
use std::{sync::Arc, time::Duration};
use utoipa_axum::router::OpenApiRouter;

pub use view::{OrderSummary, OrderView};

/// How new checkouts are led (decision 2). The journeys and their outcomes are the same; an order ends in the mode it began in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SagaMode {
    /// Orders asks each participant in turn.
    #[default]
    Orchestrated,
    /// The itinerary travels from participant to participant; orders sends it off and follows it.
    Choreographed,
}

/// What the operator can set.
#[derive(Clone, Copy, Debug)]
pub struct OrdersSettings {
    /// An order that is not paid within this time is undone (decision 17).
    pub unpaid_timeout: Duration,
    pub saga: SagaMode,
}

impl Default for OrdersSettings {
    fn default() -> Self {
        Self { unpaid_timeout: Duration::from_secs(10 * 60), saga: SagaMode::default() }
    }
}

pub struct Orders {
    kit: Kit,
    settings: OrdersSettings,
    waiters: wait::Waiters,
    contents: Cache<OrderId, Arc<touched::Contents>>,
}

impl Orders {
    pub fn new(kit: Kit, settings: OrdersSettings) -> Self {
        Self { kit, settings, waiters: wait::Waiters::default(), contents: touched::contents() }
    }
}

impl Service for Orders {
    fn name(&self) -> &'static str {
        "orders"
    }

    fn migrations(&self) -> &'static [Migration] {
        const MIGRATIONS: &[Migration] = &[
            Migration::new(1, "init", include_str!("../migrations/V1__init.sql")),
            Migration::new(2, "slips", include_str!("../migrations/V2__slips.sql")),
            Migration::only_postgres(3, "room", include_str!("../migrations/V3__room.postgres.sql")),
        ];
        MIGRATIONS
    }

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(self: Arc<Self>) -> OpenApiRouter {
        api::routes(self)
    }

    fn reads(&self) -> &'static [&'static str] {
        messages::READS
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(self, work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(touched::flush(self, work))
    }

    fn noticed(&self, text: Option<&str>) {
        match text.map(uuid::Uuid::try_parse) {
            Some(Ok(id)) => self.waiters.wake(OrderId(id)),
            _ => self.waiters.wake_all(),
        }
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        jobs::jobs(&self)
    }
}
