//! Accepted and refused settings, with the real binary.
//!
//! Needs servers: `ONRUSH_TEST_POSTGRES` and `ONRUSH_TEST_REDIS`, or `./scripts/services run -- cargo test -p onrush --test settings`.

#[path = "../common/binary.rs"]
mod binary;
mod config_check;
mod refusals;
mod shared_redis;
