//! Streams over Kafka, on a real broker at `ONRUSH_TEST_KAFKA` (started by `./scripts/services`). Only tests that break brokers use the
//! mock of the client library.

mod lost;
mod outage;
mod publishing;
mod reading;
mod topics;
mod world;
