//! Copies of a mall between its folder, PostgreSQL and a file, with the real binary; and the audit of PostgreSQL.

mod arguments;
mod audit;
mod moving;
mod refusals;
mod repair;
pub mod solo_mall;
