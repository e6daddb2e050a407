//! Stock through its router and its messages.

mod adjust;
mod bad_input;
mod checkout;
mod choreography;
mod get;
mod history;
mod listed;
mod replicas;
mod set;
mod watch;
mod world;
