//! Relay: one instance for each service publishes its numbered messages to Kafka in order, and stores its positions in the service's
//! database.
//!
//! A relay may crash between publishing and storing, and two instances may publish for a moment. Messages are then published twice, and
//! readers recognize the repeats by their sequence numbers. A number is never published without all numbers before it.

use super::{
    fault::Fault,
    lease,
    lease_connection::LeaseConnection,
    log,
    notify::Notifications,
    position::{Stream, StreamPartition},
    source,
};
use db::{Db, params};
use kafka::{Producer, Record, Topics};
use runtime::{
    failpoints::crash_point,
    ports::Stopwatch,
    tasks::{Shutdown, TaskTracker},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

/// Messages published in one batch for each partition.
const BATCH_SIZE: i64 = 1_000;
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Interval at which positions are stored.
const STORE_INTERVAL: Duration = Duration::from_millis(200);
const LEASE: &str = "relay";

/// Publishes the numbered messages of one service to Kafka, while this instance holds the service's lease for it.
pub struct Relay {
    pub service: &'static str,
    pub db: Db,
    pub lease_connection: LeaseConnection,
    pub notifications: Notifications,
    pub producer: Arc<Producer>,
    pub topics: Topics,
    pub instance: Uuid,
}

/// The relay's state while it holds the lease.
struct RelayLease {
    stream: Stream,
    since_renewal: Stopwatch,
    /// The last message of each partition that is on Kafka.
    published: HashMap<i64, i64>,
    /// The same as stored in the database.
    stored: HashMap<i64, i64>,
    since_store: Stopwatch,
}

impl RelayLease {
    fn stream_partition(&self, service: &'static str, partition: i64) -> StreamPartition {
        StreamPartition { source: service, epoch: self.stream.epoch, partition }
    }
}

impl Relay {
    pub fn start(self, shutdown: Shutdown, tasks: &TaskTracker) {
        let (relay, woken) = (Arc::new(self), Arc::new(Notify::new()));
        let wake = Arc::clone(&woken);
        relay.notifications.subscribe(relay.service, Arc::new(move |_| wake.notify_one()));
        tasks.spawn_restarting("relay", move || Arc::clone(&relay).run(Arc::clone(&woken), shutdown.clone()));
    }

    async fn run(self: Arc<Self>, woken: Arc<Notify>, shutdown: Shutdown) {
        let mut lease: Option<RelayLease> = None;
        while !shutdown.is_stopping() {
            let published = tokio::select! {
                published = self.publish_all(&mut lease) => published,
                () = shutdown.stopping() => break,
            };
            if let Err(fault) = published {
                // It is unknown which messages reached Kafka. Publishing starts again at the stored positions.
                lease = None;
                tracing::warn!(service = self.service, error = %fault, "publishing failed, retrying");
                metrics::counter!("onrush_relay_failures_total", "service" => self.service).increment(1);
            }
            let wait = if lease.as_ref().is_some_and(|lease| lease.published != lease.stored) { STORE_INTERVAL } else { POLL_INTERVAL };
            tokio::select! {
                // Without the lease, this instance only polls whether the lease is free.
                () = woken.notified(), if lease.is_some() => {}
                () = tokio::time::sleep(wait) => {}
                () = shutdown.stopping() => break,
            }
        }
        if let Some(lease) = &mut lease {
            let _ = self.store_positions(lease).await;
        }
        if let Ok(mut tx) = self.lease_connection.tx().await {
            let _ = lease::release(&mut tx, self.service, LEASE, self.instance).await;
        }
    }

    /// Publishes all numbered messages, if this instance holds the lease.
    async fn publish_all(&self, lease: &mut Option<RelayLease>) -> Result<(), Fault> {
        loop {
            let is_renewal_due = lease.as_ref().is_none_or(|lease| lease.since_renewal.elapsed() >= POLL_INTERVAL);
            if let Some(lease) = lease.as_mut().filter(|lease| is_renewal_due || lease.since_store.elapsed() >= STORE_INTERVAL) {
                self.store_positions(lease).await?;
            }
            if is_renewal_due {
                *lease = self.acquire().await?;
            }
            let Some(lease) = lease else { return Ok(()) };
            if !self.publish(lease).await? {
                return Ok(());
            }
        }
    }

    async fn acquire(&self) -> Result<Option<RelayLease>, Fault> {
        let mut tx = self.lease_connection.tx().await?;
        if lease::acquire(&mut tx, self.service, LEASE, self.instance).await?.is_none() {
            return Ok(None);
        }
        let Some(stream) = log::find_stream(&mut tx, self.service).await? else { return Ok(None) };
        let stored = log::relayed_positions(&mut tx, self.service, stream.epoch).await?;
        let lag = log::count_numbered(&mut tx, self.service, stream.epoch).await? - stored.values().sum::<i64>();
        metrics::gauge!("onrush_relay_lag", "service" => self.service).set(lag.max(0) as f64);
        Ok(Some(RelayLease {
            stream,
            since_renewal: Stopwatch::start(),
            published: stored.clone(),
            stored,
            since_store: Stopwatch::start(),
        }))
    }

    /// Publishes one batch from all partitions. Returns true when more may be waiting.
    async fn publish(&self, lease: &mut RelayLease) -> Result<bool, Fault> {
        // Keeps the lease while the topics are not ready, so that the lag is reported.
        if !self.topics.are_ready() {
            return Ok(false);
        }
        let service = self.service;
        let from: Vec<(StreamPartition, i64)> = (0..lease.stream.partitions)
            .map(|partition| (lease.stream_partition(service, partition), lease.published.get(&partition).copied().unwrap_or(0)))
            .collect();
        let waiting = log::read(&mut *self.db.reader().await?, service, &from, log::FULL_DATA, BATCH_SIZE).await?;
        let by_partition = || from.iter().map(|(stream, _)| *stream).zip(&waiting);
        let records: Vec<Record> =
            by_partition().flat_map(|(stream, stored)| stored.iter().map(move |stored| record(stream, stored))).collect();
        if records.is_empty() {
            return Ok(false);
        }
        crash_point(&format!("{service}.relay.before_publish"));
        self.producer.publish(service, &records).await.map_err(source::kafka_fault)?;
        crash_point(&format!("{service}.relay.after_publish"));
        lease.published.extend(by_partition().filter_map(|(stream, stored)| Some((stream.partition, stored.last()?.seq))));
        metrics::counter!("onrush_relay_messages_total", "service" => service).increment(records.len() as u64);
        Ok(waiting.iter().any(|stored| i64::try_from(stored.len()).unwrap_or(0) == BATCH_SIZE))
    }

    /// Stores the published positions. Seldom, because messages behind a stored position are only published twice.
    ///
    /// `Err`: another instance or an operator changed the stored positions, and the database decides.
    async fn store_positions(&self, lease: &mut RelayLease) -> Result<(), Fault> {
        lease.since_store = Stopwatch::start();
        let (service, epoch) = (self.service, lease.stream.epoch);
        let moved: Vec<(i64, i64)> = lease.published.iter().map(|(partition, seq)| (*partition, *seq)).collect();
        let moved = moved.into_iter().filter(|(partition, seq)| lease.stored.get(partition) != Some(seq));
        let (known, new): (Vec<_>, Vec<_>) = moved.partition(|(partition, _)| lease.stored.contains_key(partition));
        if known.is_empty() && new.is_empty() {
            return Ok(());
        }
        let mut tx = self.lease_connection.tx().await?;
        let insert =
            format!("insert into {service}_relay (epoch, partition, seq) values ($1,$2,$3) on conflict (epoch, partition) do nothing");
        let mut changed = tx.execute_many(&insert, new.iter().map(|(partition, seq)| params![epoch, *partition, *seq])).await?;
        let update = format!("update {service}_relay set seq=$3 where epoch=$1 and partition=$2 and seq=$4");
        let rows = known.iter().map(|(partition, seq)| params![epoch, *partition, *seq, lease.stored[partition]]);
        changed.extend(tx.execute_many(&update, rows).await?);
        if changed.iter().any(|changed| *changed != 1) {
            return Err(Fault::Fenced(format!("another instance moved the stored positions of the relay of {service}")));
        }
        crash_point(&format!("{service}.relay.after_mark"));
        lease.stored.clone_from(&lease.published);
        Ok(())
    }
}

fn record(stream: StreamPartition, stored: &log::StoredMessage) -> Record {
    Record {
        epoch: stream.epoch,
        partition: stream.partition,
        seq: stored.seq,
        key: stored.key,
        kind: stored.kind.clone(),
        data: stored.data.clone(),
        at: stored.at,
        trace: stored.trace,
    }
}
