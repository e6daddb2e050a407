//! The coupon step of a checkout: hold for an order, mark used, undo. Each is decided once per order, and a repeat gets the same answer.
//! Also claims from the log, and closed accounts.

use crate::{
    Coupons,
    closing::{close_members_in, return_of_closed_in},
    loaded::LoadedCoupons,
    model::OrderHold,
    store::issued,
    waitlist::{expire_in, promote_in},
};
use contracts::{
    CouponId, IssuedCouponId, Kind, MemberId, Message, OrderId, Refusal, Timestamp,
    messages::{ClaimRequested, CouponHold, Participant, RequestToCoupons, SagaAction, SagaTask, execute_tasks, saga_reads, saga_tasks},
};
use kit::{Fault, Work, engine::Envelope};
use std::{convert::Infallible, sync::LazyLock};

pub static READS: LazyLock<Vec<Kind>> = LazyLock::new(|| saga_reads("coupons", &[Kind::ClaimRequested, Kind::MemberClosed]));

/// The coupon step of the loaded orders.
struct CouponStep<'l> {
    loaded: &'l mut LoadedCoupons,
    /// Coupons that an undo gave back to their owners.
    released: &'l mut Vec<IssuedCouponId>,
}

impl Participant for CouponStep<'_> {
    type Request<'m> = RequestToCoupons<'m>;
    type Error = Infallible;

    fn execute(
        &mut self,
        RequestToCoupons::CouponHold(asked): RequestToCoupons<'_>,
        now: Timestamp,
    ) -> Result<Result<(), Refusal>, Infallible> {
        Ok(hold(self.loaded, asked, now))
    }

    fn undo(&mut self, order_id: OrderId, now: Timestamp) -> Result<(), Infallible> {
        self.released.extend(unhold(self.loaded, order_id, now));
        Ok(())
    }

    fn commit(&mut self, order_id: OrderId, _: Timestamp) -> Result<(), Infallible> {
        use_up(self.loaded, order_id);
        Ok(())
    }
}

/// Settles claims from the log, then ends closed accounts, then handles the messages of orders, each in their order.
pub async fn consume(coupons: &Coupons, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut claims: Vec<&ClaimRequested> = Vec::new();
    let mut closed: Vec<MemberId> = Vec::new();
    let mut orders: Vec<&Envelope> = Vec::new();
    for envelope in messages.iter().copied() {
        match &envelope.message {
            Message::ClaimRequested(claim) => claims.push(claim),
            Message::MemberClosed(closing) => closed.push(closing.member_id),
            _ => orders.push(envelope),
        }
    }
    if !claims.is_empty() || !closed.is_empty() {
        // The holds are locked before the coupons of the claims, as in all transactions.
        let ids: Vec<OrderId> = tasks(&orders).map(|task| task.order_id).collect();
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_holds(tx, ids).await?;
    }
    if !claims.is_empty() {
        coupons.settle_from_log(work, &claims).await?;
    }
    if !closed.is_empty() {
        close_members_in(work, &closed).await?;
    }
    if orders.is_empty() { Ok(()) } else { handle_order_messages(work, &orders).await }
}

fn tasks<'m>(messages: &'m [&'m Envelope]) -> impl Iterator<Item = SagaTask<RequestToCoupons<'m>>> {
    messages.iter().flat_map(|envelope| saga_tasks(&envelope.message))
}

async fn handle_order_messages(work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    load(work, messages).await?;
    let now = work.now;
    let mut released = Vec::new();
    for envelope in messages {
        let mut step = CouponStep { loaded: work.loaded(), released: &mut released };
        let Ok(answer) = execute_tasks(&mut step, &envelope.message, now);
        if let Some(answer) = answer {
            work.emit(envelope.key, answer)?;
        }
    }
    expire_released(work, &released).await?;
    return_of_closed_in(work, &released).await
}

/// Loads all rows on which these messages are decided, each once.
async fn load(work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let now = work.now;
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    let orders: Vec<OrderId> = tasks(messages).map(|task| task.order_id).collect();
    let requests = tasks(messages).filter_map(|task| match task.action {
        SagaAction::Do(RequestToCoupons::CouponHold(asked)) => Some(asked),
        SagaAction::Undo(_) | SagaAction::Commit => None,
    });
    let to_hold: Vec<IssuedCouponId> =
        requests.flat_map(|asked| asked.coupons.iter().map(|application| application.issued_coupon_id)).collect();
    loaded.load_holds(tx, orders.iter().copied()).await?;
    let held: Vec<IssuedCouponId> =
        orders.iter().filter_map(|order| loaded.holds.get(*order)).flat_map(|hold| hold.coupons.iter().copied()).collect();
    // A coupon that is released after its end changes its definition, too. The definition is locked first.
    let coupon_ids = issued::definitions_past_end(tx, &held, now).await?;
    loaded.load_definitions(tx, coupon_ids).await?;
    loaded.load_issued(tx, to_hold.iter().chain(&held).copied()).await?;
    let definitions: Vec<CouponId> = to_hold.iter().filter_map(|id| Some(loaded.issued.get(*id)?.coupon_id)).collect();
    loaded.load_terms(tx, definitions).await?;
    Ok(())
}

fn hold(loaded: &mut LoadedCoupons, asked: &CouponHold, now: Timestamp) -> Result<(), Refusal> {
    if let Some(hold) = loaded.holds.get(asked.order_id) {
        return hold.answer();
    }
    let hold = decide(loaded, asked, now);
    let answer = hold.answer();
    loaded.holds.put(asked.order_id, hold);
    answer
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
