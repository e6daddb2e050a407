//! What is built over Redis, on a real one: right while it answers, and right, only slower, when it is gone, emptied or late.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod cache;
mod fenced;
mod limit;
mod lock;
mod outage;
mod sessions;
mod support;
