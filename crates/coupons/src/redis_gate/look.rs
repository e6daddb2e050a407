//! Looks into the database, so that nothing is believed for long that nobody has told the gate otherwise.

use super::{SharedGate, call, scripts, write_doors};
use contracts::CouponId;
use kit::Fault;

/// Of all who ask, one process is to look.
#[derive(Debug)]
pub(super) struct Look {
    /// The gate that it is for.
    pub era: String,
    /// By Redis' clock; what is read later was true then, or became so since.
    pub began: u64,
    /// What the gate had been told by then. The database has it.
    pub version: i64,
}

impl SharedGate {
    /// Nobody waits for it. If it fails, or this process dies, another one looks after a moment.
    pub(super) fn start_looking(&self, coupon_id: CouponId, look: Look) {
        let gate = self.clone();
        kit::tasks::spawn("coupons.gate.look", async move {
            if let Err(fault) = gate.look(coupon_id, look).await {
                tracing::debug!(%fault, coupon.id = %coupon_id, "the gate in Redis could not be compared with the database");
            }
        });
    }

    async fn look(&self, coupon_id: CouponId, Look { era, began, version }: Look) -> Result<(), Fault> {
        let Some(doors) = self.truth.doors(coupon_id).await? else { return Ok(()) };
        let mut call = call(&self.redis, &scripts::CONFIRM, coupon_id);
        write_doors(&mut call, &doors);
        call.arg(era).arg(began).arg(version);
        self.redis.run::<i64>(&call).await.map(drop).map_err(super::build::outage)
    }
}
