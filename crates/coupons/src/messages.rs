//! The coupon step of a checkout: hold for an order, make used, undo. Each is decided once per order; a repeat gets the same answer.

use crate::{
    Coupons,
    model::Hold,
    store::{Books, issued},
    waitlist::{expire_in, promote_in},
};
use contracts::{
    CouponId, IssuedCouponId, Message, OrderId, Refusal, Timestamp,
    messages::{ClaimAsked, CouponHold, RoutingSlip, StepDone, StepRefused, Stop, Way},
};
use kit::{Fault, Work, engine::Envelope};

pub const READS: &[&str] =
    &["coupon.hold", "coupon.unhold", "coupon.use", "orders.slip", "stock.slip", "wallet.slip", "payments.slip", "coupon.claim"];

const ME: &str = "coupons";

/// What happened to these orders, in the order it was written.
pub async fn consume(coupons: &Coupons, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let (claims, orders): (Vec<&Envelope>, Vec<&Envelope>) =
        messages.iter().partition(|envelope| matches!(envelope.message, Message::ClaimAsked(_)));
    let asked: Vec<&ClaimAsked> = claims
        .iter()
        .filter_map(|envelope| match &envelope.message {
            Message::ClaimAsked(asked) => Some(asked),
            _ => None,
        })
        .collect();
    if !asked.is_empty() {
        // Locked before the coupons that are claimed, as everywhere.
        let mut books = work.take_stash::<Books>();
        books.load_holds(&mut work.tx, orders.iter().filter_map(|envelope| order_of(&envelope.message))).await?;
        work.put_stash(books);
        coupons.settle_asked(work, &asked).await?;
    }
    if orders.is_empty() { Ok(()) } else { serve_orders(work, &orders).await }
}

/// Whose coupons a message is about.
fn order_of(message: &Message) -> Option<OrderId> {
    match message {
        Message::CouponHold(asked) => Some(asked.order_id),
        Message::CouponUse(step) | Message::CouponUnhold(step) => Some(step.order_id),
        other => other.slip().filter(|slip| slip.call(ME).is_some()).map(|slip| slip.order_id),
    }
}

async fn serve_orders(work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut books = work.take_stash::<Books>();
    load(work, &mut books, messages).await?;
    let mut released = Vec::new();
    for envelope in messages {
        match &envelope.message {
            Message::CouponHold(asked) => hold(work, &mut books, asked)?,
            Message::CouponUse(step) => use_up(&mut books, step.order_id),
            Message::CouponUnhold(step) => {
                released.extend(unhold(&mut books, step.order_id, work.now));
                work.emit(step.order_id, Message::CouponReleased(StepDone { order_id: step.order_id }))?;
            }
            other => {
                if let Some(slip) = other.slip().filter(|slip| slip.call(ME).is_some()) {
                    let slip = travel(&mut books, slip.clone(), &mut released, work.now);
                    work.emit(slip.order_id, Message::CouponsSlip(slip))?;
                }
            }
        }
    }
    retire(work, &mut books, &released).await?;
    work.put_stash(books);
    Ok(())
}

/// Everything these messages decide on, each row once.
async fn load(work: &mut Work, books: &mut Books, messages: &[&Envelope]) -> Result<(), Fault> {
    let orders: Vec<OrderId> = messages.iter().filter_map(|envelope| order_of(&envelope.message)).collect();
    let mut coupons = Vec::with_capacity(messages.len());
    let mut to_hold: Vec<IssuedCouponId> = Vec::new();
    for envelope in messages {
        match &envelope.message {
            Message::CouponHold(asked) => to_hold.extend(asked.coupons.iter().map(|application| application.issued_coupon_id)),
            other => {
                let Some(slip) = other.slip() else { continue };
                if let Some((Way::Forward, Stop::CouponHold(asked))) = slip.call(ME) {
                    to_hold.extend(asked.coupons.iter().map(|application| application.issued_coupon_id));
                }
            }
        }
    }
    books.load_holds(&mut work.tx, orders.iter().copied()).await?;
    let held: Vec<IssuedCouponId> =
        orders.iter().filter_map(|order| books.holds.get(*order)).flat_map(|hold| hold.coupons.iter().copied()).collect();
    // What comes back after its end changes its definition as well, which is locked before it.
    let pools = issued::ended(&mut work.tx, &held, work.now).await?;
    books.load_definitions(&mut work.tx, pools).await?;
    coupons.extend(to_hold.iter().chain(&held));
    books.load_issued(&mut work.tx, coupons).await?;
    let definitions: Vec<CouponId> = to_hold.iter().filter_map(|id| Some(books.issued.get(*id)?.coupon_id)).collect();
    books.load_terms(&mut work.tx, definitions).await?;
    Ok(())
}

