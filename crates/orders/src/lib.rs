//! Carts and orders: prices, order states, and the checkout saga over stock, coupons, points and payment.
//!
//! Owns carts, orders, their lines, their history and the saga's state. It changes stock, coupons, money and prices only by messages to
//! their services. It remembers each request, and undoes the completed steps in reverse order when a later step is refused.

mod api;
mod jobs;
mod loaded;
mod messages;
pub mod model;
mod store;
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

/// Mode of new checkouts (decision 2). Both modes have the same outcomes. An order ends in the mode it began in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SagaMode {
    /// The orders service sends a request to each participant in turn.
    #[default]
    Orchestrated,
    /// A routing slip travels from participant to participant. The orders service sends it and reads its progress.
    Choreographed,
}

/// Settings of the operator.
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
    contents_cache: Cache<OrderId, Arc<loaded::OrderContents>>,
}

impl Orders {
    pub fn new(kit: Kit, settings: OrdersSettings) -> Self {
        Self { kit, settings, waiters: wait::Waiters::default(), contents_cache: loaded::contents_cache() }
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

    fn reads(&self) -> &'static [contracts::Kind] {
        messages::READS
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(self, work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(loaded::flush(self, work))
    }

    fn on_notification(&self, text: Option<&str>) {
        match text.map(uuid::Uuid::try_parse) {
            Some(Ok(id)) => self.waiters.wake(OrderId(id)),
            _ => self.waiters.wake_all(),
        }
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        jobs::jobs(&self)
    }
}
