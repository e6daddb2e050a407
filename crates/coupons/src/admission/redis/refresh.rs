//! Revalidates the gate against the database, which bounds its staleness.

use super::{SharedGate, call, micros, scripts, write_limits};
use contracts::{CouponId, MemberId, Timestamp};
use kit::{Fault, ports::Stopwatch, redis::RedisError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest wait of a claim for a refresh, before the claim goes to the database.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(250);

/// The reply of [`scripts::ADMIT`].
pub(super) type AdmitReply = (String, String, u32, u64, u64, i64);

/// A refresh that the gate asked one of its callers for.
#[derive(Debug)]
struct RefreshTask {
    /// The gate that asked.
    era: String,
    /// Start by Redis' clock. The values read later were true then, or changed after it.
    began: u64,
    /// Version of the gate at the start. The database has it, too.
    version: i64,
}

impl SharedGate {
    /// Asks the gate, and refreshes it if the reply says so. The stopwatch was started before the reply, so that no slot gets too
    /// young an age.
    pub(super) async fn ask_and_refresh(
        &self,
        coupon_id: CouponId,
        member_id: MemberId,
        now: Timestamp,
        new_gate: &str,
        is_forced: bool,
    ) -> (Result<AdmitReply, RedisError>, Stopwatch) {
        let since = Stopwatch::start();
        let reply = self.ask(coupon_id, member_id, now, new_gate, is_forced).await;
        let Ok((verdict, era, _, _, began @ 1.., version)) = &reply else { return (reply, since) };
        let refreshed = self.start_refresh(coupon_id, RefreshTask { era: era.clone(), began: *began, version: *version });
        if verdict != "refresh" {
            return (reply, since);
        }
        // The state is stale after a quiet time. The refresh reads one row. If it takes too long, the database decides.
        let _ = tokio::time::timeout(REFRESH_TIMEOUT, refreshed).await;
        let since = Stopwatch::start();
        (self.ask(coupon_id, member_id, now, new_gate, is_forced).await, since)
    }

    async fn ask(
        &self,
        coupon_id: CouponId,
        member_id: MemberId,
        now: Timestamp,
        new_gate: &str,
        is_forced: bool,
    ) -> Result<AdmitReply, RedisError> {
        let times = &self.times;
        let mut call = call(&self.redis, &scripts::ADMIT, coupon_id);
        call.arg(member_id.0.as_bytes()).arg(now.0).arg(new_gate);
        call.arg(micros(times.slot_timeout)).arg(micros(times.build_lease)).arg(micros(times.barrier)).arg(micros(times.gap_timeout));
        call.arg(u8::from(is_forced)).arg(micros(times.max_staleness));
        self.redis.run(&call).await
    }

    /// Starts a refresh; the returned future ends with it. If it fails, or this process dies, another caller refreshes after a moment.
    fn start_refresh(&self, coupon_id: CouponId, task: RefreshTask) -> impl Future<Output = ()> + use<> {
        let gate = self.clone();
        let (done, end) = oneshot::channel::<()>();
        kit::tasks::spawn("coupons.gate.refresh", async move {
            if let Err(fault) = gate.refresh(coupon_id, task).await {
                tracing::debug!(%fault, coupon.id = %coupon_id, "gate in Redis not refreshed");
            }
            drop(done);
        });
        async move { drop(end.await) }
    }

    async fn refresh(&self, coupon_id: CouponId, RefreshTask { era, began, version }: RefreshTask) -> Result<(), Fault> {
        let Some(limits) = self.source.limits(coupon_id).await? else { return Ok(()) };
        let mut call = call(&self.redis, &scripts::CONFIRM, coupon_id);
        write_limits(&mut call, &limits);
        call.arg(era).arg(began).arg(version);
        self.redis.run::<i64>(&call).await.map(drop).map_err(super::rebuild::redis_fault)
    }
}