fn hold(work: &mut Work, books: &mut Books, asked: &CouponHold) -> Result<(), Fault> {
    let order_id = asked.order_id;
    let message = match hold_for(books, asked, work.now) {
        Ok(()) => Message::CouponHeld(StepDone { order_id }),
        Err(refusal) => Message::CouponRefused(StepRefused { order_id, code: refusal.code, detail: refusal.detail }),
    };
    work.emit(order_id, message)
}

fn hold_for(books: &mut Books, asked: &CouponHold, now: Timestamp) -> Result<(), Refusal> {
    if let Some(hold) = books.holds.get(asked.order_id) {
        return hold.answer();
    }
    let hold = decide(books, asked, now);
    let answer = hold.answer();
    books.holds.add(asked.order_id, hold);
    answer
}

/// Does or undoes what a slip calls for. What comes back is added to `released`.
fn travel(books: &mut Books, mut slip: RoutingSlip, released: &mut Vec<IssuedCouponId>, now: Timestamp) -> RoutingSlip {
    while let Some((way, stop)) = slip.call(ME) {
        match (way, stop) {
            (Way::Back, _) => {
                released.extend(unhold(books, slip.order_id, now));
                slip.undone(now);
            }
            (Way::Forward, Stop::CouponHold(asked)) => {
                let answer = hold_for(books, asked, now);
                slip.answer(answer, now);
            }
            (Way::Forward, _) => break,
        }
    }
    slip
}

fn decide(books: &mut Books, asked: &CouponHold, now: Timestamp) -> Hold {
    let hold = Hold::decide(asked, now, |id| {
        let coupon = books.issued.get(id)?;
        Some((coupon, books.terms(coupon.coupon_id)?))
    });
    for id in &hold.coupons {
        if let Some(coupon) = books.issued.get_mut(*id) {
            coupon.hold(asked.order_id);
        }
    }
    hold
}

fn use_up(books: &mut Books, order_id: OrderId) {
    let Some(hold) = books.holds.get_mut(order_id) else {
        // The saga holds before it uses; without a hold there is nothing that could be used.
        tracing::error!(order.id = %order_id, "an order is paid whose coupons it never held");
        return;
    };
    let held_at = hold.held_at;
    for id in hold.use_up() {
        if let Some(coupon) = books.issued.get_mut(*id) {
            coupon.use_up(held_at);
        }
    }
}

/// The coupons that came back.
fn unhold(books: &mut Books, order_id: OrderId, now: Timestamp) -> Vec<IssuedCouponId> {
    let mut released = Vec::new();
    match books.holds.get_mut(order_id) {
        Some(hold) => released.extend_from_slice(hold.release()),
        None => books.holds.add(order_id, Hold::tombstone(order_id, now)),
    }
    for id in &released {
        if let Some(coupon) = books.issued.get_mut(*id) {
            coupon.release();
        }
    }
    released
}

/// What came back too late to be used again is expired at once, and its unit goes to the next who waits (C18).
async fn retire(work: &mut Work, books: &mut Books, released: &[IssuedCouponId]) -> Result<(), Fault> {
    let now = work.now;
    let due = released.iter().filter_map(|id| books.issued.get(*id)).filter(|coupon| coupon.is_due(now));
    let (due, pools): (Vec<IssuedCouponId>, Vec<CouponId>) = due.map(|coupon| (coupon.id, coupon.coupon_id)).unzip();
    if due.is_empty() {
        return Ok(());
    }
    books.load_definitions(&mut work.tx, pools.iter().copied()).await?;
    for id in due {
        expire_in(work, books, id)?;
    }
    promote_in(work, books, pools).await?;
    Ok(())
}
