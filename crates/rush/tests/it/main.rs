//! Runs whole scenarios over real connections, against a stub server with planted faults.

#![expect(clippy::unwrap_used, reason = "a failed test may panic; the lint exempts only functions marked as tests")]

mod checkout;
mod claims;
mod failures;
mod hostile;
mod mixed;
mod report;
mod stub_server;
