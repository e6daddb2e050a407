//! Streams over Kafka, on a real broker at `ONRUSH_TEST_KAFKA` (`./scripts/services` brings one up). Only what a test breaks on purpose, a
//! broker that is down or refuses, is played by the client library's own mock.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../common/broker.rs"]
mod broker;
mod lost;
mod outage;
mod publishing;
mod reading;
mod topics;
mod world;
