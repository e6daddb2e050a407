//! Payments, refunds and cancellations: rules without a database or a provider.

pub mod book;
pub mod payment;

pub use book::{Book, Broken, Next, Rules};
pub use payment::{Cancellation, Payment, Refund, RefundState, Says, State, provider_key, refund_key};
