//! Journeys of shoppers and operators through the whole product.

mod authorization;
mod bad_input;
mod closing;
mod crash;
mod documents;
mod idempotency;
mod kill;
mod mall;
mod planted_faults;
mod prose;
mod races;
mod rooms;
mod saga_faults;
mod serve;
mod server_trouble;
mod structure;
