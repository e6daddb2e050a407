//! Copies in memory: ended sessions, and the browser sessions that this process has seen.

pub mod revocations;
pub mod web_sessions;
