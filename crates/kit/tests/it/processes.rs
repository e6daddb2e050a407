//! Several processes on one PostgreSQL database, over its tables and over Kafka, with all that can go wrong between them. These choose
//! their databases themselves; `ONRUSH_TEST_DATABASE` changes nothing here.

mod lost_messages;
mod poison;
mod rebalances;
mod relays;
mod replay;
mod takeover;
mod zombies;

use super::{broker, world};
