//! Sequencer: one instance for each service numbers its committed messages, densely and in the order of writing.
//!
//! Numbers drawn while writing would leave gaps after rollbacks, and would appear out of order after late commits. A reader cannot tell
//! either from a loss. So messages wait in `<service>_pending` until they are committed.
//!
//! The messages of a key are ordered by id, because a later writer saw the commit of the earlier one.
//!
//! The lease chooses the sequencer. The `fence` in `<service>_stream` stops an outdated one: a new holder raises the fence, and each
//! transaction of the sequencer checks it under its row lock.

use super::{fault::Fault, lease, lease_connection::LeaseConnection, log, notify::Notifications, position::Stream};
use db::{Db, Tx, params};
use runtime::{
    failpoints::crash_point,
    ports::Stopwatch,
    tasks::{Shutdown, TaskTracker},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Messages numbered by one transaction.
const BATCH_SIZE: i64 = 2_000;
/// Longest sleep without a notification, and the interval at which the lease is renewed.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
const LEASE: &str = "sequencer";

/// Numbers the committed messages of one service, while this instance holds the service's lease for it.
pub struct Sequencer {
    pub service: &'static str,
    pub db: Db,
    pub lease_connection: LeaseConnection,
    pub notifications: Notifications,
    pub instance: Uuid,
}

/// The sequencer's state while it holds the lease.
struct SequencerLease {
    tx: Tx,
    stream: Stream,
    fence: i64,
    since_renewal: Stopwatch,
}

impl Sequencer {
    pub fn start(self, shutdown: Shutdown, tasks: &TaskTracker) {
        let sequencer = Arc::new(self);
        tasks.spawn_restarting("sequencer", move || Arc::clone(&sequencer).run(shutdown.clone()));
    }

    async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut lease: Option<SequencerLease> = None;
        let mut is_woken = true;
        while !shutdown.is_stopping() {
            let result = match lease.take() {
                None => self.acquire().await,
                Some(lease) => self.number_all(lease, is_woken).await,
            };
            match result {
                Ok(held) => lease = held,
                Err(fault) => tracing::warn!(service = self.service, error = %fault, "numbering failed, retrying"),
            }
            self.notifications.set_sequenced_here(self.service, lease.is_some());
            is_woken = tokio::select! {
                is_woken = self.notifications.wait_for_written(self.service, POLL_INTERVAL), if lease.is_some() => is_woken,
                // Without the lease, this instance polls whether the lease is free. The holder is notified of messages, too.
                () = tokio::time::sleep(POLL_INTERVAL), if lease.is_none() => true,
                () = shutdown.stopping() => false,
            };
        }
        if let Some(mut lease) = lease {
            let _ = lease::release(&mut lease.tx, self.service, LEASE, self.instance).await;
        }
    }

    /// Takes the lease if it is free, and raises the fence.
    async fn acquire(&self) -> Result<Option<SequencerLease>, Fault> {
        let mut guard = self.lease_connection.tx().await?;
        let Some(fence) = lease::acquire(&mut guard, self.service, LEASE, self.instance).await? else { return Ok(None) };
        let Some(stream) = log::find_stream(&mut guard, self.service).await? else { return Ok(None) };
        drop(guard);
        let mut tx = self.db.open_writer().await?;
        let sql = format!("update {}_stream set fence=$2 where epoch=$1 and fence<=$2", self.service);
        if tx.execute(&sql, &params![stream.epoch, fence]).await? != 1 {
            return Err(Fault::Fenced(format!("another instance numbers {}", self.service)));
        }
        tracing::debug!(service = self.service, fence, "sequencer lease acquired");
        self.number_all(SequencerLease { tx, stream, fence, since_renewal: Stopwatch::start() }, true).await
    }

    /// Numbers all waiting messages. `None`: another instance has the lease now.
    async fn number_all(&self, mut lease: SequencerLease, is_woken: bool) -> Result<Option<SequencerLease>, Fault> {
        loop {
            if lease.since_renewal.elapsed() >= POLL_INTERVAL {
                if lease::acquire(&mut lease.tx, self.service, LEASE, self.instance).await? != Some(lease.fence) {
                    return Ok(None);
                }
                lease.since_renewal = Stopwatch::start();
            }
            // Looks before it writes, so that an idle mall does not commit twice a second.
            if !is_woken && !self.has_pending(&mut lease.tx).await? {
                return Ok(Some(lease));
            }
            let numbered = self.number(&mut lease).await?;
            if numbered > 0 {
                metrics::histogram!("onrush_sequencer_messages").record(numbered as f64);
            }
            if numbered < BATCH_SIZE {
                return Ok(Some(lease));
            }
        }
    }

    async fn has_pending(&self, tx: &mut Tx) -> Result<bool, Fault> {
        let waiting: Option<(i64,)> = tx.query_opt(&format!("select id from {}_pending limit 1", self.service), &[]).await?;
        Ok(waiting.is_some())
    }

    /// Numbers the oldest waiting messages and moves them to the outbox.
    ///
    /// One statement, and so one transaction with one round trip. A message for a partition that the stream does not have gets no number,
    /// which the table refuses.
    async fn number(&self, lease: &mut SequencerLease) -> Result<i64, Fault> {
        let service = self.service;
        let sql = format!(
            "with mine as (select 1 from {service}_stream where epoch=$1 and fence=$2 for update),
                  taken as (delete from {service}_pending where exists (select 1 from mine)
                            and id = any(array(select id from {service}_pending order by id limit $3)) returning *),
                  numbered as (select t.*, h.seq + row_number() over (partition by t.partition order by t.id) as place
                               from taken t left join {service}_heads h on h.epoch=$1 and h.partition=t.partition),
                  written as (insert into {service}_outbox (epoch, partition, seq, key, kind, data, at, trace)
                              select $1, partition, place, key, kind, data, at, trace from numbered order by partition, place),
                  moved as (update {service}_heads h set seq=n.top from (select partition, max(place) as top from numbered group by partition) n
                            where h.epoch=$1 and h.partition=n.partition)
             select (select count(*) from mine), (select count(*) from taken), (select string_agg(distinct kind, ',') from taken)"
        );
        crash_point(&format!("{service}.sequencer.before_numbering"));
        let (mine, taken, kinds): (i64, i64, Option<String>) =
            lease.tx.query_one(&sql, &params![lease.stream.epoch, lease.fence, BATCH_SIZE]).await?;
        if mine == 0 {
            return Err(Fault::Fenced(format!("another instance numbers {service}")));
        }
        crash_point(&format!("{service}.sequencer.after_numbering"));
        if let Some(kinds) = kinds {
            self.notifications.notify_numbered(service, &kinds);
        }
        Ok(taken)
    }
}
