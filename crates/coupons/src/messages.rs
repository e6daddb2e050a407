//! The coupon step of a checkout: hold for an order, make used, undo. Each is decided once per order; a repeat gets the same answer.

use crate::{
    model::Hold,
    store::Books,
    waitlist::{expire_in, promote_in},
};
use contracts::{
    CouponId, IssuedCouponId, Message, OrderId, Timestamp,
    messages::{CouponHold, StepDone, StepRefused},
};
use kit::{Fault, Work, engine::Envelope};

/// What happened to these orders, in the order it was written.
pub async fn consume(work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut books = work.take_stash::<Books>();
    load(work, &mut books, messages).await?;
    let mut released = Vec::new();
    for envelope in messages {
        match &envelope.message {
            Message::CouponHold(asked) => hold(work, &mut books, asked)?,
            Message::CouponUse(step) => use_up(&mut books, step.order_id),
            Message::CouponUnhold(step) => released.extend(unhold(work, &mut books, step.order_id)?),
            _ => {}
        }
    }
    retire(work, &mut books, &released).await?;
    work.put_stash(books);
    Ok(())
}

/// Everything these messages decide on, each row once.
async fn load(work: &mut Work, books: &mut Books, messages: &[&Envelope]) -> Result<(), Fault> {
    let (mut orders, mut coupons) = (Vec::with_capacity(messages.len()), Vec::with_capacity(messages.len()));
    let mut to_hold: Vec<IssuedCouponId> = Vec::new();
    for envelope in messages {
        match &envelope.message {
            Message::CouponHold(asked) => {
                orders.push(asked.order_id);
                to_hold.extend(asked.coupons.iter().map(|application| application.issued_coupon_id));
            }
            Message::CouponUse(step) | Message::CouponUnhold(step) => orders.push(step.order_id),
            _ => {}
        }
    }
    books.load_holds(&mut work.tx, orders.iter().copied()).await?;
    coupons.extend_from_slice(&to_hold);
    coupons.extend(orders.iter().filter_map(|order| books.holds.get(*order)).flat_map(|hold| &hold.coupons));
    books.load_issued(&mut work.tx, coupons).await?;
    let definitions: Vec<CouponId> = to_hold.iter().filter_map(|id| Some(books.issued.get(*id)?.coupon_id)).collect();
    books.load_terms(&mut work.tx, definitions).await?;
    Ok(())
}

fn hold(work: &mut Work, books: &mut Books, asked: &CouponHold) -> Result<(), Fault> {
    let order_id = asked.order_id;
    let answer = match books.holds.get(order_id) {
        Some(hold) => hold.answer(),
        None => {
            let hold = decide(books, asked, work.now);
            let answer = hold.answer();
            books.holds.add(order_id, hold);
            answer
        }
    };
    let message = match answer {
        Ok(()) => Message::CouponHeld(StepDone { order_id }),
        Err(refusal) => Message::CouponRefused(StepRefused { order_id, code: refusal.code, detail: refusal.detail }),
    };
    work.emit(order_id, message)
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
fn unhold(work: &mut Work, books: &mut Books, order_id: OrderId) -> Result<Vec<IssuedCouponId>, Fault> {
    let mut released = Vec::new();
    match books.holds.get_mut(order_id) {
        Some(hold) => released.extend_from_slice(hold.release()),
        None => books.holds.add(order_id, Hold::tombstone(order_id, work.now)),
    }
    for id in &released {
        if let Some(coupon) = books.issued.get_mut(*id) {
            coupon.release();
        }
    }
    work.emit(order_id, Message::CouponReleased(StepDone { order_id }))?;
    Ok(released)
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
