//! A coupon as it was announced, and how far it has been given out: who gets one, who waits, who is too late.
//!
//! Every counter of a campaign is here, so a claim is decided on this one state and what the member has already. It never knows who
//! holds or waits; that is rows, and the caller's part.

use super::{Mistake, Terms, Ticket};
use contracts::{Code, CouponId, Timestamp};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub id: CouponId,
    pub name: String,
    pub terms: Arc<Terms>,
    /// Units to give out; without limit when absent (C1).
    pub quantity: Option<i64>,
    pub issue_until: Timestamp,
    /// Whether those who come too late may wait for a unit to come free.
    pub waitlist: bool,
    /// Units in members' hands: all issued but those that came back.
    pub issued: i64,
    pub next_number: i64,
    pub next_ticket: Ticket,
    /// No ticket below this one waits.
    pub head_ticket: Ticket,
    pub waiting: i64,
    /// Coupons below this number were looked at for expiry …
    pub expire_number: i64,
    /// … and the next look is due then. Numbers expire in order, so no index over all coupons is needed.
    pub expire_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// Counts the saves of this state.
    pub version: i64,
}

/// A definition somebody wants to announce.
#[derive(Clone, Debug)]
pub struct NewDefinition {
    pub name: String,
    pub terms: Terms,
    pub quantity: Option<i64>,
    pub issue_until: Timestamp,
    pub waitlist: bool,
}

/// What may change while a coupon is being given out. What members rely on, the terms, may not.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub name: Option<String>,
    pub quantity: Option<i64>,
    pub issue_until: Option<Timestamp>,
    pub waitlist: Option<bool>,
}

/// Where a coupon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Upcoming,
    Open,
    Closed,
}

/// What a member has of a coupon before he claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// All that were ever issued to him.
    pub issued: u32,
    /// Those of them he gave back.
    pub given_back: u32,
    /// His ticket, while he waits.
    pub ticket: Option<Ticket>,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A unit is his: [`Definition::issue`].
    Granted,
    /// He may wait: [`Definition::enqueue`].
    Queued,
    /// He waits already.
    Waiting(Ticket),
    Refused(Code),
}

/// One unit taken from the pool: the number of the coupon that is issued for it, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    pub number: i64,
    pub expires_at: Timestamp,
}

impl NewDefinition {
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut found = self.terms.mistakes();
        if self.quantity.is_some_and(|quantity| quantity < 1) {
            found.push(Mistake { pointer: "/quantity", message: "must be at least 1" });
        }
        if self.issue_until <= self.terms.issue_from {
            found.push(Mistake { pointer: "/issue_until", message: "must be later than issue_from" });
        }
        if self.waitlist && self.quantity.is_none() {
            found.push(Mistake { pointer: "/waitlist", message: "a coupon without limit has nobody waiting" });
        }
        found
    }

    pub fn announce(&self, id: CouponId, now: Timestamp) -> Definition {
        Definition {
            id,
            name: self.name.clone(),
            terms: Arc::new(self.terms.clone()),
            quantity: self.quantity,
            issue_until: self.issue_until,
            waitlist: self.waitlist,
            issued: 0,
            next_number: 1,
            next_ticket: 1,
            head_ticket: 1,
            waiting: 0,
            expire_number: 1,
            expire_at: None,
            created_at: now,
            deleted_at: None,
            version: 0,
        }
    }
}

impl Standing {
    /// Whether he has had his share. One given back makes room for another only if the terms say so (decision 10).
    fn is_served(self, terms: &Terms) -> bool {
        let counted = if terms.reissue_after_cancel { self.issued - self.given_back } else { self.issued };
        counted >= terms.per_member
    }
}

impl Definition {
    /// The end of giving out: nobody is given a coupon that has expired.
    pub fn closes_at(&self) -> Timestamp {
        self.terms.valid_until.map_or(self.issue_until, |until| until.min(self.issue_until))
    }

    pub fn phase(&self, now: Timestamp) -> Phase {
        if now < self.terms.issue_from {
            Phase::Upcoming
        } else if now < self.closes_at() && self.deleted_at.is_none() {
            Phase::Open
        } else {
            Phase::Closed
        }
    }

    /// Units left in the pool; `None` is without limit.
    pub fn remaining(&self) -> Option<i64> {
        self.quantity.map(|quantity| quantity - self.issued)
    }

    fn has_unit_left(&self) -> bool {
        self.remaining().is_none_or(|left| left > 0)
    }

    /// True when whoever has nothing of this coupon yet cannot get anything either, until this state changes.
    pub fn is_sold_out(&self) -> bool {
        !self.waitlist && self.waiting == 0 && !self.has_unit_left()
    }

