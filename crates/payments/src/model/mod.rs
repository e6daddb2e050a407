//! Payments, refunds and cancellations: pure rules, without database and provider.

pub mod loaded;
pub mod payment;

pub use loaded::{LoadedPayment, LoadedPayments, NextAction, PaymentInvariantViolation, PaymentRules};
pub use payment::{Cancellation, Payment, PaymentState, ProviderStatus, Refund, RefundState, provider_key, refund_key};
