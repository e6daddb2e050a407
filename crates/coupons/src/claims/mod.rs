//! Claims inside a transaction: `settle` decides them, `deferred` brings those of the claims log there, `answer` has their answers.

pub mod answer;
pub mod deferred;
mod settle;

pub use settle::{Claimant, settle};
