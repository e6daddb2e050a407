//! One coupon in one member's hands: ISSUED → HELD by an order → USED, or back; ISSUED → CANCELLED by its owner; ISSUED → EXPIRED by
//! the clock, also when it comes back from an order too late.

use super::{Terms, Unit};
use contracts::{Code, CouponId, IssuedCouponId, MemberId, OrderId, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Issued,
    Held,
    Used,
    Cancelled,
    Expired,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Issued => "ISSUED",
            State::Held => "HELD",
            State::Used => "USED",
            State::Cancelled => "CANCELLED",
            State::Expired => "EXPIRED",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ISSUED" => Some(State::Issued),
            "HELD" => Some(State::Held),
            "USED" => Some(State::Used),
            "CANCELLED" => Some(State::Cancelled),
            "EXPIRED" => Some(State::Expired),
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
    pub state: State,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// The order that holds or used it.
    pub order_id: Option<OrderId>,
    pub used_at: Option<Timestamp>,
    /// It expired while others could still have its unit, and the unit went back to them.
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
            state: State::Issued,
            issued_at,
            expires_at: unit.expires_at,
            order_id: None,
            used_at: None,
            slot_returned: false,
        }
    }

    /// Its state by the clock: the pass that marks expired coupons may not have come to it yet.
    pub fn state_at(&self, now: Timestamp) -> State {
        if self.is_due(now) { State::Expired } else { self.state }
    }

    /// Why its owner cannot use it now (C17).
    pub fn refusal(&self, terms: &Terms, now: Timestamp) -> Option<Code> {
        match self.state_at(now) {
            State::Issued if !terms.has_started(now) => Some(Code::CouponNotStarted),
            State::Issued => None,
            State::Held | State::Used => Some(Code::CouponUsed),
            State::Expired => Some(Code::CouponExpired),
            State::Cancelled => Some(Code::CouponNotUsable),
        }
    }

    /// An order takes it, after [`IssuedCoupon::refusal`] had nothing against it.
    pub fn hold(&mut self, order_id: OrderId) {
        self.state = State::Held;
        self.order_id = Some(order_id);
    }

    /// The order is paid. The coupon counts as used from when the order took it: an order placed in time keeps its coupon, however long
    /// the payment takes, and no coupon is ever used after its end (I-C7).
    pub fn use_up(&mut self, held_at: Timestamp) {
        self.state = State::Used;
        self.used_at = Some(held_at);
    }

    /// The order came to nothing: back to the owner. If it has expired meanwhile, the clock takes it next (C18).
    pub fn release(&mut self) {
        self.state = State::Issued;
        self.order_id = None;
        self.used_at = None;
    }

    /// The owner gives it up (C10).
    pub fn give_back(&mut self, now: Timestamp) -> Result<(), Code> {
        if self.state_at(now) != State::Issued {
            return Err(Code::CouponNotReturnable);
        }
        self.state = State::Cancelled;
        Ok(())
    }

    /// Unused beyond its end, and not marked so yet.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.state == State::Issued && now >= self.expires_at
    }

    /// Marks what is due (C19). Its unit goes back to the pool if others can still have it.
    pub fn expire(&mut self, pool_is_open: bool) {
        self.state = State::Expired;
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
    fn it_can_be_used_once_and_in_time() {
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
    fn an_order_placed_in_time_keeps_its_coupon_beyond_the_end() {
        let mut coupon = coupon(1);
        coupon.hold(ORDER);
        assert!(!coupon.is_due(Timestamp(2_000)), "a held coupon does not expire");
        coupon.use_up(Timestamp(999));
        assert!(coupon.used_at.unwrap() < coupon.expires_at);
    }

    // C18
    #[test]
    fn what_comes_back_from_an_order_is_good_again_or_expired() {
        let mut coupon = coupon(1);
        coupon.hold(ORDER);
        coupon.use_up(Timestamp(10));
        coupon.release();
        assert_eq!((coupon.state, coupon.order_id, coupon.used_at), (State::Issued, None, None));
        assert!(!coupon.is_due(Timestamp(999)) && coupon.is_due(END));
        coupon.expire(true);
        assert_eq!((coupon.state, coupon.slot_returned), (State::Expired, true));
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
