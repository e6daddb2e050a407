//! The catalogue through its routes and links.

mod bad_input;
mod cache_freshness;
mod create;
mod delete;
mod get;
mod list;
mod pool_exhaustion;
mod prices;
mod replicas;
mod summaries;
mod update;
mod world;
