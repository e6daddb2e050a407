//! Opening: tables, and where streams and readers are.

use super::{
    Engine, EngineSettings, Fault, Place, Stream, Work, feed, lanes::Lanes, letters, log, patience::Patience, tables, trouble::Troubles,
};
use crate::{
    db::{Db, Tx, migrate},
    ports::{Clock, Stopwatch},
    service::Service,
    testing::Faults,
};
use contracts::{Message, Timestamp, messages};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// One service's reading of one partition of one stream.
pub(super) struct Reader {
    pub service: Arc<dyn Service>,
    pub place: Place,
    pub kinds: HashSet<&'static str>,
    /// What of the messages it reads, in SQL.
    pub data: String,
    /// Callers' requests: numbered by Kafka, which leaves numbers out when it likes.
    pub is_log: bool,
    /// The last message that is behind it: settled by a committed transaction, or passed over since.
    pub position: Mark,
    /// The same as its service's tables have it: they do not know yet what was passed over since.
    pub kept: i64,
    /// Where the running transaction takes it, if it does.
    pub pending: Option<Mark>,
    pub parked: HashSet<Uuid>,
    /// Failed tries of the message right behind `position`.
    pub tries: u32,
    /// Something may wait.
    pub is_due: bool,
    /// When the message right behind `position` was last found to want what somebody else has locked.
    pub locked: Option<Stopwatch>,
}

/// A message in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub seq: i64,
    /// Where on Kafka it is.
    pub offset: Option<i64>,
}

impl Mark {
    pub const START: Mark = Mark { seq: 0, offset: None };
}

impl Reader {
    /// Whether it passed over messages that its service's tables do not know of.
    pub fn is_ahead(&self) -> bool {
        self.position.seq != self.kept
    }

    /// True for what its service acts on, and for what nobody here knows: that must not be passed over as if it were of no interest.
    pub fn takes(&self, kind: &str) -> bool {
        takes(&self.kinds, kind)
    }
}

pub(super) fn takes(kinds: &HashSet<&'static str>, kind: &str) -> bool {
    kinds.contains(kind) || !Message::TABLE.iter().any(|(known, ..)| *known == kind)
}

/// What of its messages a reader that acts on these kinds wants to see, in SQL: nothing of those it passes over.
fn data_for(kinds: &HashSet<&'static str>, source: &str) -> String {
    let passed: Vec<String> = Message::TABLE
        .iter()
        .filter(|(kind, from, _)| *from == source && !kinds.contains(kind))
        .map(|(kind, ..)| format!("'{kind}'"))
        .collect();
    if passed.is_empty() { log::WHOLE.to_owned() } else { format!("case when kind in ({}) then '' else data end", passed.join(",")) }
}

/// Brings a service's tables up to date and opens its stream; a new one gets that many partitions.
pub async fn prepare(tx: &mut Tx, service: &dyn Service, partitions: i64, now: Timestamp) -> Result<Stream, Fault> {
    tables::migrate_kit(tx, service.name()).await?;
    migrate(tx, service.name(), service.migrations()).await?;
    Ok(log::open_stream(tx, service.name(), partitions, now).await?)
}

impl Engine {
    /// Opens the writer of these services and finds where their streams and readers are. With `lanes` it is one of several engines, each
    /// of one service that has been prepared; without, it is the only one.
    pub async fn open(
        db: &Db,
        services: Vec<Arc<dyn Service>>,
        clock: Arc<dyn Clock>,
        settings: EngineSettings,
        faults: Faults,
        lanes: Option<Lanes>,
    ) -> Result<Engine, Fault> {
        // Only a writer that is alone numbers what it writes, and can so hand it on before the commit.
        let settings = EngineSettings { fold: settings.fold && lanes.is_none(), ..settings };
        let mut engine = Engine {
            work: Work::new(db.open_writer().await?),
            clock,
            settings,
            services,
            readers: Vec::new(),
            streams: HashMap::new(),
            heads: HashMap::new(),
            faults,
            troubles: Troubles::default(),
            patience: Patience::default(),
            keeping_failed: None,
            upkeep_at: Timestamp(0),
            lag_looked: None,
            lanes,
        };
        engine.find_streams().await?;
        Ok(engine)
    }

