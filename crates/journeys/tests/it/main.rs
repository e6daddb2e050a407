//! The stories Onrush is for, told to the whole product.

mod audit_plants;
mod authorization;
mod bad_input;
mod crash;
mod documents;
mod idempotency;
mod kill;
mod mall;
mod prose;
mod races;
mod rooms;
mod saga_faults;
mod structure;
