//! One coupon that a member owns. States: ISSUED → HELD by an order → USED, or released back to ISSUED. ISSUED → CANCELLED by its owner.
//! ISSUED → EXPIRED by the clock, also after a late release.

use super::{Terms, Unit};
use contracts::{Code, CouponId, IssuedCouponId, MemberId, OrderId, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuedState {
    Issued,
    Held,
    Used,
    Cancelled,
    Expired,
}

impl IssuedState {
    pub fn as_str(self) -> &'static str {
        match self {
            IssuedState::Issued => "ISSUED",
            IssuedState::Held => "HELD",
            IssuedState::Used => "USED",
            IssuedState::Cancelled => "CANCELLED",
            IssuedState::Expired => "EXPIRED",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ISSUED" => Some(IssuedState::Issued),
            "HELD" => Some(IssuedState::Held),
            "USED" => Some(IssuedState::Used),
            "CANCELLED" => Some(IssuedState::Cancelled),
            "EXPIRED" => Some(IssuedState::Expired),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCoupon {
    pub id: IssuedCouponId,
    pub coupon_id: CouponId,
    pub member_id: MemberId,
    /// The member's first, second … of this coupon.
    pub nth: u32,
    pub number: i64,
    pub state: IssuedState,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// The order that holds or used it.
    pub order_id: Option<OrderId>,
    pub used_at: Option<Timestamp>,
    /// It expired while the coupon was open, and its unit returned to the pool.
    pub slot_returned: bool,
}

impl IssuedCoupon {
    pub fn new(id: IssuedCouponId, coupon_id: CouponId, member_id: MemberId, nth: u32, unit: Unit, issued_at: Timestamp) -> Self {
        Self {
            id,
            coupon_id,
            member_id,
            nth,
            number: unit.number,
            state: IssuedState::Issued,
            issued_at,
            expires_at: unit.expires_at,
            order_id: None,
            used_at: None,
            slot_returned: false,
        }
    }

    /// The state by the clock. The expiry pass may not have marked it yet.
    pub fn state_at(&self, now: Timestamp) -> IssuedState {
        if self.is_due(now) { IssuedState::Expired } else { self.state }
    }

    /// The reason why its owner cannot use it now (C17).
    pub fn refusal(&self, terms: &Terms, now: Timestamp) -> Option<Code> {
        match self.state_at(now) {
            IssuedState::Issued if !terms.has_started(now) => Some(Code::CouponNotStarted),
            IssuedState::Issued => None,
            IssuedState::Held | IssuedState::Used => Some(Code::CouponUsed),
            IssuedState::Expired => Some(Code::CouponExpired),
            IssuedState::Cancelled => Some(Code::CouponNotUsable),
        }
    }

    /// Holds it for an order. The caller has checked [`IssuedCoupon::refusal`].
    pub fn hold(&mut self, order_id: OrderId) {
        self.state = IssuedState::Held;
        self.order_id = Some(order_id);
    }

    /// Marks it used, because its order is paid. It counts as used since the order held it. So an order placed in time keeps its coupon,
    /// however late the payment is. And no coupon is used after its end (I-C7).
    pub fn use_up(&mut self, held_at: Timestamp) {
        self.state = IssuedState::Used;
        self.used_at = Some(held_at);
    }

    /// Returns it to its owner, because its order failed. If it is past its end, it expires next (C18).
    pub fn release(&mut self) {
        self.state = IssuedState::Issued;
        self.order_id = None;
        self.used_at = None;
    }

    /// Cancels it for its owner (C10).
    pub fn give_back(&mut self, now: Timestamp) -> Result<(), Code> {
        if self.state_at(now) != IssuedState::Issued {
            return Err(Code::CouponNotReturnable);
        }
        self.state = IssuedState::Cancelled;
        Ok(())
    }

    /// Unused, past its end, and not marked expired yet.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.state == IssuedState::Issued && now >= self.expires_at
    }

    /// Marks it expired (C19). Its unit returns to the pool while the coupon is open.
    pub fn expire(&mut self, pool_is_open: bool) {
        self.state = IssuedState::Expired;
        self.slot_returned = pool_is_open;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::terms::tests::terms;
    use uuid::Uuid;

    pub const END: Timestamp = Timestamp(1_000);

    pub fn coupon(n: u128) -> IssuedCoupon {
        let unit = Unit { number: 1, expires_at: END };
        let ids = (IssuedCouponId(Uuid::from_u128(n)), CouponId(Uuid::from_u128(900)), MemberId(Uuid::from_u128(901)));
        IssuedCoupon::new(ids.0, ids.1, ids.2, 1, unit, Timestamp(0))
    }

    const ORDER: OrderId = OrderId(Uuid::from_u128(5));

    // C17
    #[test]
    fn a_coupon_is_used_once_and_in_time() {
        let terms = Terms { valid_from: Some(Timestamp(10)), ..terms() };
        let mut coupon = coupon(1);
        for (now, expected) in [(9, Some(Code::CouponNotStarted)), (10, None), (999, None), (1_000, Some(Code::CouponExpired))] {
            assert_eq!(coupon.refusal(&terms, Timestamp(now)), expected, "{now}");
        }
        coupon.hold(ORDER);
        assert_eq!(coupon.refusal(&terms, Timestamp(10)), Some(Code::CouponUsed));
        coupon.use_up(Timestamp(10));
        assert_eq!(coupon.refusal(&terms, Timestamp(10)), Some(Code::CouponUsed));
    }

    // I-C7
    #[test]
    fn a_held_coupon_stays_usable_after_its_end() {
        let mut coupon = coupon(1);
        coupon.hold(ORDER);
        assert!(!coupon.is_due(Timestamp(2_000)), "a held coupon does not expire");
        coupon.use_up(Timestamp(999));
        assert!(coupon.used_at.unwrap() < coupon.expires_at);
    }

    // C18
    #[test]
    fn a_released_coupon_is_usable_again_or_expired() {
        let mut coupon = coupon(1);
        coupon.hold(ORDER);
        coupon.use_up(Timestamp(10));
        coupon.release();
        assert_eq!((coupon.state, coupon.order_id, coupon.used_at), (IssuedState::Issued, None, None));
        assert!(!coupon.is_due(Timestamp(999)) && coupon.is_due(END));
        coupon.expire(true);
        assert_eq!((coupon.state, coupon.slot_returned), (IssuedState::Expired, true));
        assert!(!coupon.is_due(END), "expired once");
    }

    // C10
    #[test]
    fn only_an_unused_coupon_can_be_given_back() {
        for spoil in [
            (|coupon| coupon.hold(ORDER)) as fn(&mut IssuedCoupon),
            |coupon| coupon.use_up(Timestamp(0)),
            |coupon| coupon.expire(false),
            |coupon| coupon.give_back(Timestamp(0)).unwrap(),
        ] {
            let mut coupon = coupon(1);
            spoil(&mut coupon);
            assert_eq!(coupon.give_back(Timestamp(0)), Err(Code::CouponNotReturnable), "{:?}", coupon.state);
        }
        assert_eq!(coupon(1).give_back(END), Err(Code::CouponNotReturnable), "expired by the clock, though not yet marked");
    }
}
