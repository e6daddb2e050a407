//! The processes that run a service and their duties, read from the leases in its database. For operators of an installation.

use db::{Db, DbError};
use engine::{assignment, lease};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The duties of one process for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// The shares of other services' streams that this process reads.
    pub partitions: Vec<i64>,
    /// Duties that one process has at a time: `jobs`, `relay`, `sequencer`.
    pub duties: Vec<String>,
}

/// The processes that run this service now, by their names in leases. Needs PostgreSQL and the service's tables.
pub async fn presences(db: &Db, service: &str) -> Result<BTreeMap<Uuid, Presence>, DbError> {
    let mut found: BTreeMap<Uuid, Presence> = BTreeMap::new();
    for (name, holder) in lease::running(&mut *db.reader().await?, service, "").await? {
        let presence = found.entry(holder).or_default();
        if let Some(partition) = assignment::leased_partition(&name) {
            presence.partitions.push(partition);
        } else if !name.starts_with(assignment::INSTANCE_LEASE_PREFIX) {
            presence.duties.push(name);
        }
    }
    Ok(found)
}
