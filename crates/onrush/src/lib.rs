//! Onrush: commerce backend for the moment when everyone arrives at once.
//!
//! This crate puts the services together, and holds the commands of the binary. It decides no business rule.

pub mod audit;
pub mod commands;
pub mod copy;
pub mod demo;
pub mod documents;
pub mod in_process;
pub mod mall;
pub mod settings;
