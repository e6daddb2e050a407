//! Carts and orders: prices, order states, and the checkout saga over stock, coupons, points and payment.
//!
//! Owns carts, orders, their lines, their history and the saga's state. It changes stock, coupons, money and prices only by messages to
//! their services. It remembers each request, and undoes the completed steps in reverse order when a later step is refused.

mod api;
mod checks;
mod jobs;
mod links;
mod loaded;
mod messages;
pub mod model;
mod store;
mod view;
mod wait;

use contracts::OrderId;
use kit::{Kit, cache::Cache};
use std::{sync::Arc, time::Duration};

pub use checks::{RUNNING_SAGA, STUCK_SAGA};
pub use model::UnpaidLimits;
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
    /// Limits on orders without payment (H4).
    pub unpaid: UnpaidLimits,
}

impl Default for OrdersSettings {
    fn default() -> Self {
        Self { unpaid_timeout: Duration::from_secs(10 * 60), saga: SagaMode::default(), unpaid: UnpaidLimits::default() }
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

kit::module! {
    impl Module for Orders {
        name: "orders",
        migrations: kit::migrations!("init", "slips", postgres "room", "unpaid"),
        checks: checks::checks,
        reads: &messages::READS,
        consume: messages::consume,
        flush: loaded::flush,
        on_notification: wait::on_notification,
        router: api::router,
        calls: links::register,
        jobs: jobs::all,
    }
}
