//! Former names, for code outside the engine that still uses them.

pub(crate) use super::subscriptions as streams;
pub use super::{
    MessageSource as Feed, Notifications as Wires, StreamPartition as Place, list_dead_letters as dead_letters,
    reset_offsets as find_by_number,
};

pub(crate) mod lanes {
    pub(crate) use super::super::assignment::{
        INSTANCE_LEASE_PREFIX as PRESENCE, PartitionAssignment as Lanes, leased_partition as lane_of,
    };
}

pub(crate) mod steward {
    pub(crate) use super::super::lease_connection::LeaseConnection as Steward;
}
