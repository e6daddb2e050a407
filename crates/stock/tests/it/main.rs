//! Stock through its router and its messages.

mod adjust;
mod bad_input;
mod checkout;
mod get;
mod history;
mod listed;
mod set;
mod watch;
mod world;
