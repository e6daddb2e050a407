//! The one connection of a process that looks after leases: those of its sequencers and jobs are asked for twice a second, for which a
//! connection each would be too many.

use crate::db::{Db, DbError, Tx};
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};

#[derive(Clone)]
pub(crate) struct Steward {
    db: Db,
    tx: Arc<Mutex<Option<Tx>>>,
}

/// The connection, in turn.
pub(crate) struct Turn<'s>(MutexGuard<'s, Option<Tx>>);

impl Steward {
    pub fn new(db: Db) -> Steward {
        Steward { db, tx: Arc::default() }
    }

    pub async fn tx(&self) -> Result<Turn<'_>, DbError> {
        let mut held = self.tx.lock().await;
        match held.as_mut() {
            Some(tx) => tx.revive().await?,
            None => *held = Some(self.db.open_writer().await?),
        }
        Ok(Turn(held))
    }
}

impl std::ops::Deref for Turn<'_> {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        self.0.as_ref().expect("there is one while it is somebody's turn")
    }
}

impl std::ops::DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        self.0.as_mut().expect("there is one while it is somebody's turn")
    }
}
