//! Copies of a mall between its folder, PostgreSQL and a file, with the real binary; and the audit of PostgreSQL.
//!
//! Needs a server: `ONRUSH_TEST_POSTGRES`, or `./scripts/services run -- cargo test -p onrush --test copy`.

mod arguments;
mod audit;
#[path = "../common/binary.rs"]
mod binary;
mod moving;
mod refusals;
mod repair;
mod solo_mall;
