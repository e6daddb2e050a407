//! The coupon step of a checkout: hold for an order, mark used, undo. Each is decided once per order, and a repeat gets the same answer.

use crate::{
    Coupons,
    loaded::LoadedCoupons,
    model::OrderHold,
    store::issued,
    waitlist::{expire_in, promote_in},
};
use contracts::{
    CouponId, IssuedCouponId, Kind, Message, OrderId, Refusal, Timestamp,
    messages::{ClaimRequested, CouponHold, Direction, RoutingSlip, SlipStep, StepDone, StepRefused},
};
use kit::{Fault, Work, engine::Envelope};

pub const READS: &[Kind] = &[
    Kind::CouponHold,
    Kind::CouponUnhold,
    Kind::CouponUse,
    Kind::OrdersSlip,
    Kind::StockSlip,
    Kind::WalletSlip,
    Kind::PaymentsSlip,
    Kind::ClaimRequested,
];

const SERVICE: &str = "coupons";

/// Settles claims from the log, then handles the messages of orders, both in their order.
pub async fn consume(coupons: &Coupons, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let (claims, orders): (Vec<&Envelope>, Vec<&Envelope>) =
        messages.iter().partition(|envelope| matches!(envelope.message, Message::ClaimRequested(_)));
    let claims: Vec<&ClaimRequested> = claims
        .iter()
        .filter_map(|envelope| match &envelope.message {
            Message::ClaimRequested(claim) => Some(claim),
            _ => None,
        })
        .collect();
    if !claims.is_empty() {
        // The holds are locked before the coupons of the claims, as in all transactions.
        let mut loaded = work.take_stash::<LoadedCoupons>();
        loaded.load_holds(&mut work.tx, orders.iter().filter_map(|envelope| order_of(&envelope.message))).await?;
        work.put_stash(loaded);
        coupons.settle_from_log(work, &claims).await?;
    }
    if orders.is_empty() { Ok(()) } else { handle_order_messages(work, &orders).await }
}

/// The order whose coupons a message is about.
fn order_of(message: &Message) -> Option<OrderId> {
    match message {
        Message::CouponHold(asked) => Some(asked.order_id),
        Message::CouponUse(step) | Message::CouponUnhold(step) => Some(step.order_id),
        other => other.slip().filter(|slip| slip.next_step(SERVICE).is_some()).map(|slip| slip.order_id),
    }
}

async fn handle_order_messages(work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut loaded = work.take_stash::<LoadedCoupons>();
    load(work, &mut loaded, messages).await?;
    let mut released = Vec::new();
    for envelope in messages {
        match &envelope.message {
            Message::CouponHold(asked) => hold(work, &mut loaded, asked)?,
            Message::CouponUse(step) => use_up(&mut loaded, step.order_id),
            Message::CouponUnhold(step) => {
                released.extend(unhold(&mut loaded, step.order_id, work.now));
                work.emit(step.order_id, Message::CouponReleased(StepDone { order_id: step.order_id }))?;
            }
            other => {
                if let Some(slip) = other.slip().filter(|slip| slip.next_step(SERVICE).is_some()) {
                    let slip = advance_slip(&mut loaded, slip.clone(), &mut released, work.now);
                    work.emit(slip.order_id, Message::CouponsSlip(slip))?;
                }
            }
        }
    }
    work.put_stash(loaded);
    expire_released(work, &released).await
}

/// Loads all rows on which these messages are decided, each once.
async fn load(work: &mut Work, loaded: &mut LoadedCoupons, messages: &[&Envelope]) -> Result<(), Fault> {
    let orders: Vec<OrderId> = messages.iter().filter_map(|envelope| order_of(&envelope.message)).collect();
    let mut coupons = Vec::with_capacity(messages.len());
    let mut to_hold: Vec<IssuedCouponId> = Vec::new();
    for envelope in messages {
        match &envelope.message {
            Message::CouponHold(asked) => to_hold.extend(asked.coupons.iter().map(|application| application.issued_coupon_id)),
            other => {
                let Some(slip) = other.slip() else { continue };
                if let Some((Direction::Forward, SlipStep::CouponHold(asked))) = slip.next_step(SERVICE) {
                    to_hold.extend(asked.coupons.iter().map(|application| application.issued_coupon_id));
                }
            }
        }
    }
    loaded.load_holds(&mut work.tx, orders.iter().copied()).await?;
    let held: Vec<IssuedCouponId> =
        orders.iter().filter_map(|order| loaded.holds.get(*order)).flat_map(|hold| hold.coupons.iter().copied()).collect();
    // A coupon that is released after its end changes its definition, too. The definition is locked first.
    let coupon_ids = issued::definitions_past_end(&mut work.tx, &held, work.now).await?;
    loaded.load_definitions(&mut work.tx, coupon_ids).await?;
    coupons.extend(to_hold.iter().chain(&held));
    loaded.load_issued(&mut work.tx, coupons).await?;
    let definitions: Vec<CouponId> = to_hold.iter().filter_map(|id| Some(loaded.issued.get(*id)?.coupon_id)).collect();
    loaded.load_terms(&mut work.tx, definitions).await?;
    Ok(())
}

