//! What the tests of whole malls share: the real binary as processes, in every shape, the servers they stand on, and shoppers that do not
//! give up. Never released.

pub mod backends;
pub mod client;
pub mod crash;
pub mod fleet;
pub mod load;
pub mod process;
pub mod retrying_client;
pub mod servers;
