//! Those who move real money. One interface; whatever a provider is called, a call of it may be lost before, during or after its effect.
//!
//! Never called inside a transaction. A provider charges a key at most once and gives a refund key back at most once, however often it is asked.

mod test;

pub use test::{ProviderBook, TestProvider};

use contracts::{OrderId, Won};
use futures::future::BoxFuture;
use std::time::Duration;

/// A request to take money.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Names the payment at the provider.
    pub key: String,
    pub order_id: OrderId,
    pub amount: Won,
    /// What the buyer brought.
    pub token: Option<String>,
}

/// A request to give the whole of a charge back.
#[derive(Clone, Debug)]
pub struct GiveBack {
    pub key: String,
    pub charge_key: String,
    pub amount: Won,
}

/// What became of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeAnswer {
    Charged { reference: String },
    Declined { reason: String },
}

/// No usable answer: what happened is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider gave no usable answer: {0}")]
pub struct ProviderError(pub String);

pub type Answered<'a, T> = BoxFuture<'a, Result<T, ProviderError>>;

pub trait Provider: Send + Sync + 'static {
    /// Answers as they arrive; a provider may say the same thing more than once.
    fn charge(&self, ask: Charge) -> Answered<'_, Vec<ChargeAnswer>>;

    /// What the provider knows about a key. `None`: there is no record of it.
    fn find(&self, key: String) -> Answered<'_, Option<ChargeAnswer>>;

    /// The provider's reference of the refund.
    fn give_back(&self, ask: GiveBack) -> Answered<'_, String>;

    /// A call that left no record this long after it was made never will.
    fn guarantee(&self) -> Duration;
}