fn hold(work: &mut Work, loaded: &mut LoadedCoupons, asked: &CouponHold) -> Result<(), Fault> {
    let order_id = asked.order_id;
    let message = match hold_for(loaded, asked, work.now) {
        Ok(()) => Message::CouponHeld(StepDone { order_id }),
        Err(refusal) => Message::CouponRefused(StepRefused { order_id, code: refusal.code, detail: refusal.detail }),
    };
    work.emit(order_id, message)
}

fn hold_for(loaded: &mut LoadedCoupons, asked: &CouponHold, now: Timestamp) -> Result<(), Refusal> {
    if let Some(hold) = loaded.holds.get(asked.order_id) {
        return hold.answer();
    }
    let hold = decide(loaded, asked, now);
    let answer = hold.answer();
    loaded.holds.put(asked.order_id, hold);
    answer
}

/// Does or undoes the steps of coupons in a slip. Adds the released coupons to `released`.
fn advance_slip(loaded: &mut LoadedCoupons, mut slip: RoutingSlip, released: &mut Vec<IssuedCouponId>, now: Timestamp) -> RoutingSlip {
    while let Some((direction, step)) = slip.next_step(SERVICE) {
        match (direction, step) {
            (Direction::Back, _) => {
                released.extend(unhold(loaded, slip.order_id, now));
                slip.record_undone(now);
            }
            (Direction::Forward, SlipStep::CouponHold(asked)) => {
                let answer = hold_for(loaded, asked, now);
                slip.record_result(answer, now);
            }
            (Direction::Forward, _) => break,
        }
    }
    slip
}

fn decide(loaded: &mut LoadedCoupons, asked: &CouponHold, now: Timestamp) -> OrderHold {
    let hold = OrderHold::decide(asked, now, |id| {
        let coupon = loaded.issued.get(id)?;
        Some((coupon, loaded.terms(coupon.coupon_id)?))
    });
    for id in &hold.coupons {
        if let Some(coupon) = loaded.issued.get_mut(*id) {
            coupon.hold(asked.order_id);
        }
    }
    hold
}

fn use_up(loaded: &mut LoadedCoupons, order_id: OrderId) {
    let Some(hold) = loaded.holds.get_mut(order_id) else {
        // The saga holds before it uses. Without a hold there is no coupon to mark.
        tracing::error!(order.id = %order_id, "order paid that holds no coupons");
        return;
    };
    let held_at = hold.held_at;
    for id in hold.use_up() {
        if let Some(coupon) = loaded.issued.get_mut(*id) {
            coupon.use_up(held_at);
        }
    }
}

/// Returns the released coupons.
fn unhold(loaded: &mut LoadedCoupons, order_id: OrderId, now: Timestamp) -> Vec<IssuedCouponId> {
    let mut released = Vec::new();
    match loaded.holds.get_mut(order_id) {
        Some(hold) => released.extend_from_slice(hold.release()),
        None => loaded.holds.put(order_id, OrderHold::tombstone(order_id, now)),
    }
    for id in &released {
        if let Some(coupon) = loaded.issued.get_mut(*id) {
            coupon.release();
        }
    }
    released
}

/// Expires released coupons that are past their end, and promotes waiting members to their units (C18).
async fn expire_released(work: &mut Work, released: &[IssuedCouponId]) -> Result<(), Fault> {
    let now = work.now;
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    let due = released.iter().filter_map(|id| loaded.issued.get(*id)).filter(|coupon| coupon.is_due(now));
    let (due, coupon_ids): (Vec<IssuedCouponId>, Vec<CouponId>) = due.map(|coupon| (coupon.id, coupon.coupon_id)).unzip();
    if due.is_empty() {
        return Ok(());
    }
    loaded.load_definitions(tx, coupon_ids.iter().copied()).await?;
    for id in due {
        expire_in(work, id)?;
    }
    promote_in(work, coupon_ids).await?;
    Ok(())
}
