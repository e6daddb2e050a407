//! Periodic work of coupons: expires unused coupons (C19), closes the waitlists of ended campaigns, and continues promotions that were too
//! many for one transaction. It also folds the names that an earlier binary wrote.

use crate::{
    Coupons,
    loaded::LoadedCoupons,
    model::TicketState,
    store::{definitions, issued, waiting},
    waitlist::{expire_in, promote_in},
};
use contracts::{CouponId, Timestamp};
use kit::{
    Answer, Command, DbError, Fault, Outcome, Reply, Tx, Work,
    engine::passed_over::PassedOver,
    http::Problem,
    jobs::{Job, Pass},
};
use std::{future::Future, sync::Arc, time::Duration};
use uuid::Uuid;

/// Clients see a coupon as expired from its end on. Only its unit waits for the pass.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// The end alone stops promotions. This pass only informs the waiting members.
const CLOSE_EVERY: Duration = Duration::from_secs(5);
/// Delay before the first pass of a backlog. The passes after it follow at once.
const PROMOTE_EVERY: Duration = Duration::from_secs(1);
/// Searches find coupons of an earlier binary after this time. It runs beside this one only during an upgrade.
const FOLD_EVERY: Duration = Duration::from_secs(5);
/// Definitions per pass.
const MAX_DEFINITIONS: u32 = 50;
/// Coupons or tickets per command: a few milliseconds, during which claims wait.
const MAX_ROWS: u32 = 1_000;

/// Statuses of a command: finished, or to be continued at once.
const DONE: u16 = 204;
const MORE: u16 = 202;

pub fn all(coupons: &Arc<Coupons>) -> Vec<Job> {
    vec![
        job::<ExpireCoupons>("coupons.expire", EXPIRE_EVERY, coupons),
        job::<CloseWaitlist>("coupons.close", CLOSE_EVERY, coupons),
        job::<PromoteWaiting>("coupons.promote", PROMOTE_EVERY, coupons),
        job::<FoldName>("coupons.fold", FOLD_EVERY, coupons),
    ]
}

/// Periodic work on one definition. Each definition has a transaction of its own, so that a locked or broken one delays no other.
trait PeriodicWork: Command<Service = Coupons> {
    fn on(id: CouponId) -> Self;

    /// Definitions with work to do, at most `limit`.
    fn find(tx: &mut Tx, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<CouponId>, DbError>> + Send;
}

fn job<W: PeriodicWork>(name: &'static str, every: Duration, coupons: &Arc<Coupons>) -> Job {
    let (coupons, passed_over) = (Arc::clone(coupons), Arc::new(PassedOver::new(name)));
    Job::new(name, every, move || {
        let (coupons, passed_over) = (Arc::clone(&coupons), Arc::clone(&passed_over));
        async move { run_pass::<W>(&coupons, name, &passed_over).await.map_err(|problem| problem.refusal) }
    })
}

async fn run_pass<W: PeriodicWork>(
    coupons: &Arc<Coupons>,
    name: &'static str,
    passed_over: &PassedOver<CouponId>,
) -> Result<Pass, Problem> {
    let mut ids = {
        let mut reader = coupons.kit.db.reader().await?;
        W::find(&mut reader, coupons.kit.clock.now(), MAX_DEFINITIONS + passed_over.count()).await?
    };
    passed_over.limit(&mut ids, MAX_DEFINITIONS);
    let (mut failed, mut error) = (0, None);
    let mut has_more = ids.len() == MAX_DEFINITIONS as usize;
    for id in &ids {
        let result = coupons.kit.batch.submit(coupons, W::on(*id), None, Uuid::nil()).await;
        passed_over.record(*id, &result);
        match result {
            Ok(reply) => has_more |= matches!(reply, Reply::Answer(answer) if answer.status == MORE),
            Err(fault) => (failed, error) = (failed + 1, Some(fault)),
        }
    }
    match error {
        Some(error) if failed == ids.len() => return Err(error.into()),
        Some(error) => tracing::warn!(job = name, failed, of = ids.len(), %error, "coupons passed over"),
        None => {}
    }
    Ok(if has_more { Pass::More } else { Pass::Done })
}

fn outcome(has_more: bool) -> Outcome {
    Answer::empty(if has_more { MORE } else { DONE }).into()
}

struct ExpireCoupons {
    id: CouponId,
}

impl PeriodicWork for ExpireCoupons {
    fn on(id: CouponId) -> Self {
        Self { id }
    }

