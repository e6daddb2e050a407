//! Stock through its routes and messages.

mod adjust;
mod bad_input;
mod checkout;
mod choreography;
mod get;
mod history;
mod list_skus;
mod overdue_holds;
mod replicas;
mod set;
mod world;
