//! Other processes of the installation: signed calls between services ([`links`]), and the [`gateway`] to services that run elsewhere.
//!
//! This crate decides no business rule.

pub mod gateway;
pub mod links;
