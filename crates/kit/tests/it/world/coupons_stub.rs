use super::stock_stub::PlannedFailures;
use contracts::{Kind, Message, messages::StepDone};
use kit::{
    Fault, Kit, Work,
    batch::{Answer, Command, Outcome},
    db::{Migration, params},
    engine::Envelope,
    jobs::{Job, Pass},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// The stub of service `coupons`: holds once per order, and deletes rows of a heap periodically.
pub struct CouponsStub {
    kit: Kit,
    failures: PlannedFailures,
}

impl CouponsStub {
    pub fn new(kit: Kit, failures: PlannedFailures) -> Self {
        Self { kit, failures }
    }

    async fn sweep(self: Arc<Self>) -> Result<Pass, String> {
        let reply = self.kit.batch.submit(&self, Sweep, None, Uuid::nil()).await.map_err(|error| error.to_string())?;
        let kit::Reply::Answer(answer) = reply else { return Err("a sweep has an immediate answer".into()) };
        Ok(if answer.status == 200 { Pass::More } else { Pass::Done })
    }
}

/// Rows deleted per pass.
const SWEEP_LIMIT: i64 = 3;

struct Sweep;

impl Command for Sweep {
    type Service = CouponsStub;
    const OPERATION: &'static str = "coupons.sweep";

    async fn handle<'a>(_: &'a CouponsStub, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut outcomes = Vec::new();
        for _ in commands {
            let sql = "delete from coupons_heap where id in (select id from coupons_heap order by id limit $1)";
            let swept = work.tx.execute(sql, &params![SWEEP_LIMIT]).await?;
            outcomes.push(Answer::empty(if swept == SWEEP_LIMIT.unsigned_abs() { 200 } else { 204 }).into());
        }
        Ok(outcomes)
    }
}

const MIGRATIONS: &[Migration] = &[Migration::new(
    1,
    "init",
    "create table coupons_holds (order_id UUID primary key) without rowid;
     create table coupons_heap (id BIGINT primary key) without rowid;",
)];

kit::module! {
    impl Module for CouponsStub {
        name: "coupons",
        migrations: MIGRATIONS,
        reads: &[Kind::CouponHold],
        consume: CouponsStub::hold,
        jobs: CouponsStub::all_jobs,
    }
}

impl CouponsStub {
    async fn hold(&self, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
        for envelope in messages {
            self.failures.check(envelope)?;
            let Message::CouponHold(hold) = &envelope.message else { return Err(Fault::Bug("only holds are expected".into())) };
            let sql = "insert into coupons_holds (order_id) values ($1) on conflict do nothing";
            work.tx.execute(sql, &params![hold.order_id]).await?;
            work.emit(hold.order_id, Message::CouponHeld(StepDone { order_id: hold.order_id }))?;
        }
        Ok(())
    }

    fn all_jobs(self: &Arc<Self>) -> Vec<Job> {
        vec![Job::new("coupons.sweep", Duration::from_secs(60), {
            let coupons = Arc::clone(self);
            move || Arc::clone(&coupons).sweep()
        })]
    }
}
