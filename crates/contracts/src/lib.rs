//! Types that Onrush's services share: ids, money, time, messages, calls and errors.
//!
//! Services never depend on each other, so this crate holds everything that two of them must agree on. It does no IO and knows no
//! service's tables.

pub mod calls;
pub mod errors;
pub mod ids;
pub mod messages;
pub mod money;
pub mod problem;
pub mod streams;
pub mod time;

/// Names of all services. A name is the prefix of the service's tables, its schema and its stream.
pub const SERVICES: &[&str] = &["accounts", "stores", "catalog", "orders", "stock", "coupons", "wallet", "payments"];

pub use errors::{Code, Refusal};
pub use ids::*;
pub use messages::{Kind, Message};
pub use money::Won;
pub use time::Timestamp;
