//! The coupons of an order: the coupon step of a checkout, its undo and its completion. Every message may be repeated, and the undo may
//! arrive first. A repeat gets the same answer and has no second effect.

use super::{IssuedCoupon, Terms};
use contracts::{
    Code, IssuedCouponId, OrderId, Refusal, Timestamp,
    messages::{CouponApplication, CouponHold},
};
use std::collections::HashSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderHoldState {
    Held,
    Used,
    /// Undone: the coupons were released.
    Released,
    /// Never held: a coupon could not be used.
    Refused,
    /// Undone before the hold arrived.
    Tombstone,
}

impl OrderHoldState {
    pub fn as_str(self) -> &'static str {
        match self {
            OrderHoldState::Held => "HELD",
            OrderHoldState::Used => "USED",
            OrderHoldState::Released => "RELEASED",
            OrderHoldState::Refused => "REFUSED",
            OrderHoldState::Tombstone => "TOMBSTONE",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "HELD" => Some(OrderHoldState::Held),
            "USED" => Some(OrderHoldState::Used),
            "RELEASED" => Some(OrderHoldState::Released),
            "REFUSED" => Some(OrderHoldState::Refused),
            "TOMBSTONE" => Some(OrderHoldState::Tombstone),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderHold {
    pub order_id: OrderId,
    pub state: OrderHoldState,
    pub coupons: Vec<IssuedCouponId>,
    pub held_at: Timestamp,
    /// Expected end of the order.
    pub expires_at: Timestamp,
    pub refusal: Option<Refusal>,
}

impl OrderHold {
    /// Decides the first `coupon.hold` of an order: all its coupons, or none.
    pub fn decide<'a>(
        asked: &CouponHold,
        now: Timestamp,
        find: impl Fn(IssuedCouponId) -> Option<(&'a IssuedCoupon, &'a Terms)>,
    ) -> OrderHold {
        let mut named = HashSet::with_capacity(asked.coupons.len());
        let refusal = asked.coupons.iter().find_map(|application| {
            let id = application.issued_coupon_id;
            let code = if named.insert(id) { refusal_for(asked, application, now, find(id)) } else { Some(Code::CouponUsed) };
            code.map(|code| Refusal::new(code, format!("{} ({id})", code.title())))
        });
        OrderHold {
            order_id: asked.order_id,
            state: if refusal.is_some() { OrderHoldState::Refused } else { OrderHoldState::Held },
            coupons: if refusal.is_some() { Vec::new() } else { asked.coupons.iter().map(|coupon| coupon.issued_coupon_id).collect() },
            held_at: now,
            expires_at: asked.expires_at,
            refusal,
        }
    }

    /// Records an undo that arrived before its hold.
    pub fn tombstone(order_id: OrderId, now: Timestamp) -> OrderHold {
        OrderHold { order_id, state: OrderHoldState::Tombstone, coupons: Vec::new(), held_at: now, expires_at: now, refusal: None }
    }

    /// The answer to `coupon.hold`, the same for every repeat.
    pub fn answer(&self) -> Result<(), Refusal> {
        match self.state {
            OrderHoldState::Held | OrderHoldState::Used => Ok(()),
            OrderHoldState::Refused => Err(self.refusal.clone().unwrap_or_else(|| Code::CouponNotUsable.into())),
            OrderHoldState::Released | OrderHoldState::Tombstone => Err(Code::StepTimedOut.into()),
        }
    }

    /// Marks the order paid. Returns the coupons to mark used; none on a repeat.
    pub fn use_up(&mut self) -> &[IssuedCouponId] {
        if self.state != OrderHoldState::Held {
            return &[];
        }
        self.state = OrderHoldState::Used;
        &self.coupons
    }

    /// Undoes the order, paid or not. Returns the coupons to release; none on a repeat.
    pub fn release(&mut self) -> &[IssuedCouponId] {
        if !matches!(self.state, OrderHoldState::Held | OrderHoldState::Used) {
            return &[];
        }
        self.state = OrderHoldState::Released;
        &self.coupons
    }
}

/// The reason why a coupon cannot be applied as requested. Unknown and foreign coupons give the same reason, so that ids cannot be probed.
fn refusal_for(
    asked: &CouponHold,
    application: &CouponApplication,
    now: Timestamp,
    found: Option<(&IssuedCoupon, &Terms)>,
) -> Option<Code> {
    match found {
        Some((coupon, terms)) if coupon.member_id == asked.member_id => {
            coupon.refusal(terms, now).or_else(|| terms.applies(application).err())
        }
        _ => Some(Code::CouponNotUsable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        issued::tests::{END, coupon},
        terms::tests::terms,
    };
    use contracts::{MemberId, Won};
    use uuid::Uuid;

    fn asked(ids: &[u128]) -> CouponHold {
        CouponHold {
            order_id: OrderId(Uuid::from_u128(5)),
            member_id: coupon(1).member_id,
            coupons: ids.iter().map(|id| application(*id)).collect(),
            expires_at: Timestamp(600),
        }
    }

    fn application(id: u128) -> CouponApplication {
        CouponApplication { issued_coupon_id: IssuedCouponId(Uuid::from_u128(id)), base: Won(5_000), discount: Won(1_000), store_id: None }
    }

    fn decide(asked: &CouponHold, now: Timestamp) -> OrderHold {
        let (coupons, terms) = ([coupon(1), coupon(2)], terms());
        OrderHold::decide(asked, now, |id| coupons.iter().find(|coupon| coupon.id == id).map(|coupon| (coupon, &terms)))
    }

    fn code(hold: &OrderHold) -> Option<Code> {
        hold.answer().err().map(|refusal| refusal.code)
    }

    // C17
    #[test]
    fn an_order_holds_all_its_coupons_or_none() {
        let both = decide(&asked(&[1, 2]), Timestamp(10));
        assert_eq!((both.state, both.coupons.len()), (OrderHoldState::Held, 2));
        for (ids, expected) in [(&[1, 3], Code::CouponNotUsable), (&[1, 1], Code::CouponUsed)] {
            let hold = decide(&asked(ids), Timestamp(10));
            assert_eq!((hold.state, hold.coupons.len(), code(&hold)), (OrderHoldState::Refused, 0, Some(expected)));
        }
        assert_eq!(code(&decide(&asked(&[1]), END)), Some(Code::CouponExpired));
    }

    // C17: rows 37 and 38 of the bad inputs
    #[test]
    fn a_foreign_coupon_looks_like_an_unknown_one() {
        let foreign = CouponHold { member_id: MemberId(Uuid::from_u128(77)), ..asked(&[1]) };
        assert_eq!(code(&decide(&foreign, Timestamp(10))), code(&decide(&asked(&[9]), Timestamp(10))));
    }

    // C15, C21
    #[test]
    fn the_discount_is_computed_again() {
        let mut greedy = asked(&[1]);
        greedy.coupons[0].discount = Won(1_001);
        assert_eq!(code(&decide(&greedy, Timestamp(10))), Some(Code::CouponNotApplicable));
    }

    // C18, G4
    #[test]
    fn each_step_takes_effect_once() {
        let mut hold = decide(&asked(&[1]), Timestamp(10));
        assert_eq!(hold.use_up().len(), 1);
        assert_eq!(hold.use_up().len(), 0);
        assert_eq!(code(&hold), None, "a repeat of the hold gets the same answer");
        assert_eq!(hold.release().len(), 1, "an order cancelled before it was shipped gives its coupons back");
        assert_eq!(hold.release().len(), 0);
        assert_eq!(hold.use_up().len(), 0);
        assert_eq!(code(&hold), Some(Code::StepTimedOut));
    }

    #[test]
    fn an_early_undo_refuses_the_late_hold() {
        let mut hold = OrderHold::tombstone(OrderId(Uuid::from_u128(5)), Timestamp(10));
        assert_eq!((hold.release().len(), hold.use_up().len()), (0, 0));
        assert_eq!(code(&hold), Some(Code::StepTimedOut));
    }
}