    fn find(tx: &mut Tx, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<CouponId>, DbError>> + Send {
        definitions::with_due(tx, now, limit)
    }
}

impl Command for ExpireCoupons {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.expire";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        let ids: Vec<CouponId> = commands.iter().map(|command| command.id).collect();
        loaded.load_definitions(tx, ids.clone()).await?;
        let mut outcomes = Vec::with_capacity(ids.len());
        for id in &ids {
            let passed = expire_next_in(work, *id, MAX_ROWS).await?;
            outcomes.push(outcome(passed == MAX_ROWS));
        }
        promote_in(work, ids).await?;
        Ok(outcomes)
    }
}

/// Expires a coupon's numbers, from the last pass's stop to the first that is not due, at most `limit`. Returns the count of numbers passed.
///
/// Higher numbers were issued later and expire later. So all due numbers are below the first one that is not due. Held coupons are passed,
/// too: they expire when their order releases them. If the clocks of two processes differ, a number may wait for a lower one that ends
/// later by that difference. No number is skipped.
async fn expire_next_in(work: &mut Work, id: CouponId, limit: u32) -> Result<u32, Fault> {
    let now = work.now;
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    let Some(definition) = loaded.definitions.get(id) else { return Ok(0) };
    let from = definition.expire_number;
    let rows = issued::by_number(tx, id, from, limit).await?;
    let due = rows.iter().take_while(|(_, _, expires_at)| *expires_at <= now).count();
    let mut next_due = rows.get(due).map(|(_, _, expires_at)| *expires_at);
    let next = rows[..due].last().map_or(from, |(_, number, _)| number + 1);
    let passed = u32::try_from(due).unwrap_or(limit);
    loaded.load_issued(tx, rows[..due].iter().map(|(id, _, _)| *id)).await?;
    for (issued_id, _, _) in &rows[..due] {
        expire_in(work, *issued_id)?;
    }
    if passed == limit {
        // There may be more. The next pass continues here.
        next_due = Some(now);
    }
    if let Some(definition) = work.loaded::<LoadedCoupons>().definitions.get_mut(id) {
        definition.record_expiry_progress(next, next_due);
    }
    Ok(passed)
}

struct CloseWaitlist {
    id: CouponId,
}

impl PeriodicWork for CloseWaitlist {
    fn on(id: CouponId) -> Self {
        Self { id }
    }

    fn find(tx: &mut Tx, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<CouponId>, DbError>> + Send {
        definitions::with_abandoned_waitlist(tx, now, limit)
    }
}

impl Command for CloseWaitlist {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.close";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_definitions(tx, commands.iter().map(|command| command.id)).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for CloseWaitlist { id } in commands {
            let Some(definition) = loaded.definitions.get_mut(*id).filter(|definition| definition.has_abandoned_waitlist(now)) else {
                outcomes.push(outcome(false));
                continue;
            };
            let next = waiting::first(tx, *id, definition.head_ticket, i64::from(MAX_ROWS)).await?;
            for (ticket, _) in &next {
                definition.remove_first(*ticket);
            }
            waiting::set_state(tx, *id, next.iter().map(|(ticket, _)| *ticket), TicketState::Closed).await?;
            outcomes.push(outcome(next.len() == MAX_ROWS as usize));
        }
        Ok(outcomes)
    }
}

struct PromoteWaiting {
    id: CouponId,
}

impl PeriodicWork for PromoteWaiting {
    fn on(id: CouponId) -> Self {
        Self { id }
    }

    fn find(tx: &mut Tx, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<CouponId>, DbError>> + Send {
        definitions::with_backlog(tx, now, limit)
    }
}

impl Command for PromoteWaiting {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.promote";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_definitions(tx, commands.iter().map(|command| command.id)).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let served = promote_in(work, [command.id]).await?;
            outcomes.push(outcome(served > 0));
        }
        Ok(outcomes)
    }
}

/// Folds the name of a coupon that an earlier binary wrote.
struct FoldName {
    id: CouponId,
}

impl PeriodicWork for FoldName {
    fn on(id: CouponId) -> Self {
        Self { id }
    }

    fn find(tx: &mut Tx, _: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<CouponId>, DbError>> + Send {
        definitions::unfolded(tx, limit)
    }
}

impl Command for FoldName {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.fold";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_definitions(tx, commands.iter().map(|command| command.id)).await?;
        for command in commands {
            // The save folds the name of every changed definition.
            loaded.definitions.mark_changed(command.id);
        }
        Ok(commands.iter().map(|_| outcome(false)).collect())
    }
}
