//! Several processes on one PostgreSQL database, over its tables and over Kafka, with faults between them. These tests choose their
//! databases themselves and ignore `ONRUSH_TEST_DATABASE`.

mod lost_messages;
mod poison;
mod rebalances;
mod relays;
mod replay;
mod takeover;
mod zombies;

use super::{broker, world};
