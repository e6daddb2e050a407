//! Test support for whole malls: the real binary as processes in every shape, their backends, and clients that retry. Never released.

pub mod backends;
pub mod client;
pub mod crash;
pub mod fleet;
pub mod load;
pub mod process;
pub mod retrying_client;
pub mod servers;
