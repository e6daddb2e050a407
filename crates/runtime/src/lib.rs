//! The ground of a process: clock, ids, randomness, tasks and shutdown, logs and metrics, breaker, failpoints, keys, the current trace.
//!
//! This crate does no network or disk IO, and knows no database.

pub mod backoff;
pub mod breaker;
#[cfg(feature = "testing")]
pub mod captured_log;
pub mod failpoints;
pub mod keys;
pub mod line_limit;
pub mod metrics_help;
pub mod one_reader;
pub mod ports;
pub mod tasks;
pub mod telemetry;
pub mod trace;
