//! The machinery under every service. It knows no business word.
//!
//! A write goes: HTTP handler → [`batch::Batch::submit`] → one transaction for all commands that waited → answer after the commit.
//! Messages written in that transaction are numbered into the service's outbox and handed to their readers, inside the same
//! transaction (folded) or in one of the reader's own.

pub mod auth;
pub mod batch;
pub mod breaker;
pub mod cache;
pub mod db;
pub mod engine;
pub mod gateway;
pub mod http;
pub mod idempotency;
pub mod jobs;
pub mod kafka;
pub mod links;
pub mod ports;
pub mod process;
pub mod redis;
pub mod service;
pub mod tasks;
pub mod telemetry;
pub mod testing;

pub use batch::{Answer, Command, Outcome, Reply};
pub use db::{Db, DbError, Param, Row, Tx};
pub use engine::{Fault, Work};
pub use service::{Kit, Service};
