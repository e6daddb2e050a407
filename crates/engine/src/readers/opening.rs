//! Opening readers, and loading their positions again where those in memory are outdated.

use super::{
    super::{
        dead_letters,
        fault::Fault,
        log,
        position::{Position, SOLE_PARTITION, Stream, StreamPartition},
        subscriptions::sources,
    },
    Readers, StreamReader,
};
use crate::Service;
use db::Tx;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

impl Readers {
    /// Opens the readers of a sole writer, which writes all `streams` itself.
    pub async fn open_sole(&mut self, tx: &mut Tx, streams: &HashMap<&'static str, Stream>) -> Result<(), Fault> {
        for service in self.services.clone().iter() {
            for (source, kinds) in sources(service.as_ref()) {
                let Some(stream) = streams.get(source).copied() else { continue };
                self.open_reader(tx, service, StreamPartition { source, epoch: stream.epoch, partition: SOLE_PARTITION }, kinds).await?;
            }
        }
        Ok(())
    }

    /// Opens readers for one partition of every stream that is read here.
    pub(super) async fn open_partition(&mut self, tx: &mut Tx, partition: i64) -> Result<(), Fault> {
        for service in self.services.clone().iter() {
            for (source, kinds) in sources(service.as_ref()) {
                let Some(stream) = self.find_stream(source).await? else { continue };
                if partition < stream.partitions {
                    self.open_reader(tx, service, StreamPartition { source, epoch: stream.epoch, partition }, kinds).await?;
                }
            }
        }
        Ok(())
    }

    async fn open_reader(
        &mut self,
        tx: &mut Tx,
        service: &Arc<dyn Service>,
        stream: StreamPartition,
        kinds: HashSet<&'static str>,
    ) -> Result<(), Fault> {
        let mut reader = StreamReader::new(Arc::clone(service), stream, kinds);
        self.load_position(tx, &mut reader).await?;
        self.list.push(reader);
        Ok(())
    }

    /// The stream of a source, from the message source. `None`: the stream does not exist yet, or this engine is the only one.
    pub async fn find_stream(&self, source: &str) -> Result<Option<Stream>, Fault> {
        match &self.assignment {
            None => Ok(None),
            Some(assignment) => assignment.message_source.find_stream(source).await,
        }
    }

    /// Loads a reader's position and parked keys from its service's tables: first the position, then the keys.
    ///
    /// Between the two, another instance may store a dead letter and advance, in one transaction. In this order, a reader that sees the
    /// new position also sees the new key. In the other order it would see only the position, and deliver later messages of the key too
    /// early. An outdated position does no harm with any keys, because it cannot be advanced.
    async fn load_position(&mut self, tx: &mut Tx, reader: &mut StreamReader) -> Result<(), Fault> {
        let name = reader.name();
        if self.assignment.as_ref().is_some_and(|assignment| assignment.reads_kafka())
            && let Some(epoch) = log::read_epoch(tx, name, reader.stream()).await?
        {
            reader.set_epoch(epoch);
        }
        let stream = reader.stream();
        let (seq, offset) = log::read_position(tx, name, stream).await?;
        let position = Position { seq, offset };
        let parked = dead_letters::parked_keys(tx, name).await?;
        if let Some(assignment) = &mut self.assignment {
            assignment.consume_from(stream, position, reader.is_request_log())?;
        }
        reader.load(position, keys_of(&parked, stream.source));
        Ok(())
    }

    /// Reloads the readers' positions from the database, because another instance moved them.
    pub fn reload(&mut self, tx: &mut Tx, fault: &Fault) {
        let name = self.services[0].name();
        tracing::warn!(reader = name, error = %fault, "positions outdated, reloading");
        if let Err(fault) = futures::executor::block_on(self.reopen(tx)) {
            tracing::error!(reader = name, error = %fault, "position reload failed");
        }
    }

    /// Opens all readers again, because their positions in memory are outdated.
    async fn reopen(&mut self, tx: &mut Tx) -> Result<(), Fault> {
        let partitions: HashSet<i64> = self.list.iter().map(|reader| reader.stream().partition).collect();
        self.list.clear();
        for partition in partitions {
            if let Err(fault) = self.open_partition(tx, partition).await {
                // No reader is left: a partition without readers is opened again, but one with some readers counts as complete.
                self.list.clear();
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Reloads the positions of stalled readers, because an operator may have repaired them.
    pub fn reload_stalled(&mut self, tx: &mut Tx) {
        let mut list = std::mem::take(&mut self.list);
        for reader in &mut list {
            if self.stalls.is_reload_due(reader.reader_position())
                && let Err(fault) = futures::executor::block_on(self.load_position(tx, reader))
            {
                tracing::debug!(reader = reader.name(), error = %fault, "position reload failed");
            }
        }
        self.list = list;
    }

    /// Reloads the keys with dead letters of one service's readers, because a redrive may have resolved some.
    pub fn reload_parked_keys(&mut self, tx: &mut Tx, service: &str) {
        let parked = match futures::executor::block_on(dead_letters::parked_keys(tx, service)) {
            Ok(parked) => parked,
            Err(error) => return tracing::error!(%error, reader = service, "parked keys not reloaded"),
        };
        for reader in self.list.iter_mut().filter(|reader| reader.name() == service) {
            reader.set_parked_keys(keys_of(&parked, reader.stream().source));
        }
    }
}

fn keys_of(parked: &[(String, Uuid)], source: &str) -> HashSet<Uuid> {
    parked.iter().filter(|(from, _)| from == source).map(|(_, key)| *key).collect()
}
