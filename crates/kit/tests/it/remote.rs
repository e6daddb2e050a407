//! Communication between processes over real sockets: calls, forwarded requests, failing peers.

mod client;
mod discovery;
mod faults;
mod forwarding;
mod headers;
mod links;
mod signatures;
mod streams;
mod support;
