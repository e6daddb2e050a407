//! Stores through their routes, on a database of their own.

mod create;
mod get;
mod links;
mod list;
mod messages;
mod replicas;
mod start;
mod support;
