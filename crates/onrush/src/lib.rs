//! Onrush: commerce backend for the moment when everyone arrives at once.
//!
//! This crate assembles the services and contains the commands of the binary. It contains no business rules.

pub mod audit;
pub mod commands;
pub mod copy;
pub mod demo;
pub mod documents;
pub mod in_process;
pub mod mall;
pub mod private;
pub mod settings;
