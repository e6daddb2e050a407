//! Rebuilds a lost gate from the database, by one process at a time.

use super::{ClaimLimits, SharedGate, call, micros, scripts, write_limits};
use crate::store::{definitions, issued};
use contracts::{CouponId, MemberId};
use futures::future::BoxFuture;
use kit::{Db, Fault, redis::RedisError};
use std::{collections::HashMap, time::Duration};

/// Most members of one coupon in the gate, which bounds its memory. Of a larger campaign it leaves refusals of owners to the database.
const MAX_MEMBERS: usize = 250_000;
/// Rows read, and members written, at once: a few milliseconds.
const CHUNK: u32 = 5_000;

/// A coupon at one version of its row.
#[derive(Debug)]
pub struct GateSnapshot {
    pub limits: ClaimLimits,
    pub member_counts: MemberCounts,
}

/// Number of coupons per member that count against the limit per member.
#[derive(Debug)]
pub enum MemberCounts {
    Known(Vec<(MemberId, u32)>),
    TooMany,
}

/// The state of coupons from which a gate is refreshed and rebuilt.
pub trait CouponSource: Send + Sync + 'static {
    /// Reads only the coupon's row, so that guessed ids stay cheap. `None`: there is no such coupon.
    fn limits(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<ClaimLimits>, Fault>>;

    /// Reads all commits up to the version of the limits. The member counts may contain later ones.
    fn snapshot(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<GateSnapshot>, Fault>>;
}

/// Reads the tables of this service.
#[derive(Clone, Debug)]
pub struct DatabaseSource(pub Db);

impl CouponSource for DatabaseSource {
    fn limits(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<ClaimLimits>, Fault>> {
        Box::pin(async move { Ok(definitions::find(&mut *self.0.reader().await?, &[coupon_id]).await?.first().map(ClaimLimits::from)) })
    }

    fn snapshot(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<GateSnapshot>, Fault>> {
        Box::pin(async move {
            let Some(definition) = definitions::find(&mut *self.0.reader().await?, &[coupon_id]).await?.pop() else { return Ok(None) };
            let limits = ClaimLimits::from(&definition);
            let mut counts: HashMap<MemberId, u32> = HashMap::new();
            let mut after = 0;
            // Numbers rise with the commits, so all numbers below the next one belong to this version, however long the read takes.
            // A coupon given back meanwhile is missing from a count, which only sends its member to the database.
            while after + 1 < definition.next_number {
                let rows = issued::owners_below(&mut *self.0.reader().await?, coupon_id, after, definition.next_number, CHUNK).await?;
                let Some((last, ..)) = rows.last() else { break };
                after = *last;
                for (_, member_id, given_back) in rows {
                    if !(given_back && definition.terms.reissue_after_cancel) {
                        *counts.entry(member_id).or_default() += 1;
                    }
                }
                if counts.len() > MAX_MEMBERS {
                    return Ok(Some(GateSnapshot { limits, member_counts: MemberCounts::TooMany }));
                }
                tokio::task::yield_now().await;
            }
            Ok(Some(GateSnapshot { limits, member_counts: MemberCounts::Known(counts.into_iter().collect()) }))
        })
    }
}

impl SharedGate {
    pub(super) fn start_rebuild(&self, coupon_id: CouponId, builder: String, barrier: Duration) {
        let gate = self.clone();
        kit::tasks::spawn("coupons.gate.rebuild", async move {
            match gate.rebuild(coupon_id, &builder, barrier).await {
                Ok(true) => tracing::info!(coupon.id = %coupon_id, "gate in Redis rebuilt"),
                Ok(false) => {}
                Err(fault) => {
                    tracing::warn!(%fault, coupon.id = %coupon_id, "gate in Redis not rebuilt, claims go to the database");
                    // The next caller tries again. If this call fails, too, that is after the end of the lease.
                    let _ = gate.abandon(coupon_id, &builder).await;
                }
            }
        });
    }

    /// False: there is no such coupon, or another process is the builder.
    async fn rebuild(&self, coupon_id: CouponId, builder: &str, barrier: Duration) -> Result<bool, Fault> {
        if self.source.limits(coupon_id).await?.is_none() {
            self.abandon(coupon_id, builder).await.map_err(redis_fault)?;
            return Ok(false);
        }
        tokio::time::sleep(barrier).await;
        // The gate is as fresh as this moment, because the database is read after it.
        let began = self.write_members(coupon_id, builder, &[]).await?;
        if began == 0 {
            return Ok(false);
        }
        let Some(GateSnapshot { limits, member_counts }) = self.source.snapshot(coupon_id).await? else {
            self.abandon(coupon_id, builder).await.map_err(redis_fault)?;
            return Ok(false);
        };
        let members = match &member_counts {
            MemberCounts::Known(members) => members.as_slice(),
            MemberCounts::TooMany => &[],
        };
        for chunk in members.chunks(CHUNK as usize) {
            if self.write_members(coupon_id, builder, chunk).await? == 0 {
                return Ok(false);
            }
        }
        let mut call = call(&self.redis, &scripts::OPEN, coupon_id);
        write_limits(&mut call, &limits);
        let max_age = u64::try_from(self.times.max_age.as_millis()).unwrap_or(u64::MAX);
        call.arg(builder).arg(u8::from(matches!(member_counts, MemberCounts::TooMany))).arg(max_age).arg(began);
        self.redis.run::<bool>(&call).await.map_err(redis_fault)
    }

    /// Writes member counts and renews the builder's lease. Returns the time by Redis' clock. 0: another process is the builder.
    async fn write_members(&self, coupon_id: CouponId, builder: &str, members: &[(MemberId, u32)]) -> Result<u64, Fault> {
        let mut call = call(&self.redis, &scripts::WRITE_MEMBERS, coupon_id);
        call.arg(builder).arg(micros(self.times.build_lease));
        for (member_id, count) in members {
            call.arg(member_id.0.as_bytes()).arg(*count);
        }
        self.redis.run(&call).await.map_err(redis_fault)
    }

    async fn abandon(&self, coupon_id: CouponId, builder: &str) -> Result<(), RedisError> {
        self.redis.run::<i64>(call(&self.redis, &scripts::CLEAR, coupon_id).arg(builder)).await.map(drop)
    }
}

/// Redis does not hold the truth, so its failure ends only this attempt.
pub(super) fn redis_fault(error: RedisError) -> Fault {
    Fault::Bug(format!("the gate's Redis call failed: {error}"))
}
