use super::*;
use crate::model::terms::tests::terms;
use proptest::prelude::*;
use std::collections::VecDeque;
use uuid::Uuid;

const FROM: Timestamp = Timestamp(100);
const UNTIL: Timestamp = Timestamp(200);

fn announced(quantity: Option<i64>, waitlist: bool) -> Definition {
    let terms = Terms { issue_from: FROM, ..terms() };
    let new = NewDefinition { name: "autumn".into(), terms, quantity, issue_until: UNTIL, waitlist };
    assert_eq!(new.mistakes(), []);
    new.announce(CouponId(Uuid::nil()), Timestamp(0))
}

fn has(issued: u32, given_back: u32) -> MemberHoldings {
    MemberHoldings { issued, given_back, ticket: None }
}

const NOTHING: MemberHoldings = MemberHoldings { issued: 0, given_back: 0, ticket: None };

// C3: [start, end)
#[test]
fn a_coupon_is_issued_from_start_until_just_before_end() {
    let definition = announced(Some(1), false);
    for (now, expected) in [
        (99, ClaimDecision::Refused(Code::NotOpen)),
        (100, ClaimDecision::Granted),
        (199, ClaimDecision::Granted),
        (200, ClaimDecision::Refused(Code::Closed)),
    ] {
        assert_eq!(definition.claim(NOTHING, Timestamp(now)), expected, "{now}");
    }
}

// C4: a coupon that would be expired is not issued
#[test]
fn a_coupon_closes_early_when_its_validity_ends_first() {
    let mut definition = announced(Some(1), false);
    definition.terms = Arc::new(Terms { valid_until: Some(Timestamp(150)), ..(*definition.terms).clone() });
    assert_eq!(definition.closes_at(), Timestamp(150));
    assert_eq!(definition.claim(NOTHING, Timestamp(149)), ClaimDecision::Granted);
    assert_eq!(definition.claim(NOTHING, Timestamp(150)), ClaimDecision::Refused(Code::Closed));
}

// C5, C7
#[test]
fn a_member_gets_no_more_than_the_limit() {
    let mut definition = announced(None, false);
    definition.terms = Arc::new(Terms { per_member: 2, ..(*definition.terms).clone() });
    assert_eq!(definition.claim(has(1, 0), FROM), ClaimDecision::Granted);
    assert_eq!(definition.claim(has(2, 0), FROM), ClaimDecision::Refused(Code::AlreadyIssued));
    assert_eq!(definition.claim(has(2, 1), FROM), ClaimDecision::Refused(Code::AlreadyIssued), "one given back still counts");
    definition.terms = Arc::new(Terms { reissue_after_cancel: true, ..(*definition.terms).clone() });
    assert_eq!(definition.claim(has(2, 1), FROM), ClaimDecision::Granted);
    assert_eq!(definition.claim(has(3, 1), FROM), ClaimDecision::Refused(Code::AlreadyIssued));
}

// C7: an owner gets already-issued, also if the coupon is sold out or closed. A deleted coupon is not found.
#[test]
fn each_refusal_has_its_own_code() {
    let mut definition = announced(Some(1), false);
    definition.issue(FROM);
    assert_eq!(definition.claim(has(1, 0), FROM), ClaimDecision::Refused(Code::AlreadyIssued));
    assert_eq!(definition.claim(has(1, 0), UNTIL), ClaimDecision::Refused(Code::AlreadyIssued));
    assert_eq!(definition.claim(NOTHING, FROM), ClaimDecision::Refused(Code::SoldOut));
    assert!(definition.is_sold_out());
    definition.delete(FROM).unwrap();
    assert_eq!(definition.claim(has(1, 0), FROM), ClaimDecision::Refused(Code::NotFound));
    assert_eq!(definition.delete(FROM), Err(Code::NotFound));
}

// C1
#[test]
fn an_unlimited_coupon_never_sells_out() {
    let mut definition = announced(None, false);
    for number in 1..=1_000 {
        assert_eq!(definition.claim(NOTHING, FROM), ClaimDecision::Granted);
        assert_eq!(definition.issue(FROM).number, number);
    }
    assert_eq!(definition.remaining(), None);
}

// C9
#[test]
fn a_new_claim_goes_behind_the_waitlist_despite_a_free_unit() {
    let mut definition = announced(Some(1), true);
    definition.issue(FROM);
    assert_eq!(definition.claim(NOTHING, FROM), ClaimDecision::Queued);
    assert_eq!(definition.enqueue(), (1, 1));
    assert_eq!(definition.enqueue(), (2, 2));
    definition.return_unit();
    assert_eq!(definition.claim(NOTHING, FROM), ClaimDecision::Queued);
    assert_eq!(definition.claim(MemberHoldings { ticket: Some(1), ..NOTHING }, FROM), ClaimDecision::Waiting(1));
    definition.waitlist = false;
    assert_eq!(definition.claim(NOTHING, FROM), ClaimDecision::Refused(Code::SoldOut), "the free unit is for those who wait");
    assert!(!definition.is_sold_out(), "the gate must not turn away those who wait");
}

// C9
#[test]
fn promotion_stops_at_the_window_and_at_the_units() {
    let mut definition = announced(Some(3), true);
    for _ in 0..3 {
        definition.issue(FROM);
    }
    for _ in 0..5 {
        definition.enqueue();
    }
    assert_eq!(definition.promotable(FROM), 0);
    definition.return_unit();
    definition.return_unit();
    assert_eq!(definition.promotable(FROM), 2);
    assert_eq!(definition.promotable(UNTIL), 0);
    assert!(definition.has_abandoned_waitlist(UNTIL) && !definition.has_abandoned_waitlist(FROM));
    definition.delete(FROM).unwrap();
    assert_eq!(definition.promotable(FROM), 0);
    assert!(definition.has_abandoned_waitlist(FROM));
}

