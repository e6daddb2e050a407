//! What processes do to each other, over real sockets: questions, forwarded requests, peers that fail.

mod client;
mod faults;
mod forwarding;
mod headers;
mod links;
mod signatures;
mod stage;
mod streams;
mod whereabouts;
