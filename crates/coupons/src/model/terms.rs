//! The terms of a coupon. They never change, so its owners can rely on them.

use contracts::{
    Code, StoreId, Timestamp, Won,
    calls::{CouponScope, Discount},
    messages::CouponApplication,
};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The largest rate: 100 percent.
const ALL_BASIS_POINTS: u32 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub discount: Discount,
    pub scope: CouponScope,
    /// The store to whose goods it applies. Required with scope store, never present with scope order.
    pub store_id: Option<StoreId>,
    /// Smallest amount to which it applies.
    pub min_order: Won,
    /// Most coupons per member.
    pub per_member: u32,
    /// A member who gave a coupon back may claim again.
    pub reissue_after_cancel: bool,
    /// First instant of issue.
    pub issue_from: Timestamp,
    /// First instant of use. `None`: at once.
    pub valid_from: Option<Timestamp>,
    /// End of use. At least one of this and `valid_days` is present, and the earlier end counts.
    pub valid_until: Option<Timestamp>,
    /// Days of use, from the first instant at which its owner can use it.
    pub valid_days: Option<u32>,
}

/// A mistake in a request, and the field that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub pointer: &'static str,
    pub message: &'static str,
}

impl Terms {
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut check = |holds: bool, pointer, message| {
            if !holds {
                found.push(Mistake { pointer, message });
            }
        };
        match self.discount {
            Discount::Amount { won } => check(won > Won::ZERO, "/discount/won", "must be more than 0"),
            Discount::Rate { basis_points, max_won } => {
                let pointer = "/discount/basis_points";
                check((1..=ALL_BASIS_POINTS).contains(&basis_points), pointer, "must be between 1 and 10000 (100 percent)");
                check(max_won.is_none_or(|max| max > Won::ZERO), "/discount/max_won", "must be more than 0");
            }
        }
        match self.scope {
            CouponScope::Store => check(self.store_id.is_some(), "/store_id", "a coupon of a store names the store"),
            CouponScope::Order => check(self.store_id.is_none(), "/store_id", "a coupon for whole orders belongs to no store"),
            CouponScope::Item => {}
        }
        check(!self.min_order.is_negative(), "/min_order", "must not be negative");
        check(self.per_member >= 1, "/per_member", "must be at least 1");
        check(self.valid_until.is_some() || self.valid_days.is_some(), "/valid_until", "give valid_until, valid_days or both");
        check(self.valid_days != Some(0), "/valid_days", "must be at least 1");
        check(self.valid_until.is_none_or(|until| until > self.issue_from), "/valid_until", "must be later than issue_from");
        let usable = self.valid_from.zip(self.valid_until).is_none_or(|(from, until)| from < until);
        check(usable, "/valid_from", "must be earlier than valid_until");
        found
    }

    /// End of use of a coupon issued now (C4).
    pub fn expires_at(&self, issued_at: Timestamp) -> Timestamp {
        let usable_from = self.valid_from.map_or(issued_at, |from| from.max(issued_at));
        let after_days = self.valid_days.map(|days| usable_from.after(DAY * days));
        [self.valid_until, after_days].into_iter().flatten().min().unwrap_or(Timestamp::MAX)
    }

    pub fn has_started(&self, now: Timestamp) -> bool {
        self.valid_from.is_none_or(|from| from <= now)
    }

    /// The discount on `base`. `None`: less than the minimum. The minimum itself is enough (C15).
    pub fn discount_on(&self, base: Won) -> Option<Won> {
        (base >= self.min_order).then(|| self.discount.on(base))
    }

    /// Checks that an order applies it to the right store, with the right discount.
    pub fn applies(&self, application: &CouponApplication) -> Result<(), Code> {
        let right_store = self.store_id.is_none() || self.store_id == application.store_id;
        let right_discount = self.discount_on(application.base) == Some(application.discount);
        if right_store && right_discount { Ok(()) } else { Err(Code::CouponNotApplicable) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use contracts::IssuedCouponId;
    use uuid::Uuid;

    pub fn terms() -> Terms {
        Terms {
            discount: Discount::Amount { won: Won(1_000) },
            scope: CouponScope::Order,
            store_id: None,
            min_order: Won::ZERO,
            per_member: 1,
            reissue_after_cancel: false,
            issue_from: Timestamp(0),
            valid_from: None,
            valid_until: Some(Timestamp(10_000)),
            valid_days: None,
        }
    }

    fn pointers(terms: &Terms) -> Vec<&'static str> {
        terms.mistakes().iter().map(|mistake| mistake.pointer).collect()
    }

    // C2, C16 and row 47 of the bad inputs
    #[test]
    fn a_discount_is_above_zero_and_at_most_all() {
        for (discount, expected) in [
            (Discount::Amount { won: Won(1) }, vec![]),
            (Discount::Amount { won: Won(0) }, vec!["/discount/won"]),
            (Discount::Amount { won: Won(-5) }, vec!["/discount/won"]),
            (Discount::Rate { basis_points: 1, max_won: None }, vec![]),
            (Discount::Rate { basis_points: 10_000, max_won: Some(Won(1)) }, vec![]),
            (Discount::Rate { basis_points: 0, max_won: None }, vec!["/discount/basis_points"]),
            (Discount::Rate { basis_points: 10_100, max_won: None }, vec!["/discount/basis_points"]),
            (Discount::Rate { basis_points: 10_001, max_won: Some(Won(0)) }, vec!["/discount/basis_points", "/discount/max_won"]),
        ] {
            assert_eq!(pointers(&Terms { discount, ..terms() }), expected, "{discount:?}");
        }
    }

    // C21
    #[test]
    fn store_coupons_name_a_store_and_order_coupons_none() {
        let store = Some(StoreId(Uuid::from_u128(1)));
        for (scope, store_id, right) in [
            (CouponScope::Item, None, true),
            (CouponScope::Item, store, true),
            (CouponScope::Store, store, true),
            (CouponScope::Store, None, false),
            (CouponScope::Order, None, true),
            (CouponScope::Order, store, false),
        ] {
            assert_eq!(pointers(&Terms { scope, store_id, ..terms() }).is_empty(), right, "{scope:?} {store_id:?}");
        }
    }

    // C4
    #[test]
    fn the_earlier_of_both_ends_counts() {
        let day = 24 * 3600 * 1_000_000;
        let until = Timestamp(10 * day);
        let both = Terms { valid_until: Some(until), valid_days: Some(3), ..terms() };
        assert_eq!(both.expires_at(Timestamp(day)), Timestamp(4 * day));
        assert_eq!(both.expires_at(Timestamp(8 * day)), until);
        assert_eq!(Terms { valid_days: None, ..both.clone() }.expires_at(Timestamp(day)), until);
        assert_eq!(Terms { valid_until: None, ..both.clone() }.expires_at(Timestamp(8 * day)), Timestamp(11 * day));
        let later = Terms { valid_from: Some(Timestamp(5 * day)), ..both };
        assert_eq!(later.expires_at(Timestamp(day)), Timestamp(8 * day), "days count from when it can first be used");
        assert!(!later.has_started(Timestamp(5 * day - 1)) && later.has_started(Timestamp(5 * day)));
    }

    // C4
    #[test]
    fn validity_ends_after_it_begins() {
        let none = Terms { valid_until: None, valid_days: None, ..terms() };
        assert_eq!(pointers(&none), ["/valid_until"]);
        let early = Terms { issue_from: Timestamp(10_000), ..terms() };
        assert_eq!(pointers(&early), ["/valid_until"]);
        let upside_down = Terms { valid_from: Some(Timestamp(10_000)), ..terms() };
        assert_eq!(pointers(&upside_down), ["/valid_from"]);
    }

    // C15, C16, C21
    #[test]
    fn a_coupon_applies_to_its_store_minimum_and_discount() {
        let store = StoreId(Uuid::from_u128(1));
        let terms = Terms {
            discount: Discount::Rate { basis_points: 1_000, max_won: Some(Won(500)) },
            scope: CouponScope::Store,
            store_id: Some(store),
            min_order: Won(3_000),
            ..terms()
        };
        let application = |base, discount, store_id| CouponApplication {
            issued_coupon_id: IssuedCouponId(Uuid::nil()),
            base: Won(base),
            discount: Won(discount),
            store_id,
        };
        assert_eq!(terms.applies(&application(3_000, 300, Some(store))), Ok(()), "the minimum itself is enough");
        assert_eq!(terms.applies(&application(9_000, 500, Some(store))), Ok(()), "the cap caps");
        for wrong in [
            application(2_999, 299, Some(store)),
            application(3_000, 301, Some(store)),
            application(9_000, 900, Some(store)),
            application(3_000, 300, None),
            application(3_000, 300, Some(StoreId(Uuid::from_u128(2)))),
        ] {
            assert_eq!(terms.applies(&wrong), Err(Code::CouponNotApplicable), "{wrong:?}");
        }
    }
}
