//! What an order did with its coupons: the coupon step of a checkout, its undo and its completion. Every message may come again, and the
//! undo may come first; the answer then is the same, and the effect is not doubled.

use super::{IssuedCoupon, Terms};
use contracts::{
    Code, IssuedCouponId, OrderId, Refusal, Timestamp,
    messages::{CouponApplication, CouponHold},
};
use std::collections::HashSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    Held,
    Used,
    /// Undone: the coupons went back.
    Released,
    /// Never held: a coupon could not be used.
    Refused,
    /// Undone before it was asked for.
    Tombstone,
}

impl HoldState {
    pub fn as_str(self) -> &'static str {
        match self {
            HoldState::Held => "HELD",
            HoldState::Used => "USED",
            HoldState::Released => "RELEASED",
            HoldState::Refused => "REFUSED",
            HoldState::Tombstone => "TOMBSTONE",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "HELD" => Some(HoldState::Held),
            "USED" => Some(HoldState::Used),
            "RELEASED" => Some(HoldState::Released),
            "REFUSED" => Some(HoldState::Refused),
            "TOMBSTONE" => Some(HoldState::Tombstone),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub order_id: OrderId,
    pub state: HoldState,
    pub coupons: Vec<IssuedCouponId>,
    pub held_at: Timestamp,
    /// When the order should have ended.
    pub expires_at: Timestamp,
    pub refusal: Option<Refusal>,
}

impl Hold {
    /// The first `coupon.hold` of an order: all its coupons or none.
    pub fn decide<'a>(asked: &CouponHold, now: Timestamp, find: impl Fn(IssuedCouponId) -> Option<(&'a IssuedCoupon, &'a Terms)>) -> Hold {
        let mut named = HashSet::with_capacity(asked.coupons.len());
        let refusal = asked.coupons.iter().find_map(|application| {
            let id = application.issued_coupon_id;
            let code = if named.insert(id) { objection(asked, application, now, find(id)) } else { Some(Code::CouponUsed) };
            code.map(|code| Refusal::new(code, format!("{} ({id})", code.title())))
        });
        Hold {
            order_id: asked.order_id,
            state: if refusal.is_some() { HoldState::Refused } else { HoldState::Held },
            coupons: if refusal.is_some() { Vec::new() } else { asked.coupons.iter().map(|coupon| coupon.issued_coupon_id).collect() },
            held_at: now,
            expires_at: asked.expires_at,
            refusal,
        }
    }

    /// An undo that came before its do.
    pub fn tombstone(order_id: OrderId, now: Timestamp) -> Hold {
        Hold { order_id, state: HoldState::Tombstone, coupons: Vec::new(), held_at: now, expires_at: now, refusal: None }
    }

    /// What `coupon.hold` is answered, the first time and at every repeat.
    pub fn answer(&self) -> Result<(), Refusal> {
        match self.state {
            HoldState::Held | HoldState::Used => Ok(()),
            HoldState::Refused => Err(self.refusal.clone().unwrap_or_else(|| Code::CouponNotUsable.into())),
            HoldState::Released | HoldState::Tombstone => Err(Code::StepTimedOut.into()),
        }
    }

    /// The order is paid. The coupons that are to become used, once.
    pub fn use_up(&mut self) -> &[IssuedCouponId] {
        if self.state != HoldState::Held {
            return &[];
        }
        self.state = HoldState::Used;
        &self.coupons
    }

    /// The order came to nothing, before or after it was paid. The coupons that go back, once.
    pub fn release(&mut self) -> &[IssuedCouponId] {
        if !matches!(self.state, HoldState::Held | HoldState::Used) {
            return &[];
        }
        self.state = HoldState::Released;
        &self.coupons
    }
}

/// Why a coupon cannot be applied as the order wants. Unknown and foreign coupons look the same, or ids could be probed.
fn objection(asked: &CouponHold, application: &CouponApplication, now: Timestamp, found: Option<(&IssuedCoupon, &Terms)>) -> Option<Code> {
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

    fn decide(asked: &CouponHold, now: Timestamp) -> Hold {
        let (coupons, terms) = ([coupon(1), coupon(2)], terms());
        Hold::decide(asked, now, |id| coupons.iter().find(|coupon| coupon.id == id).map(|coupon| (coupon, &terms)))
    }

    fn code(hold: &Hold) -> Option<Code> {
        hold.answer().err().map(|refusal| refusal.code)
    }

    // C17
    #[test]
    fn all_coupons_are_held_or_none() {
        let both = decide(&asked(&[1, 2]), Timestamp(10));
        assert_eq!((both.state, both.coupons.len()), (HoldState::Held, 2));
        for (ids, expected) in [(&[1, 3], Code::CouponNotUsable), (&[1, 1], Code::CouponUsed)] {
            let hold = decide(&asked(ids), Timestamp(10));
            assert_eq!((hold.state, hold.coupons.len(), code(&hold)), (HoldState::Refused, 0, Some(expected)));
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
    fn each_step_works_once() {
        let mut hold = decide(&asked(&[1]), Timestamp(10));
        assert_eq!(hold.use_up().len(), 1);
        assert_eq!(hold.use_up().len(), 0);
        assert_eq!(code(&hold), None, "a repeat of the do is told the same");
        assert_eq!(hold.release().len(), 1, "an order cancelled before it was shipped gives its coupons back");
        assert_eq!(hold.release().len(), 0);
        assert_eq!(hold.use_up().len(), 0);
        assert_eq!(code(&hold), Some(Code::StepTimedOut));
    }

    #[test]
    fn an_undo_without_its_do_refuses_a_late_do() {
        let mut hold = Hold::tombstone(OrderId(Uuid::from_u128(5)), Timestamp(10));
        assert_eq!((hold.release().len(), hold.use_up().len()), (0, 0));
        assert_eq!(code(&hold), Some(Code::StepTimedOut));
    }
}
