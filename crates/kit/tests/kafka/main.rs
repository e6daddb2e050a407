//! Streams over Kafka, on a real broker at `ONRUSH_TEST_KAFKA` (started by `./scripts/services`). Only tests that break brokers use the
//! mock of the client library.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../common/broker.rs"]
mod broker;
mod lost;
mod outage;
mod publishing;
mod reading;
mod topics;
mod world;
