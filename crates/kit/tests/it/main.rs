//! The engine's guarantees: an answered command is durable, an emitted message is read once and in order, and one failure does not affect
//! other work. Then the features over Kafka, over Redis, and between processes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod batch;
mod broker;
mod db;
mod dead_letters;
mod deliver;
mod epochs;
mod faults;
mod fold;
mod idempotency;
mod kafka;
mod links_jobs_cache;
mod locks;
mod processes;
mod redis;
mod redrive;
mod remote;
mod retention;
mod streams;
mod work;
mod world;
