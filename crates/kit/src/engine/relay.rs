//! Publishing: one instance per service ships its numbered messages to Kafka, in order, and keeps how far it is in the service's database.
//!
//! Between publishing and marking it may die, and two may do it at once: then messages are there twice, which readers notice by their
//! numbers. What is never the case is that a number is there without all before it.

use super::{
    Fault, feed, lease,
    log::{self, Place, Stream},
    steward::Steward,
    wires::Wires,
};
use crate::{
    db::{Db, params},
    kafka::{Producer, Record},
    tasks::{Crew, Shutdown},
    testing::crash_point,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

/// Messages published before the mark is moved.
const AT_ONCE: i64 = 1_000;
const LOOK: Duration = Duration::from_millis(500);
const LEASE: &str = "relay";

pub(crate) struct Relay {
    pub service: &'static str,
    pub db: Db,
    pub steward: Steward,
    pub wires: Wires,
    pub producer: Arc<Producer>,
    pub instance: Uuid,
}

impl Relay {
    pub fn start(self, shutdown: Shutdown, crew: &Crew) {
        crew.spawn("relay", self.run(shutdown));
    }

    async fn run(self, mut shutdown: Shutdown) {
        let rung = Arc::new(Notify::new());
        let ring = Arc::clone(&rung);
        self.wires.listen(self.service, Arc::new(move || ring.notify_one()));
        while !shutdown.is_stopping() {
            let published = tokio::select! {
                published = self.publish_all() => published,
                () = shutdown.stopping() => break,
            };
            if let Err(fault) = published {
                tracing::warn!(service = self.service, error = %fault, "publishing stopped, trying again");
                metrics::counter!("onrush_relay_failures_total", "service" => self.service).increment(1);
            }
            tokio::select! {
                _ = tokio::time::timeout(LOOK, rung.notified()) => {}
                () = shutdown.stopping() => break,
            }
        }
        if let Ok(mut tx) = self.steward.tx().await {
            let _ = lease::release(&mut tx, self.service, LEASE, self.instance).await;
        }
    }

    /// Publishes what is numbered, if this instance is the one to do it.
    async fn publish_all(&self) -> Result<(), Fault> {
        loop {
            let stream = {
                let mut tx = self.steward.tx().await?;
                if lease::take(&mut tx, self.service, LEASE, self.instance).await?.is_none() {
                    return Ok(());
                }
                log::find_stream(&mut tx, self.service).await?
            };
            let Some(stream) = stream else { return Ok(()) };
            let mut published = 0;
            for partition in 0..stream.partitions {
                published += self.publish(stream, partition).await?;
            }
            if published == 0 {
                return Ok(());
            }
        }
    }

    async fn publish(&self, stream: Stream, partition: i64) -> Result<usize, Fault> {
        let (service, place) = (self.service, Place { source: self.service, epoch: stream.epoch, partition });
        let mut reader = self.db.reader().await?;
        let mark = log::relayed(&mut reader, place).await?;
        let waiting = log::read(&mut reader, place, mark, AT_ONCE).await?;
        drop(reader);
        let Some(last) = waiting.last().map(|message| message.seq) else { return Ok(0) };
        let record = |message: &log::Stored| Record {
            epoch: place.epoch,
            partition,
            seq: message.seq,
            key: message.key,
            kind: message.kind.clone(),
            data: message.data.clone(),
            at: message.at,
            trace: message.trace,
        };
        let records: Vec<Record> = waiting.iter().map(record).collect();
        crash_point(&format!("{service}.relay.before_publish"));
        self.producer.publish(service, &records).await.map_err(feed::fault)?;
        crash_point(&format!("{service}.relay.after_publish"));
        let sql = format!(
            "insert into {service}_relay (epoch, partition, seq) values ($1,$2,$3) on conflict (epoch, partition) \
             do update set seq=$3 where {service}_relay.seq<$3"
        );
        self.steward.tx().await?.execute(&sql, &params![place.epoch, partition, last]).await?;
        crash_point(&format!("{service}.relay.after_mark"));
        metrics::counter!("onrush_relay_messages_total", "service" => service).increment(records.len() as u64);
        Ok(records.len())
    }
}
