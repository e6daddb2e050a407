//! The words Onrush's services share: ids, money, time, messages, calls and errors.
//!
//! Services never depend on each other; whatever two of them must agree on is written here.
//! This crate does no IO and knows no service's tables.

pub mod calls;
pub mod errors;
pub mod ids;
pub mod messages;
pub mod money;
pub mod time;

/// Every service's name: the prefix of its tables, its schema and its stream.
pub const SERVICES: &[&str] = &["accounts", "stores", "catalog", "orders", "stock", "coupons", "wallet", "payments"];

pub use errors::{Code, Refusal};
pub use ids::*;
pub use messages::Message;
pub use money::Won;
pub use time::Timestamp;
