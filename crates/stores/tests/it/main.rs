//! Stores through the router, on a database of its own.

mod create;
mod get;
mod links;
mod list;
mod replicas;
mod start;
mod support;
