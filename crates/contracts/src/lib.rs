//! Types that Onrush's services share: ids, money, time, messages, calls and errors.
//!
//! Services never depend on each other, so this crate holds everything that two of them must agree on. It does no IO and knows no
//! service's tables.

pub mod calls;
pub mod errors;
mod folding;
pub mod ids;
pub mod messages;
pub mod money;
pub mod problem;
mod services;
pub mod streams;
pub mod time;

pub use errors::{Code, Refusal};
pub use folding::fold_text;
pub use ids::*;
pub use messages::{Kind, Message};
pub use money::Won;
pub use services::{SERVICES, SplitGroup, split_groups};
pub use time::Timestamp;
