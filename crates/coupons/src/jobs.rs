//! What coupons does by the clock: expires unused coupons (C19), closes the waitlists of campaigns that ended, and goes on serving a
//! waitlist that one transaction could not serve whole. Each pass is one command in the queue like any other, and bounded.

use crate::{
    Coupons,
    model::TicketState,
    store::{Books, definitions, issued, waiting},
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

/// A coupon is unusable from its end on by the clock alone; only its unit waits for the pass.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// Nobody is served after the end either way; this only tells those who wait.
const CLOSE_EVERY: Duration = Duration::from_secs(5);
/// What is left to serve is served without a pause; this is how soon it begins.
const PROMOTE_EVERY: Duration = Duration::from_secs(1);
/// Definitions looked at in one pass.
const DEFINITIONS: u32 = 50;
/// Coupons or tickets looked at in one pass: some milliseconds in which no claim is settled.
const ROWS: u32 = 1_000;

/// Answers of a pass: nothing is left, or the next one should follow at once.
const DONE: u16 = 204;
const MORE: u16 = 202;

pub fn all(coupons: &Arc<Coupons>) -> Vec<Job> {
    vec![
        job("coupons.expire", EXPIRE_EVERY, coupons, || Expire),
        job("coupons.close", CLOSE_EVERY, coupons, || Close),
        job("coupons.promote", PROMOTE_EVERY, coupons, || Promote),
    ]
}

fn job<C: Command<Service = Coupons>>(name: &'static str, every: Duration, coupons: &Arc<Coupons>, command: fn() -> C) -> Job {
    let coupons = Arc::clone(coupons);
    Job::new(name, every, move || {
        let coupons = Arc::clone(&coupons);
        async move { pass(&coupons, command()).await }
    })
}

async fn pass<C: Command<Service = Coupons>>(coupons: &Arc<Coupons>, command: C) -> Result<Pass, SubmitError> {
    let reply = coupons.kit.batch.submit(coupons, command, None, Uuid::nil()).await?;
    Ok(if matches!(reply, Reply::Answer(answer) if answer.status == MORE) { Pass::More } else { Pass::Done })
}

/// One pass answers all that were asked for: the next finds nothing new.
fn answers(count: usize, more: bool) -> Vec<Outcome> {
    (0..count).map(|_| Answer::empty(if more { MORE } else { DONE }).into()).collect()
}

struct Expire;

impl Command for Expire {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.expire";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut books = work.take_stash::<Books>();
        let due = definitions::with_due(&mut work.tx, work.now, DEFINITIONS).await?;
        books.load_definitions(&mut work.tx, due.iter().copied()).await?;
        let mut rows_left = ROWS;
        for id in &due {
            rows_left -= expire_next_in(work, &mut books, *id, rows_left).await?;
            if rows_left == 0 {
                break;
            }
        }
        promote_in(work, &mut books, due.iter().copied()).await?;
        work.put_stash(books);
        Ok(answers(commands.len(), rows_left == 0 || due.len() == DEFINITIONS as usize))
    }
}

/// Walks a coupon's numbers from where the last pass stopped to the first that is not due, at most `limit` of them; how many it saw.
///
/// Later numbers were issued later and so expire later: everything below a number that is not due has been seen, held coupons included.
/// Those meet the clock when they come back from their order. (Where the clocks of several processes differ, a number may wait behind one
/// that ends as much later; none is passed over.)
async fn expire_next_in(work: &mut Work, books: &mut Books, id: CouponId, limit: u32) -> Result<u32, Fault> {
    let Some(definition) = books.definitions.get(id) else { return Ok(0) };
    let from = definition.expire_number;
    let rows = issued::by_number(&mut work.tx, id, from, limit).await?;
    let due = rows.iter().take_while(|(_, _, expires_at)| *expires_at <= work.now).count();
    let mut next_due = rows.get(due).map(|(_, _, expires_at)| *expires_at);
    let next = rows[..due].last().map_or(from, |(_, number, _)| number + 1);
    let seen = u32::try_from(due).unwrap_or(limit);
    books.load_issued(&mut work.tx, rows[..due].iter().map(|(id, _, _)| *id)).await?;
    for (issued_id, _, _) in &rows[..due] {
        expire_in(work, books, *issued_id)?;
    }
    if seen == limit {
        // There may be more; the next pass looks there.
        next_due = Some(work.now);
    }
    if let Some(definition) = books.definitions.get_mut(id) {
        definition.expired_below(next, next_due);
    }
    Ok(seen)
}

struct Close;

impl Command for Close {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.close";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut books = work.take_stash::<Books>();
        let ended = definitions::with_abandoned_queue(&mut work.tx, work.now, DEFINITIONS).await?;
        books.load_definitions(&mut work.tx, ended.iter().copied()).await?;
        let mut rows_left = i64::from(ROWS);
        for id in &ended {
            let Some(definition) = books.definitions.get_mut(*id).filter(|definition| definition.abandons_queue(work.now)) else {
                continue;
            };
            let next = waiting::first(&mut work.tx, *id, definition.head_ticket, rows_left).await?;
            for (ticket, _) in &next {
                definition.dismiss(*ticket);
            }
            waiting::settle(&mut work.tx, *id, next.iter().map(|(ticket, _)| *ticket), TicketState::Closed).await?;
            rows_left -= next.len() as i64;
            if rows_left == 0 {
                break;
            }
        }
        work.put_stash(books);
        Ok(answers(commands.len(), rows_left == 0 || ended.len() == DEFINITIONS as usize))
    }
}

struct Promote;

impl Command for Promote {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.promote";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut books = work.take_stash::<Books>();
        // One at a time: each may serve as many as one transaction should.
        let behind = definitions::with_backlog(&mut work.tx, work.now, 1).await?;
        books.load_definitions(&mut work.tx, behind.iter().copied()).await?;
        let served = promote_in(work, &mut books, behind.iter().copied()).await?;
        work.put_stash(books);
        Ok(answers(commands.len(), served > 0))
    }
}
