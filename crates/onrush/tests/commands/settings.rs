//! Accepted and refused settings, with the real binary.

mod config_check;
mod refusals;
mod shared_redis;
