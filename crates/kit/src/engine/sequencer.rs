//! Numbering: one instance per service gives committed messages their places in the stream, densely and in the order of writing.
//!
//! Numbers drawn while writing would leave gaps where a transaction rolled back, and would appear out of order where one commits late; a
//! reader cannot tell either from a loss. So messages wait in `<service>_pending` until they are committed. The order of a key is that of
//! their ids: whoever writes later about the same thing saw the first commit. The lease chooses who numbers; `fence` in `<service>_stream`
//! is what keeps a late one from numbering: taking over raises it, and each transaction of the sequencer checks it under its row lock.

use super::{
    Fault, lease,
    log::{self, Stream},
    steward::Steward,
    wires::Wires,
};
use crate::{
    db::{Db, Tx, params},
    ports::Stopwatch,
    tasks::{Crew, Shutdown},
    testing::crash_point,
};
use std::time::Duration;
use uuid::Uuid;

/// Messages numbered by one transaction.
const AT_ONCE: i64 = 2_000;
/// How long it sleeps when nobody rings; also how often the lease is renewed.
const LOOK: Duration = Duration::from_millis(500);
const LEASE: &str = "sequencer";

pub(crate) struct Sequencer {
    pub service: &'static str,
    pub db: Db,
    pub steward: Steward,
    pub wires: Wires,
    pub instance: Uuid,
}

/// What the sequencer holds while it is the one.
struct Seat {
    tx: Tx,
    stream: Stream,
    fence: i64,
    renewed: Stopwatch,
}

impl Sequencer {
    pub fn start(self, shutdown: Shutdown, crew: &Crew) {
        crew.spawn("sequencer", self.run(shutdown));
    }

    async fn run(self, mut shutdown: Shutdown) {
        let mut seat: Option<Seat> = None;
        while !shutdown.is_stopping() {
            let result = match seat.take() {
                None => self.take_seat().await,
                Some(held) => self.number_all(held).await,
            };
            match result {
                Ok(held) => seat = held,
                Err(fault) => tracing::warn!(service = self.service, error = %fault, "numbering stopped, trying again"),
            }
            self.wires.sequenced_here(self.service, seat.is_some());
            tokio::select! {
                () = self.wires.until_written(self.service, LOOK) => {}
                () = shutdown.stopping() => {}
            }
        }
        if let Some(mut seat) = seat {
            let _ = lease::release(&mut seat.tx, self.service, LEASE, self.instance).await;
        }
    }

    /// Becomes the one, if there is none: takes the lease and raises the fence.
    async fn take_seat(&self) -> Result<Option<Seat>, Fault> {
        let mut steward = self.steward.tx().await?;
        let Some(fence) = lease::take(&mut steward, self.service, LEASE, self.instance).await? else { return Ok(None) };
        let Some(stream) = log::find_stream(&mut steward, self.service).await? else { return Ok(None) };
        drop(steward);
        let mut tx = self.db.open_writer().await?;
        let sql = format!("update {}_stream set fence=$2 where epoch=$1 and fence<=$2", self.service);
        if tx.execute(&sql, &params![stream.epoch, fence]).await? != 1 {
            return Err(Fault::Fenced(format!("another instance numbers {}", self.service)));
        }
        tracing::debug!(service = self.service, fence, "numbers its messages here");
        self.number_all(Seat { tx, stream, fence, renewed: Stopwatch::start() }).await
    }

    /// Numbers what waits. `None`: the lease is somebody else's now.
    async fn number_all(&self, mut seat: Seat) -> Result<Option<Seat>, Fault> {
        loop {
            if seat.renewed.elapsed() >= LOOK {
                if lease::take(&mut seat.tx, self.service, LEASE, self.instance).await? != Some(seat.fence) {
                    return Ok(None);
                }
                seat.renewed = Stopwatch::start();
            }
            let numbered = self.number(&mut seat).await;
            if numbered.is_err() {
                let _ = seat.tx.rollback().await;
            }
            let numbered = numbered?;
            if numbered > 0 {
                metrics::histogram!("onrush_sequencer_messages").record(numbered as f64);
                self.wires.numbered(self.service);
            }
            if numbered < AT_ONCE {
                return Ok(Some(seat));
            }
        }
    }

    /// One transaction: the oldest messages that wait become the next of the stream.
    async fn number(&self, seat: &mut Seat) -> Result<i64, Fault> {
        let service = self.service;
        // A look without a transaction: an idle mall must not commit twice a second.
        let waiting: Option<(i64,)> = seat.tx.query_opt(&format!("select id from {service}_pending limit 1"), &[]).await?;
        if waiting.is_none() {
            return Ok(0);
        }
        seat.tx.begin().await?;
        let sql = format!("select fence from {service}_stream where epoch=$1 and fence=$2 for update");
        let mine: Option<(i64,)> = seat.tx.query_opt(&sql, &params![seat.stream.epoch, seat.fence]).await?;
        if mine.is_none() {
            return Err(Fault::Fenced(format!("another instance numbers {service}")));
        }
        let sql = format!(
            "with taken as (delete from {service}_pending where id in (select id from {service}_pending order by id limit $2) returning *),
                  numbered as (select t.*, h.seq + row_number() over (partition by t.partition order by t.id) as place
                               from taken t join {service}_heads h on h.epoch=$1 and h.partition=t.partition),
                  written as (insert into {service}_outbox (epoch, partition, seq, key, kind, data, at, trace)
                              select $1, partition, place, key, kind, data, at, trace from numbered order by partition, place),
                  moved as (update {service}_heads h set seq=n.top from (select partition, max(place) as top from numbered group by partition) n
                            where h.epoch=$1 and h.partition=n.partition)
             select (select count(*) from taken), (select count(*) from numbered)"
        );
        let (taken, numbered): (i64, i64) = seat.tx.query_one(&sql, &params![seat.stream.epoch, AT_ONCE]).await?;
        if taken != numbered {
            return Err(Fault::Bug(format!("{service} wrote messages into partitions its stream does not have")));
        }
        crash_point(&format!("{service}.sequencer.before_commit"));
        seat.tx.commit().await?;
        crash_point(&format!("{service}.sequencer.after_commit"));
        Ok(numbered)
    }
}
