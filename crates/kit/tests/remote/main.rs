//! What processes do to each other, over real sockets: questions, forwarded requests, peers that fail.

mod client;
mod discovery;
mod faults;
mod forwarding;
mod headers;
mod links;
mod signatures;
mod streams;
mod support;