    async fn find_streams(&mut self) -> Result<(), Fault> {
        let now = self.clock.now();
        for service in self.services.clone() {
            let name = service.name();
            let stream = match &self.lanes {
                Some(_) => {
                    log::find_stream(&mut self.work.tx, name).await?.ok_or_else(|| Fault::Bug(format!("{name} was not prepared")))?
                }
                None => prepare(&mut self.work.tx, service.as_ref(), 1, now).await?,
            };
            self.streams.insert(name, stream);
            if self.lanes.is_none() {
                let head = log::head(&mut self.work.tx, name, stream.epoch, log::PARTITION).await?;
                self.heads.insert(name, head);
            }
        }
        if self.lanes.is_none() {
            self.work.heads = Some(HashMap::new());
            self.open_lane(log::PARTITION).await?;
        }
        Ok(())
    }

    /// Starts reading one partition of every stream that is read here.
    pub(super) async fn open_lane(&mut self, partition: i64) -> Result<(), Fault> {
        for service in self.services.clone() {
            for (source, kinds) in sources(service.as_ref()) {
                let Some(stream) = self.stream_of(source).await? else { continue };
                if partition >= stream.partitions {
                    continue;
                }
                let mut reader = Reader {
                    service: Arc::clone(&service),
                    place: Place { source, epoch: stream.epoch, partition },
                    data: data_for(&kinds, source),
                    kinds,
                    is_log: messages::REQUEST_LOGS.contains(&source),
                    position: Mark::START,
                    kept: 0,
                    pending: None,
                    parked: HashSet::new(),
                    tries: 0,
                    is_due: true,
                    locked: None,
                };
                self.find_place(&mut reader).await?;
                self.readers.push(reader);
            }
        }
        Ok(())
    }

    /// Takes a reader to where its service's tables say it is. First the position and then the parked keys: while this process was away,
    /// another one may bury a message and move on, in one transaction, between the two. Whoever sees the position sees the key then; the
    /// other way round it would see the position only, and let later messages of the key overtake the letter. A position that is old
    /// already does no harm, whatever the keys: it cannot be moved.
    pub(super) async fn find_place(&mut self, reader: &mut Reader) -> Result<(), Fault> {
        let (name, Place { source, partition, .. }) = (reader.service.name(), reader.place);
        if self.reads_kafka() {
            reader.place.epoch = log::last_epoch(&mut self.work.tx, name, reader.place).await?.unwrap_or(reader.place.epoch);
        }
        let (position, offset) = log::position(&mut self.work.tx, name, reader.place).await?;
        let parked = letters::parked_keys(&mut self.work.tx, name).await?;
        if let Some(consumer) = self.lanes.as_mut().and_then(|lanes| lanes.consumer.as_mut()) {
            let assigned = match offset {
                _ if reader.is_log => consumer.assign_log(source, partition, offset),
                // It came from the tables, or was told to look: numbers say which message is the next.
                None if position > 0 => consumer.assign_oldest(source, partition),
                _ => consumer.assign(source, partition, offset),
            };
            assigned.map_err(feed::fault)?;
        }
        (reader.position, reader.kept, reader.pending) = (Mark { seq: position, offset }, position, None);
        reader.parked = parked.into_iter().filter(|(from, _)| from == source).map(|(_, key)| key).collect();
        (reader.tries, reader.is_due, reader.locked) = (0, true, None);
        Ok(())
    }

    /// The streams of this process's only writer are known; those of others are asked for. `None`: it does not exist here (yet).
    async fn stream_of(&mut self, source: &'static str) -> Result<Option<Stream>, Fault> {
        match &self.lanes {
            None => Ok(self.streams.get(source).copied()),
            Some(lanes) => lanes.feed.stream_of(source).await,
        }
    }

    fn reads_kafka(&self) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| lanes.consumer.is_some())
    }

    /// Where this process believed its readers to be is not true: reads it anew.
    pub(super) async fn relearn(&mut self) -> Result<(), Fault> {
        let lanes: HashSet<i64> = self.readers.iter().map(|reader| reader.place.partition).collect();
        self.readers.clear();
        for partition in lanes {
            if let Err(fault) = self.open_lane(partition).await {
                // A lane without any reader is opened anew; one that has some is taken to be complete.
                self.readers.clear();
                return Err(fault);
            }
        }
        Ok(())
    }
}

/// The streams a service reads, with the kinds it acts on.
pub(crate) fn sources(service: &dyn Service) -> Vec<(&'static str, HashSet<&'static str>)> {
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
