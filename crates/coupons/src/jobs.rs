//! Periodic work of coupons: expires unused coupons (C19), closes the waitlists of ended campaigns, and continues promotions that were too
//! many for one transaction. It also folds the names that an earlier binary wrote. Each pass is one bounded command in the queue.

use crate::{
    Coupons,
    loaded::LoadedCoupons,
    model::TicketState,
    store::{definitions, issued, waiting},
    waitlist::{expire_in, promote_in},
};
use contracts::CouponId;
use kit::{
    Answer, Command, Fault, Outcome, Reply, Work,
    batch::SubmitError,
    jobs::{Job, Pass},
};
use std::{sync::Arc, time::Duration};
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
/// Coupons or tickets per pass: a few milliseconds, during which claims wait.
const MAX_ROWS: u32 = 1_000;

/// Statuses of a pass: finished, or to be continued at once.
const DONE: u16 = 204;
const MORE: u16 = 202;

pub fn all(coupons: &Arc<Coupons>) -> Vec<Job> {
    vec![
        job("coupons.expire", EXPIRE_EVERY, coupons, || ExpireCoupons),
        job("coupons.close", CLOSE_EVERY, coupons, || CloseWaitlists),
        job("coupons.promote", PROMOTE_EVERY, coupons, || PromoteWaiting),
        job("coupons.fold", FOLD_EVERY, coupons, || FoldNames),
    ]
}

fn job<C: Command<Service = Coupons>>(name: &'static str, every: Duration, coupons: &Arc<Coupons>, command: fn() -> C) -> Job {
    let coupons = Arc::clone(coupons);
    Job::new(name, every, move || {
        let coupons = Arc::clone(&coupons);
        async move { run_pass(&coupons, command()).await }
    })
}

async fn run_pass<C: Command<Service = Coupons>>(coupons: &Arc<Coupons>, command: C) -> Result<Pass, SubmitError> {
    let reply = coupons.kit.batch.submit(coupons, command, None, Uuid::nil()).await?;
    Ok(if matches!(reply, Reply::Answer(answer) if answer.status == MORE) { Pass::More } else { Pass::Done })
}

/// One pass answers all queued requests for it, because a second one would find nothing new.
fn answers(count: usize, more: bool) -> Vec<Outcome> {
    (0..count).map(|_| Answer::empty(if more { MORE } else { DONE }).into()).collect()
}

struct ExpireCoupons;

impl Command for ExpireCoupons {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.expire";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        let due = definitions::with_due(tx, now, MAX_DEFINITIONS).await?;
        loaded.load_definitions(tx, due.iter().copied()).await?;
        let mut rows_left = MAX_ROWS;
        for id in &due {
            rows_left -= expire_next_in(work, *id, rows_left).await?;
            if rows_left == 0 {
                break;
            }
        }
        promote_in(work, due.iter().copied()).await?;
        Ok(answers(commands.len(), rows_left == 0 || due.len() == MAX_DEFINITIONS as usize))
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

struct CloseWaitlists;

impl Command for CloseWaitlists {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.close";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        let ended = definitions::with_abandoned_waitlist(tx, now, MAX_DEFINITIONS).await?;
        loaded.load_definitions(tx, ended.iter().copied()).await?;
        let mut rows_left = i64::from(MAX_ROWS);
        for id in &ended {
            let Some(definition) = loaded.definitions.get_mut(*id).filter(|definition| definition.has_abandoned_waitlist(now)) else {
                continue;
            };
            let next = waiting::first(tx, *id, definition.head_ticket, rows_left).await?;
            for (ticket, _) in &next {
                definition.remove_first(*ticket);
            }
            waiting::set_state(tx, *id, next.iter().map(|(ticket, _)| *ticket), TicketState::Closed).await?;
            rows_left -= next.len() as i64;
            if rows_left == 0 {
                break;
            }
        }
        Ok(answers(commands.len(), rows_left == 0 || ended.len() == MAX_DEFINITIONS as usize))
    }
}

struct PromoteWaiting;

impl Command for PromoteWaiting {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.promote";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        // One definition per pass, because it may promote as many members as one transaction should.
        let backlog = definitions::with_backlog(tx, now, 1).await?;
        loaded.load_definitions(tx, backlog.iter().copied()).await?;
        let served = promote_in(work, backlog.iter().copied()).await?;
        Ok(answers(commands.len(), served > 0))
    }
}

struct FoldNames;

impl Command for FoldNames {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.fold";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        let unfolded = definitions::unfolded(tx, MAX_DEFINITIONS).await?;
        loaded.load_definitions(tx, unfolded.iter().copied()).await?;
        for id in &unfolded {
            // The save folds the name of every changed definition.
            loaded.definitions.get_mut(*id);
        }
        Ok(answers(commands.len(), unfolded.len() == MAX_DEFINITIONS as usize))
    }
}
