//! Opening: tables, and where streams and readers are.

use super::{Engine, EngineSettings, Fault, Work, letters, log};
use crate::{
    db::{Db, DbError, migrate},
    ports::Clock,
    service::Service,
    testing::Faults,
};
use contracts::{Message, Timestamp};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// One service's reading of one stream.
pub(super) struct Reader {
    pub service: Arc<dyn Service>,
    pub source: &'static str,
    pub kinds: HashSet<&'static str>,
    /// The last message settled by a committed transaction.
    pub position: i64,
    /// The same within the running transaction.
    pub pending: i64,
    pub parked: HashSet<Uuid>,
    /// Failed tries of the message right behind `position`.
    pub tries: u32,
    /// The position behind which a message is missing, once that has been reported.
    pub gap_after: Option<i64>,
}

impl Reader {
    /// True for what its service acts on, and for what nobody here knows: that must not be passed over as if it were of no interest.
    pub fn takes(&self, kind: &str) -> bool {
        self.kinds.contains(kind) || !Message::TABLE.iter().any(|(known, ..)| *known == kind)
    }
}

impl Engine {
    /// Opens the database, brings every service's tables up to date and finds where streams and readers are.
    pub fn open(
        db: &Db,
        services: Vec<Arc<dyn Service>>,
        clock: Arc<dyn Clock>,
        settings: EngineSettings,
        faults: Faults,
    ) -> Result<Engine, Fault> {
        let mut tx = db.open_writer()?;
        for service in &services {
            tx.sqlite().execute_batch(&log::kit_tables(service.name())).map_err(DbError::from)?;
            migrate(&mut tx, service.name(), service.migrations())?;
        }
        let mut engine = Engine {
            work: Work::new(tx),
            clock,
            settings,
            services,
            readers: Vec::new(),
            epochs: HashMap::new(),
            heads: HashMap::new(),
            faults,
            upkeep_at: Timestamp(0),
        };
        futures::executor::block_on(engine.find_streams())?;
        Ok(engine)
    }

    async fn find_streams(&mut self) -> Result<(), Fault> {
        let now = self.clock.now();
        for service in &self.services {
            let (epoch, head) = log::open_stream(&mut self.work.tx, service.name(), now).await?;
            self.epochs.insert(service.name(), epoch);
            self.heads.insert(service.name(), head);
        }
        for service in &self.services {
            for (source, kinds) in sources(service.as_ref()) {
                let Some(&epoch) = self.epochs.get(source) else { continue };
                let position = log::position(&mut self.work.tx, service.name(), source, epoch).await?;
                let parked = letters::parked_keys(&mut self.work.tx, service.name()).await?;
                let parked = parked.into_iter().filter(|(from, _)| from == source).map(|(_, key)| key).collect();
                let service = Arc::clone(service);
                self.readers.push(Reader { service, source, kinds, position, pending: position, parked, tries: 0, gap_after: None });
            }
        }
        Ok(())
    }
}

/// The streams a service reads, with the kinds it acts on.
fn sources(service: &dyn Service) -> Vec<(&'static str, HashSet<&'static str>)> {
    let mut found: Vec<(&'static str, HashSet<&'static str>)> = Vec::new();
    for (kind, source, _) in Message::TABLE {
        if !service.reads().contains(kind) {
            continue;
        }
        match found.iter_mut().find(|(name, _)| name == source) {
            Some((_, kinds)) => {
                kinds.insert(kind);
            }
            None => found.push((source, HashSet::from([*kind]))),
        }
    }
    found
}
