//! Tests of coupons through the real router, on a database of its own. The other services are stubs.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail like a test")]

mod change;
mod checkout;
mod choreography;
mod claim;
mod closing;
mod conformance;
mod create;
mod delete;
mod early_refusal;
mod expiry;
mod get;
mod give_back;
mod list;
mod list_mine;
mod outcome;
mod random;
mod redis_gate;
mod redis_losses;
mod redis_rush;
mod replicas;
mod rush;
mod standing;
mod support;
mod waitlist;
mod without_log;
