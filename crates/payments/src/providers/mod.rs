//! Payment providers, behind one interface. A call may be lost before, during or after its effect.
//!
//! Called only outside of transactions. A provider charges each key at most once, and refunds each refund key at most once.

mod test;

pub use test::{TestLedger, TestProvider};

use contracts::{OrderId, Won};
use futures::future::BoxFuture;
use std::time::Duration;

/// A request to charge a payment.
#[derive(Clone, Debug)]
pub struct ChargeRequest {
    /// Idempotency key of the payment.
    pub key: String,
    pub order_id: OrderId,
    pub amount: Won,
    /// Token from the buyer.
    pub token: Option<String>,
}

/// A request to refund a whole charge.
#[derive(Clone, Debug)]
pub struct RefundRequest {
    /// Idempotency key of the refund.
    pub key: String,
    pub charge_key: String,
    pub amount: Won,
}

/// Outcome of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeAnswer {
    Charged { reference: String },
    Declined { reason: String },
}

/// No usable answer. The outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider gave no usable answer: {0}")]
pub struct ProviderError(pub String);

pub type ProviderFuture<'a, T> = BoxFuture<'a, Result<T, ProviderError>>;

pub trait Provider: Send + Sync + 'static {
    /// Charges a payment. A provider may give the same answer more than once.
    fn charge(&self, request: ChargeRequest) -> ProviderFuture<'_, Vec<ChargeAnswer>>;

    /// Looks a charge up by its key. `None`: the provider has no record of it.
    fn find_charge(&self, key: String) -> ProviderFuture<'_, Option<ChargeAnswer>>;

    /// Refunds a charge and returns the provider's reference.
    fn refund(&self, request: RefundRequest) -> ProviderFuture<'_, String>;

    /// Maximum time from a call to its record. A call without a record after it never had an effect.
    fn record_deadline(&self) -> Duration;
}
