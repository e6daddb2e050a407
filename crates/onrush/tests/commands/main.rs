//! The real binary's commands and settings.
//!
//! Needs servers: `ONRUSH_TEST_POSTGRES` and `ONRUSH_TEST_REDIS`, or `./scripts/services run -- cargo test -p onrush --test commands`.

mod binary;
mod copy;
mod operator;
mod private_files;
mod settings;
