//! The catalogue through its router and its links.

mod bad_input;
mod create;
mod crowded;
mod delete;
mod fresh;
mod get;
mod list;
mod prices;
mod replicas;
mod update;
mod world;
