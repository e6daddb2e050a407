//! The whole way over real connections, against a stand-in for the server that can be told to break each promise.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on may stop; the lint's own exception covers only functions marked as tests"
)]

mod checkout;
mod claims;
mod mixed;
mod troubles;
mod world;
