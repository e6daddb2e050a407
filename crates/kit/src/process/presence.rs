//! Who does what for a service at the moment, as the leases in its database say. For people who look after an installation.

use crate::{
    db::{Db, DbError},
    engine::{lanes, lease},
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What one process does for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Parts of other services' streams that it reads.
    pub lanes: Vec<i64>,
    /// What only one process does at a time: `jobs`, `relay`, `sequencer`.
    pub duties: Vec<String>,
}

/// The processes that run this service now, by the name each has in leases. On PostgreSQL; the tables must be there.
pub async fn presences(db: &Db, service: &str) -> Result<BTreeMap<Uuid, Presence>, DbError> {
    let mut found: BTreeMap<Uuid, Presence> = BTreeMap::new();
    for (name, holder) in lease::running(&mut *db.reader().await?, service, "").await? {
        let presence = found.entry(holder).or_default();
        if let Some(lane) = lanes::lane_of(&name) {
            presence.lanes.push(lane);
        } else if !name.starts_with(lanes::PRESENCE) {
            presence.duties.push(name);
        }
    }
    Ok(found)
}
