//! Asks the gate, and looks into the database now and then, so that nothing is believed for long that nobody has told the gate otherwise.

use super::{SharedGate, call, micros, scripts, write_doors};
use contracts::{CouponId, MemberId, Timestamp};
use kit::{Fault, ports::Stopwatch, redis::RedisError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long one who looks into the database waits for it, before his claim goes there.
const LOOKED: Duration = Duration::from_millis(250);

/// What the script answers, see [`scripts::ADMIT`].
pub(super) type Answer = (String, String, u32, u64, u64, i64);

/// Of all who ask, one process is to look.
#[derive(Debug)]
struct Look {
    /// The gate that it is for.
    era: String,
    /// By Redis' clock; what is read later was true then, or became so since.
    began: u64,
    /// What the gate had been told by then. The database has it.
    version: i64,
}

impl SharedGate {
    /// Asks, and looks if nobody else does. The watch started before the answer: a place is not younger than it is believed to be.
    pub(super) async fn ask_and_look(
        &self,
        coupon_id: CouponId,
        member_id: MemberId,
        now: Timestamp,
        new_gate: &str,
        insists: bool,
    ) -> (Result<Answer, RedisError>, Stopwatch) {
        let held = Stopwatch::start();
        let answer = self.ask(coupon_id, member_id, now, new_gate, insists).await;
        let Ok((what, era, _, _, began @ 1.., version)) = &answer else { return (answer, held) };
        let looking = self.start_looking(coupon_id, Look { era: era.clone(), began: *began, version: *version });
        if what != "look" {
            return (answer, held);
        }
        // After a quiet time nobody knows whether he is to be refused. It is one row; when that takes long, the database decides.
        let _ = tokio::time::timeout(LOOKED, looking).await;
        let held = Stopwatch::start();
        (self.ask(coupon_id, member_id, now, new_gate, insists).await, held)
    }

    async fn ask(
        &self,
        coupon_id: CouponId,
        member_id: MemberId,
        now: Timestamp,
        new_gate: &str,
        insists: bool,
    ) -> Result<Answer, RedisError> {
        let times = &self.times;
        let mut call = call(&self.redis, &scripts::ADMIT, coupon_id);
        call.arg(member_id.0.as_bytes()).arg(now.0).arg(new_gate);
        call.arg(micros(times.place)).arg(micros(times.lease)).arg(micros(times.barrier)).arg(micros(times.hole)).arg(u8::from(insists));
        call.arg(micros(times.believed));
        self.redis.run(&call).await
    }

    /// It need not be waited for. If it fails, or this process dies, another one looks after a moment.
    fn start_looking(&self, coupon_id: CouponId, look: Look) -> impl Future<Output = ()> + use<> {
        let gate = self.clone();
        let (looked, end) = oneshot::channel::<()>();
        kit::tasks::spawn("coupons.gate.look", async move {
            if let Err(fault) = gate.look(coupon_id, look).await {
                tracing::debug!(%fault, coupon.id = %coupon_id, "the gate in Redis could not be compared with the database");
            }
            drop(looked);
        });
        async move { drop(end.await) }
    }

    async fn look(&self, coupon_id: CouponId, Look { era, began, version }: Look) -> Result<(), Fault> {
        let Some(doors) = self.truth.doors(coupon_id).await? else { return Ok(()) };
        let mut call = call(&self.redis, &scripts::CONFIRM, coupon_id);
        write_doors(&mut call, &doors);
        call.arg(era).arg(began).arg(version);
        self.redis.run::<i64>(&call).await.map(drop).map_err(super::build::outage)
    }
}
