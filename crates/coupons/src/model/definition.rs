//! A coupon as announced, with its counters. Decides claims: a unit, a ticket, or a refusal.
//!
//! This state has every counter of a campaign. A claim is decided on it and on the member's holdings. It does not know the owners and the
//! waiting members: they are rows, which the caller loads.

use super::{Mistake, Terms, Ticket};
use contracts::{Code, CouponId, Timestamp};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub id: CouponId,
    pub name: String,
    pub terms: Arc<Terms>,
    /// Units to issue. `None`: unlimited (C1).
    pub quantity: Option<i64>,
    pub issue_until: Timestamp,
    /// Claims that come too late may wait for a free unit.
    pub waitlist: bool,
    /// Units that members own: all issued units but those returned.
    pub issued: i64,
    pub next_number: i64,
    pub next_ticket: Ticket,
    /// No lower ticket is waiting.
    pub head_ticket: Ticket,
    pub waiting: i64,
    /// Coupons with lower numbers were checked for expiry.
    pub expire_number: i64,
    /// Time of the next check. Numbers expire in order, so no index over all coupons is needed.
    pub expire_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// Counts the saves of this state.
    pub version: i64,
}

/// A definition to be announced.
#[derive(Clone, Debug)]
pub struct NewDefinition {
    pub name: String,
    pub terms: Terms,
    pub quantity: Option<i64>,
    pub issue_until: Timestamp,
    pub waitlist: bool,
}

/// The fields that may change during a campaign. The terms, on which members rely, may not.
#[derive(Clone, Debug, Default)]
pub struct DefinitionChange {
    pub name: Option<String>,
    pub quantity: Option<i64>,
    pub issue_until: Option<Timestamp>,
    pub waitlist: Option<bool>,
}

/// Phase of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CouponPhase {
    Upcoming,
    Open,
    Closed,
}

/// A member's coupons and ticket before a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberHoldings {
    /// All coupons ever issued to the member.
    pub issued: u32,
    /// Those that the member gave back.
    pub given_back: u32,
    /// `None`: the member is not on the waitlist.
    pub ticket: Option<Ticket>,
}

/// The decision on a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimDecision {
    /// The member gets a unit: [`Definition::issue`].
    Granted,
    /// The member gets a ticket: [`Definition::enqueue`].
    Queued,
    /// The member is on the waitlist already.
    Waiting(Ticket),
    Refused(Code),
}

/// One unit taken from the pool: number and end of the coupon that is issued for it.
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
            found.push(Mistake { pointer: "/waitlist", message: "an unlimited coupon has no waitlist" });
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

impl MemberHoldings {
    /// True: the member has reached the limit. A coupon given back allows another one only if the terms say so (decision 10).
    fn is_served(self, terms: &Terms) -> bool {
        let counted = if terms.reissue_after_cancel { self.issued - self.given_back } else { self.issued };
        counted >= terms.per_member
    }
}

impl Definition {
    /// End of issue. A coupon that would be expired is not issued.
    pub fn closes_at(&self) -> Timestamp {
        self.terms.valid_until.map_or(self.issue_until, |until| until.min(self.issue_until))
    }

    pub fn phase(&self, now: Timestamp) -> CouponPhase {
        if now < self.terms.issue_from {
            CouponPhase::Upcoming
        } else if now < self.closes_at() && self.deleted_at.is_none() {
            CouponPhase::Open
        } else {
            CouponPhase::Closed
        }
    }

    /// Units left in the pool. `None`: unlimited.
    pub fn remaining(&self) -> Option<i64> {
        self.quantity.map(|quantity| quantity - self.issued)
    }

    fn has_unit_left(&self) -> bool {
        self.remaining().is_none_or(|left| left > 0)
    }

    /// True: a member without this coupon cannot get anything until this state changes.
    pub fn is_sold_out(&self) -> bool {
        !self.waitlist && self.waiting == 0 && !self.has_unit_left()
    }

