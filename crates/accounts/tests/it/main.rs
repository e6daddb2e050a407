//! Accounts through its routes, on a database of its own.

mod close_me;
mod edit_me;
mod end_session;
mod get;
mod import;
mod list_sessions;
mod me;
mod messages;
mod operators;
mod prune_sessions;
mod refresh;
mod replicas;
mod set_state;
mod sign_in;
mod sign_out;
mod sign_out_everywhere;
mod sign_up;
mod start;
mod support;
mod web_replicas;
mod web_sign_in;
mod web_sign_out;
