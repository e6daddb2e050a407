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
    kafka::{Producer, Record, Topics},
    ports::Stopwatch,
    tasks::{Crew, Shutdown},
    testing::crash_point,
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

/// Messages published before the mark is moved.
const AT_ONCE: i64 = 1_000;
const LOOK: Duration = Duration::from_millis(500);
/// How old the marks may be.
const MARK: Duration = Duration::from_millis(200);
const LEASE: &str = "relay";

pub(crate) struct Relay {
    pub service: &'static str,
    pub db: Db,
    pub steward: Steward,
    pub wires: Wires,
    pub producer: Arc<Producer>,
    pub topics: Topics,
    pub instance: Uuid,
}

/// Where it is while it is the one.
struct Held {
    stream: Stream,
    renewed: Stopwatch,
    /// The last message of each partition that Kafka has.
    sent: HashMap<i64, i64>,
    /// The same as it stands in the database, and since when.
    marked: HashMap<i64, i64>,
    since: Stopwatch,
}

impl Held {
    fn place(&self, service: &'static str, partition: i64) -> Place {
        Place { source: service, epoch: self.stream.epoch, partition }
    }
}

impl Relay {
    pub fn start(self, shutdown: Shutdown, crew: &Crew) {
        crew.spawn("relay", self.run(shutdown));
    }

    async fn run(self, mut shutdown: Shutdown) {
        let rung = Arc::new(Notify::new());
        let ring = Arc::clone(&rung);
        self.wires.listen(self.service, Arc::new(move |_| ring.notify_one()));
        let mut held: Option<Held> = None;
        while !shutdown.is_stopping() {
            let published = tokio::select! {
                published = self.publish_all(&mut held) => published,
                () = shutdown.stopping() => break,
            };
            if let Err(fault) = published {
                // What Kafka has of it is not known: begins again at what is marked.
                held = None;
                tracing::warn!(service = self.service, error = %fault, "publishing stopped, trying again");
                metrics::counter!("onrush_relay_failures_total", "service" => self.service).increment(1);
            }
            let wait = if held.as_ref().is_some_and(|held| held.sent != held.marked) { MARK } else { LOOK };
            tokio::select! {
                // Whoever does not hold the lease only looks whether it became free.
                () = rung.notified(), if held.is_some() => {}
                () = tokio::time::sleep(wait) => {}
                () = shutdown.stopping() => break,
            }
        }
        if let Some(held) = &mut held {
            let _ = self.mark(held).await;
        }
        if let Ok(mut tx) = self.steward.tx().await {
            let _ = lease::release(&mut tx, self.service, LEASE, self.instance).await;
        }
    }

    /// Publishes what is numbered, if this instance is the one to do it.
    async fn publish_all(&self, held: &mut Option<Held>) -> Result<(), Fault> {
        loop {
            let is_old = held.as_ref().is_none_or(|held| held.renewed.elapsed() >= LOOK);
            if let Some(held) = held.as_mut().filter(|held| is_old || held.since.elapsed() >= MARK) {
                self.mark(held).await?;
            }
            if is_old {
                *held = self.hold().await?;
            }
            let Some(held) = held else { return Ok(()) };
            if !self.publish(held).await? {
                return Ok(());
            }
        }
    }

    async fn hold(&self) -> Result<Option<Held>, Fault> {
        let mut tx = self.steward.tx().await?;
        if lease::take(&mut tx, self.service, LEASE, self.instance).await?.is_none() {
            return Ok(None);
        }
        let Some(stream) = log::find_stream(&mut tx, self.service).await? else { return Ok(None) };
        let marked = log::relayed(&mut tx, self.service, stream.epoch).await?;
        let lag = log::numbered(&mut tx, self.service, stream.epoch).await? - marked.values().sum::<i64>();
        metrics::gauge!("onrush_relay_lag", "service" => self.service).set(lag.max(0) as f64);
        Ok(Some(Held { stream, renewed: Stopwatch::start(), sent: marked.clone(), marked, since: Stopwatch::start() }))
    }

    /// What is numbered in all partitions, together. Whether there may be more already.
    async fn publish(&self, held: &mut Held) -> Result<bool, Fault> {
        // It holds the lease meanwhile, and so shows what waits.
        if !self.topics.are_ready() {
            return Ok(false);
        }
        let service = self.service;
        let from: Vec<(Place, i64)> = (0..held.stream.partitions)
            .map(|partition| (held.place(service, partition), held.sent.get(&partition).copied().unwrap_or(0)))
            .collect();
        let waiting = log::read(&mut *self.db.reader().await?, service, &from, log::WHOLE, AT_ONCE).await?;
        let placed = || from.iter().map(|(place, _)| *place).zip(&waiting);
        let records: Vec<Record> = placed().flat_map(|(place, stored)| stored.iter().map(move |stored| record(place, stored))).collect();
        if records.is_empty() {
            return Ok(false);
        }
        crash_point(&format!("{service}.relay.before_publish"));
        self.producer.publish(service, &records).await.map_err(feed::fault)?;
        crash_point(&format!("{service}.relay.after_publish"));
        held.sent.extend(placed().filter_map(|(place, stored)| Some((place.partition, stored.last()?.seq))));
        metrics::counter!("onrush_relay_messages_total", "service" => service).increment(records.len() as u64);
        Ok(waiting.iter().any(|stored| i64::try_from(stored.len()).unwrap_or(0) == AT_ONCE))
    }

    /// Writes down how far it is: now and then, for what comes behind the mark is only published twice. Whoever finds other marks than its
    /// own is late, or was told to publish again: what stands in the database decides.
    async fn mark(&self, held: &mut Held) -> Result<(), Fault> {
        held.since = Stopwatch::start();
        let (service, epoch) = (self.service, held.stream.epoch);
        let moved: Vec<(i64, i64)> = held.sent.iter().map(|(partition, seq)| (*partition, *seq)).collect();
        let moved = moved.into_iter().filter(|(partition, seq)| held.marked.get(partition) != Some(seq));
        let (known, new): (Vec<_>, Vec<_>) = moved.partition(|(partition, _)| held.marked.contains_key(partition));
        if known.is_empty() && new.is_empty() {
            return Ok(());
        }
        let mut tx = self.steward.tx().await?;
        let begin =
            format!("insert into {service}_relay (epoch, partition, seq) values ($1,$2,$3) on conflict (epoch, partition) do nothing");
        let mut changed = tx.execute_many(&begin, new.iter().map(|(partition, seq)| params![epoch, *partition, *seq])).await?;
        let go_on = format!("update {service}_relay set seq=$3 where epoch=$1 and partition=$2 and seq=$4");
        let rows = known.iter().map(|(partition, seq)| params![epoch, *partition, *seq, held.marked[partition]]);
        changed.extend(tx.execute_many(&go_on, rows).await?);
        if changed.iter().any(|changed| *changed != 1) {
            return Err(Fault::Fenced(format!("the marks of the relay of {service} are not where it left them")));
        }
        crash_point(&format!("{service}.relay.after_mark"));
        held.marked.clone_from(&held.sent);
        Ok(())
    }
}

fn record(place: Place, stored: &log::Stored) -> Record {
    Record {
        epoch: place.epoch,
        partition: place.partition,
        seq: stored.seq,
        key: stored.key,
        kind: stored.kind.clone(),
        data: stored.data.clone(),
        at: stored.at,
        trace: stored.trace,
    }
}