    /// Decides a claim, first come, first served (C1, C3, C5–C9). The first reason that applies is the most useful one for the member.
    pub fn claim(&self, holdings: MemberHoldings, now: Timestamp) -> ClaimDecision {
        if self.deleted_at.is_some() {
            return ClaimDecision::Refused(Code::NotFound);
        }
        if holdings.is_served(&self.terms) {
            return ClaimDecision::Refused(Code::AlreadyIssued);
        }
        match self.phase(now) {
            CouponPhase::Upcoming => return ClaimDecision::Refused(Code::NotOpen),
            CouponPhase::Closed => return ClaimDecision::Refused(Code::Closed),
            CouponPhase::Open => {}
        }
        if let Some(ticket) = holdings.ticket {
            return ClaimDecision::Waiting(ticket);
        }
        // While members wait, a free unit is for them. A new claim goes behind them.
        if self.waiting == 0 && self.has_unit_left() {
            ClaimDecision::Granted
        } else if self.waitlist {
            ClaimDecision::Queued
        } else {
            ClaimDecision::Refused(Code::SoldOut)
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

    /// Adds a member to the end of the waitlist. Returns the ticket and the position.
    pub fn enqueue(&mut self) -> (Ticket, i64) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += 1;
        (ticket, self.waiting)
    }

    /// Number of waiting members who can get a unit now. At most the units left, and none outside the window (C9).
    pub fn promotable(&self, now: Timestamp) -> i64 {
        match self.phase(now) {
            CouponPhase::Open => self.remaining().map_or(self.waiting, |left| left.min(self.waiting)).max(0),
            CouponPhase::Upcoming | CouponPhase::Closed => 0,
        }
    }

    /// Issues a unit to the first waiting member. The caller passes that member's ticket.
    pub fn promote(&mut self, ticket: Ticket, now: Timestamp) -> Unit {
        self.remove_first(ticket);
        self.issue(now)
    }

    /// Removes the first waiting member from the waitlist.
    pub fn remove_first(&mut self, ticket: Ticket) {
        debug_assert!(ticket >= self.head_ticket, "tickets are served in their order");
        self.head_ticket = ticket + 1;
        self.waiting -= 1;
    }

    /// Removes any waiting member from the waitlist.
    pub fn leave(&mut self) {
        self.waiting -= 1;
    }

    /// Returns a unit to the pool (C10, decision 10).
    pub fn return_unit(&mut self) {
        self.issued -= 1;
    }

    /// True: members wait, but none of them can get a unit any more.
    pub fn has_abandoned_waitlist(&self, now: Timestamp) -> bool {
        self.waiting > 0 && self.phase(now) == CouponPhase::Closed
    }

    /// Finds the mistakes in a change, against the fixed kind of coupon and start of its window.
    pub fn mistakes_in(&self, change: &DefinitionChange) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut check = |holds: bool, pointer, message| {
            if !holds {
                found.push(Mistake { pointer, message });
            }
        };
        check(change.quantity.is_none() || self.quantity.is_some(), "/quantity", "an unlimited coupon has no quantity");
        check(change.quantity.is_none_or(|quantity| quantity >= 1), "/quantity", "must be at least 1");
        check(change.issue_until.is_none_or(|until| until > self.terms.issue_from), "/issue_until", "must be later than issue_from");
        check(change.waitlist != Some(true) || self.quantity.is_some(), "/waitlist", "an unlimited coupon has no waitlist");
        found
    }

    /// Applies the whole change, or nothing.
    pub fn change(&mut self, change: &DefinitionChange) -> Result<(), Code> {
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

    /// Withdraws the coupon. No more are issued, and issued ones stay usable.
    pub fn delete(&mut self, now: Timestamp) -> Result<(), Code> {
        if self.deleted_at.is_some() {
            return Err(Code::NotFound);
        }
        self.deleted_at = Some(now);
        Ok(())
    }

    /// Records the progress of an expiry pass. `None`: no later coupon will be due.
    pub fn record_expiry_progress(&mut self, number: i64, next_due: Option<Timestamp>) {
        self.expire_number = number;
        self.expire_at = next_due;
    }
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