    /// First come, first served (C1, C3, C5–C9). The order of the checks is the order in which an applicant would want to know.
    pub fn claim(&self, standing: Standing, now: Timestamp) -> Claim {
        if self.deleted_at.is_some() {
            return Claim::Refused(Code::NotFound);
        }
        if standing.is_served(&self.terms) {
            return Claim::Refused(Code::AlreadyIssued);
        }
        match self.phase(now) {
            Phase::Upcoming => return Claim::Refused(Code::NotOpen),
            Phase::Closed => return Claim::Refused(Code::Closed),
            Phase::Open => {}
        }
        if let Some(ticket) = standing.ticket {
            return Claim::Waiting(ticket);
        }
        // While anybody waits, a free unit is his: a newcomer goes behind him.
        if self.waiting == 0 && self.has_unit_left() {
            Claim::Granted
        } else if self.waitlist {
            Claim::Queued
        } else {
            Claim::Refused(Code::SoldOut)
        }
    }

    /// Takes a unit from the pool.
    pub fn issue(&mut self, now: Timestamp) -> Unit {
        debug_assert!(self.has_unit_left(), "a unit is issued only when one is left");
        let unit = Unit { number: self.next_number, expires_at: self.terms.expires_at(now) };
        self.issued += 1;
        self.next_number += 1;
        self.expire_at = Some(self.expire_at.map_or(unit.expires_at, |at| at.min(unit.expires_at)));
        unit
    }

    /// Puts an applicant behind all who wait: his ticket and his place, which is last.
    pub fn enqueue(&mut self) -> (Ticket, i64) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += 1;
        (ticket, self.waiting)
    }

    /// How many of those who wait can be served now: never more than units are left, none outside the window (C9).
    pub fn admissible(&self, now: Timestamp) -> i64 {
        match self.phase(now) {
            Phase::Open => self.remaining().map_or(self.waiting, |left| left.min(self.waiting)).max(0),
            Phase::Upcoming | Phase::Closed => 0,
        }
    }

    /// Serves the first who waits. His ticket is the new border of those who do not wait any more.
    pub fn admit(&mut self, ticket: Ticket, now: Timestamp) -> Unit {
        self.dismiss(ticket);
        self.issue(now)
    }

    /// The first who waits does not wait any more.
    pub fn dismiss(&mut self, ticket: Ticket) {
        debug_assert!(ticket >= self.head_ticket, "tickets are served in their order");
        self.head_ticket = ticket + 1;
        self.waiting -= 1;
    }

    /// Somebody walks away from the waitlist.
    pub fn leave(&mut self) {
        self.waiting -= 1;
    }

    /// A unit comes back to the pool (C10, decision 10).
    pub fn take_back(&mut self) {
        self.issued -= 1;
    }

    /// True when nobody who still waits can be served any more.
    pub fn abandons_queue(&self, now: Timestamp) -> bool {
        self.waiting > 0 && self.phase(now) == Phase::Closed
    }

    /// What is wrong with a change, given what cannot change: the kind of coupon and the start of its window.
    pub fn mistakes_in(&self, change: &Change) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut check = |holds: bool, pointer, message| {
            if !holds {
                found.push(Mistake { pointer, message });
            }
        };
        check(change.quantity.is_none() || self.quantity.is_some(), "/quantity", "a coupon without limit has no quantity");
        check(change.quantity.is_none_or(|quantity| quantity >= 1), "/quantity", "must be at least 1");
        check(change.issue_until.is_none_or(|until| until > self.terms.issue_from), "/issue_until", "must be later than issue_from");
        check(change.waitlist != Some(true) || self.quantity.is_some(), "/waitlist", "a coupon without limit has nobody waiting");
        found
    }

    /// Changes all that is asked, or nothing.
    pub fn change(&mut self, change: &Change) -> Result<(), Code> {
        if self.deleted_at.is_some() {
            return Err(Code::NotFound);
        }
        if change.quantity.is_some_and(|quantity| quantity < self.issued) {
            return Err(Code::QuantityBelowIssued);
        }
        if let Some(name) = &change.name {
            self.name.clone_from(name);
        }
        self.quantity = change.quantity.or(self.quantity);
        self.issue_until = change.issue_until.unwrap_or(self.issue_until);
        self.waitlist = change.waitlist.unwrap_or(self.waitlist);
        Ok(())
    }

    /// Withdraws it: nobody gets one any more, those issued stay good.
    pub fn delete(&mut self, now: Timestamp) -> Result<(), Code> {
        if self.deleted_at.is_some() {
            return Err(Code::NotFound);
        }
        self.deleted_at = Some(now);
        Ok(())
    }

    /// Notes how far a pass over the numbers came, and when the next coupon is due, if there is one.
    pub fn expired_below(&mut self, number: i64, next_due: Option<Timestamp>) {
        self.expire_number = number;
        self.expire_at = next_due;
    }
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
