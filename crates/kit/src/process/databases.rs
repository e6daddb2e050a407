//! The open databases of a process.

use super::{Database, PostgresSettings};
use db::{Db, DbError};
use std::collections::HashMap;

/// The common database, and the separate databases of single services.
pub struct Databases {
    pub(super) common: Db,
    pub(super) own: HashMap<&'static str, Db>,
}

impl Databases {
    /// The database that holds this service's tables.
    pub fn of(&self, service: &str) -> &Db {
        self.own.get(service).unwrap_or(&self.common)
    }

    pub fn open(database: &Database) -> Result<Databases, DbError> {
        match database {
            Database::Sqlite { path, synchronous } => Ok(Databases { common: Db::sqlite(path.clone(), *synchronous), own: HashMap::new() }),
            Database::Postgres(PostgresSettings { url, own, readers, .. }) => {
                let names = || contracts::SERVICES.iter().copied();
                let common: Vec<&str> = names().filter(|name| !own.contains_key(*name)).collect();
                let mut databases = HashMap::new();
                for name in names() {
                    if let Some(url) = own.get(name) {
                        databases.insert(name, Db::postgres_with(url, &[name], *readers)?);
                    }
                }
                Ok(Databases { common: Db::postgres_with(url, &common, *readers)?, own: databases })
            }
        }
    }
}