#[test]
fn a_quantity_below_the_issued_units_is_refused() {
    let mut definition = announced(Some(3), false);
    definition.issue(FROM);
    definition.issue(FROM);
    let to = |quantity| DefinitionChange { quantity: Some(quantity), name: Some("winter".into()), ..DefinitionChange::default() };
    assert_eq!(definition.change(&to(1)), Err(Code::QuantityBelowIssued));
    assert_eq!((definition.quantity, definition.name.as_str()), (Some(3), "autumn"), "all or nothing");
    assert_eq!(definition.change(&to(2)), Ok(()));
    assert_eq!(definition.change(&to(9)), Ok(()));
    assert_eq!((definition.remaining(), definition.name.as_str()), (Some(7), "winter"));
}

#[test]
fn a_change_against_fixed_fields_is_refused() {
    let pointers =
        |definition: &Definition, change| -> Vec<_> { definition.mistakes_in(&change).iter().map(|mistake| mistake.pointer).collect() };
    let limited = announced(Some(1), false);
    let unlimited = announced(None, false);
    assert_eq!(pointers(&limited, DefinitionChange { quantity: Some(0), ..DefinitionChange::default() }), ["/quantity"]);
    assert_eq!(pointers(&limited, DefinitionChange { issue_until: Some(FROM), ..DefinitionChange::default() }), ["/issue_until"]);
    assert_eq!(pointers(&limited, DefinitionChange { waitlist: Some(true), ..DefinitionChange::default() }), [""; 0]);
    assert_eq!(pointers(&unlimited, DefinitionChange { quantity: Some(5), ..DefinitionChange::default() }), ["/quantity"]);
    assert_eq!(pointers(&unlimited, DefinitionChange { waitlist: Some(true), ..DefinitionChange::default() }), ["/waitlist"]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim,
    /// One of the issued coupons is returned.
    GiveBack,
    /// One of the waiting members leaves.
    Leave(usize),
    Raise(i64),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Claim),
        3 => Just(Step::GiveBack),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => (1..4i64).prop_map(Step::Raise),
        1 => (1..8i64).prop_map(Step::Wait),
    ]
}

/// A campaign, with the parts that are rows in the service.
struct World {
    definition: Definition,
    now: Timestamp,
    queue: VecDeque<Ticket>,
    out: usize,
    numbers: Vec<i64>,
    served: Vec<Ticket>,
}

impl World {
    fn promote(&mut self) {
        for _ in 0..self.definition.promotable(self.now) {
            let ticket = self.queue.pop_front().expect("the waitlist is as long as the counter");
            let unit = self.definition.promote(ticket, self.now);
            self.served.push(ticket);
            self.numbers.push(unit.number);
            self.out += 1;
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Claim => match self.definition.claim(NOTHING, self.now) {
                ClaimDecision::Granted => {
                    assert!(self.queue.is_empty(), "a newcomer overtook");
                    self.numbers.push(self.definition.issue(self.now).number);
                    self.out += 1;
                }
                ClaimDecision::Queued => {
                    let (ticket, position) = self.definition.enqueue();
                    self.queue.push_back(ticket);
                    assert_eq!(position, i64::try_from(self.queue.len()).unwrap());
                }
                ClaimDecision::Refused(code) => assert_eq!((code, self.now >= UNTIL), (Code::Closed, true)),
                ClaimDecision::Waiting(_) => unreachable!("every claim is by a new member"),
            },
            Step::GiveBack if self.out == 0 => {}
            Step::GiveBack => {
                self.definition.return_unit();
                self.out -= 1;
            }
            Step::Leave(_) if self.queue.is_empty() => {}
            Step::Leave(index) => {
                self.queue.remove(index % self.queue.len());
                self.definition.leave();
            }
            Step::Raise(by) => {
                let quantity = self.definition.quantity.map(|quantity| quantity + by);
                self.definition.change(&DefinitionChange { quantity, ..DefinitionChange::default() }).unwrap();
            }
            Step::Wait(time) => self.now = Timestamp(self.now.0 + time),
        }
        self.promote();
    }
}

// C6, C8, C9: never over-issued, numbers without gaps, tickets served in order and not after the end
proptest! {
    #[test]
    fn a_campaign_stays_exact_after_any_steps(quantity in 1..6i64, steps in prop::collection::vec(step(), 1..200)) {
        let definition = announced(Some(quantity), true);
        let mut world = World { definition, now: FROM, queue: VecDeque::new(), out: 0, numbers: Vec::new(), served: Vec::new() };
        for step in steps {
            let served = world.served.len();
            world.step(step);
            let definition = &world.definition;
            prop_assert_eq!(definition.issued, i64::try_from(world.out).unwrap());
            prop_assert!(definition.issued <= definition.quantity.unwrap());
            prop_assert_eq!(definition.waiting, i64::try_from(world.queue.len()).unwrap());
            prop_assert!(world.queue.iter().all(|ticket| *ticket >= definition.head_ticket));
            prop_assert!(world.now < UNTIL || world.served.len() == served, "served after the end");
            prop_assert!(world.now >= UNTIL || world.queue.is_empty() || !definition.has_unit_left(), "a unit lies idle");
        }
        prop_assert!(world.served.is_sorted());
        let dense: Vec<i64> = (1..world.definition.next_number).collect();
        prop_assert_eq!(world.numbers, dense);
    }
}
