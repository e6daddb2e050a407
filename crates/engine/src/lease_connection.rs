//! The database connection that a process shares for its leases. Its sequencers and jobs ask for leases twice a second, and a connection
//! each would be too many.

use db::{Db, DbError, Tx};
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};

/// A connection for leases, opened at its first use. Clones share it.
#[derive(Clone)]
pub struct LeaseConnection {
    db: Db,
    tx: Arc<Mutex<Option<Tx>>>,
}

/// Exclusive use of the connection.
pub struct LeaseGuard<'s>(MutexGuard<'s, Option<Tx>>);

impl LeaseConnection {
    pub fn new(db: Db) -> LeaseConnection {
        LeaseConnection { db, tx: Arc::default() }
    }

    pub async fn tx(&self) -> Result<LeaseGuard<'_>, DbError> {
        let mut held = self.tx.lock().await;
        match held.as_mut() {
            Some(tx) => tx.reconnect_if_lost().await?,
            None => *held = Some(self.db.open_writer().await?),
        }
        Ok(LeaseGuard(held))
    }
}

impl std::ops::Deref for LeaseGuard<'_> {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        self.0.as_ref().expect("the guard holds an open connection")
    }
}

impl std::ops::DerefMut for LeaseGuard<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        self.0.as_mut().expect("the guard holds an open connection")
    }
}
