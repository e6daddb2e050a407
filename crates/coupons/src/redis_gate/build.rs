//! A gate that was lost, built from the database by one process.

use super::{Doors, SharedGate, call, micros, scripts, write_doors};
use crate::store::{definitions, issued};
use contracts::{CouponId, MemberId};
use futures::future::BoxFuture;
use kit::{Db, Fault, redis::RedisError};
use std::{collections::HashMap, time::Duration};

/// Members of a coupon that the gate knows. In a larger campaign it refuses nobody who could be told that he has one.
const MAX_MEMBERS: usize = 250_000;
/// Rows read, and members written, at once: some milliseconds.
const CHUNK: u32 = 5_000;

/// A coupon as it was at one version of its row.
#[derive(Debug)]
pub struct Snapshot {
    pub doors: Doors,
    pub shares: Shares,
}

/// How many coupons count against the shares of the members.
#[derive(Debug)]
pub enum Shares {
    Known(Vec<(MemberId, u32)>),
    TooMany,
}

/// Where the gate learns what it lost.
pub trait Truth: Send + Sync + 'static {
    /// The coupon's row alone, if there is one. Guessed ids must cost no more than this.
    fn doors(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<Doors>, Fault>>;

    /// All that was committed at the version of the doors. Changes of shares after it may be in it or not.
    fn snapshot(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<Snapshot>, Fault>>;
}

/// The tables of this service.
#[derive(Clone, Debug)]
pub struct Database(pub Db);

impl Truth for Database {
    fn doors(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<Doors>, Fault>> {
        Box::pin(async move { Ok(definitions::find(&mut *self.0.reader().await?, &[coupon_id]).await?.first().map(Doors::from)) })
    }

    fn snapshot(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<Snapshot>, Fault>> {
        Box::pin(async move {
            let Some(definition) = definitions::find(&mut *self.0.reader().await?, &[coupon_id]).await?.pop() else { return Ok(None) };
            let doors = Doors::from(&definition);
            let mut shares: HashMap<MemberId, u32> = HashMap::new();
            let mut after = 0;
            // Numbers rise with the commits: those below the next one are all there were at this version, however long the reading takes.
            // What was given back meanwhile counts once too little, which only sends its member to the database.
            while after + 1 < definition.next_number {
                let rows = issued::counted(&mut *self.0.reader().await?, coupon_id, after, definition.next_number, CHUNK).await?;
                let Some((last, ..)) = rows.last() else { break };
                after = *last;
                for (_, member_id, given_back) in rows {
                    if !(given_back && definition.terms.reissue_after_cancel) {
                        *shares.entry(member_id).or_default() += 1;
                    }
                }
                if shares.len() > MAX_MEMBERS {
                    return Ok(Some(Snapshot { doors, shares: Shares::TooMany }));
                }
                tokio::task::yield_now().await;
            }
            Ok(Some(Snapshot { doors, shares: Shares::Known(shares.into_iter().collect()) }))
        })
    }
}

impl SharedGate {
    pub(super) fn start_building(&self, coupon_id: CouponId, builder: String, barrier: Duration) {
        let gate = self.clone();
        kit::tasks::spawn("coupons.gate.build", async move {
            match gate.build(coupon_id, &builder, barrier).await {
                Ok(true) => tracing::info!(coupon.id = %coupon_id, "the gate in Redis was built from the database"),
                Ok(false) => {}
                Err(fault) => {
                    tracing::warn!(%fault, coupon.id = %coupon_id, "the gate in Redis could not be built; claims go to the database");
                    // The next who asks tries again; if Redis cannot be told, when the lease is over.
                    let _ = gate.give_up(coupon_id, &builder).await;
                }
            }
        });
    }

    /// False: there is nothing to build, or another one builds.
    async fn build(&self, coupon_id: CouponId, builder: &str, barrier: Duration) -> Result<bool, Fault> {
        if self.truth.doors(coupon_id).await?.is_none() {
            self.give_up(coupon_id, builder).await.map_err(outage)?;
            return Ok(false);
        }
        tokio::time::sleep(barrier).await;
        // From here on it is what the database says.
        let began = self.fill(coupon_id, builder, &[]).await?;
        if began == 0 {
            return Ok(false);
        }
        let Some(Snapshot { doors, shares }) = self.truth.snapshot(coupon_id).await? else {
            self.give_up(coupon_id, builder).await.map_err(outage)?;
            return Ok(false);
        };
        let members = match &shares {
            Shares::Known(members) => members.as_slice(),
            Shares::TooMany => &[],
        };
        for chunk in members.chunks(CHUNK as usize) {
            if self.fill(coupon_id, builder, chunk).await? == 0 {
                return Ok(false);
            }
        }
        let mut call = call(&self.redis, &scripts::OPEN, coupon_id);
        write_doors(&mut call, &doors);
        let kept = u64::try_from(self.times.kept.as_millis()).unwrap_or(u64::MAX);
        call.arg(builder).arg(u8::from(matches!(shares, Shares::TooMany))).arg(kept).arg(began);
        self.redis.run::<bool>(&call).await.map_err(outage)
    }

    /// Writes members, and renews the builder's lease. The time by Redis' clock; 0: another one builds.
    async fn fill(&self, coupon_id: CouponId, builder: &str, members: &[(MemberId, u32)]) -> Result<u64, Fault> {
        let mut call = call(&self.redis, &scripts::FILL, coupon_id);
        call.arg(builder).arg(micros(self.times.lease));
        for (member_id, count) in members {
            call.arg(member_id.0.as_bytes()).arg(*count);
        }
        self.redis.run(&call).await.map_err(outage)
    }

    async fn give_up(&self, coupon_id: CouponId, builder: &str) -> Result<(), RedisError> {
        self.redis.run::<i64>(call(&self.redis, &scripts::CLEAR, coupon_id).arg(builder)).await.map(drop)
    }
}

/// Redis is no part of the truth; its failure ends this attempt and nothing else.
pub(super) fn outage(error: RedisError) -> Fault {
    Fault::Bug(format!("the gate cannot go on: {error}"))
}
