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

fn has(issued: u32, given_back: u32) -> Standing {
    Standing { issued, given_back, ticket: None }
}

const NOTHING: Standing = Standing { issued: 0, given_back: 0, ticket: None };

// C3: [start, end)
#[test]
fn it_is_given_out_from_its_start_until_just_before_its_end() {
    let definition = announced(Some(1), false);
    for (now, expected) in
        [(99, Claim::Refused(Code::NotOpen)), (100, Claim::Granted), (199, Claim::Granted), (200, Claim::Refused(Code::Closed))]
    {
        assert_eq!(definition.claim(NOTHING, Timestamp(now)), expected, "{now}");
    }
}

// C4: a coupon that would be expired is not given out
#[test]
fn it_closes_when_its_validity_ends_before_its_window() {
    let mut definition = announced(Some(1), false);
    definition.terms = Arc::new(Terms { valid_until: Some(Timestamp(150)), ..(*definition.terms).clone() });
    assert_eq!(definition.closes_at(), Timestamp(150));
    assert_eq!(definition.claim(NOTHING, Timestamp(149)), Claim::Granted);
    assert_eq!(definition.claim(NOTHING, Timestamp(150)), Claim::Refused(Code::Closed));
}

// C5, C7
#[test]
fn a_member_gets_his_share_and_no_more() {
    let mut definition = announced(None, false);
    definition.terms = Arc::new(Terms { per_member: 2, ..(*definition.terms).clone() });
    assert_eq!(definition.claim(has(1, 0), FROM), Claim::Granted);
    assert_eq!(definition.claim(has(2, 0), FROM), Claim::Refused(Code::AlreadyIssued));
    assert_eq!(definition.claim(has(2, 1), FROM), Claim::Refused(Code::AlreadyIssued), "one given back was still his");
    definition.terms = Arc::new(Terms { reissue_after_cancel: true, ..(*definition.terms).clone() });
    assert_eq!(definition.claim(has(2, 1), FROM), Claim::Granted);
    assert_eq!(definition.claim(has(3, 1), FROM), Claim::Refused(Code::AlreadyIssued));
}

// C7: who has one hears that first, also when the coupon is sold out or closed; nobody hears of a deleted one
#[test]
fn each_case_has_its_own_answer() {
    let mut definition = announced(Some(1), false);
    definition.issue(FROM);
    assert_eq!(definition.claim(has(1, 0), FROM), Claim::Refused(Code::AlreadyIssued));
    assert_eq!(definition.claim(has(1, 0), UNTIL), Claim::Refused(Code::AlreadyIssued));
    assert_eq!(definition.claim(NOTHING, FROM), Claim::Refused(Code::SoldOut));
    assert!(definition.is_sold_out());
    definition.delete(FROM).unwrap();
    assert_eq!(definition.claim(has(1, 0), FROM), Claim::Refused(Code::NotFound));
    assert_eq!(definition.delete(FROM), Err(Code::NotFound));
}

// C1
#[test]
fn an_unlimited_coupon_never_sells_out() {
    let mut definition = announced(None, false);
    for number in 1..=1_000 {
        assert_eq!(definition.claim(NOTHING, FROM), Claim::Granted);
        assert_eq!(definition.issue(FROM).number, number);
    }
    assert_eq!(definition.remaining(), None);
}

// C9
#[test]
fn a_newcomer_goes_behind_those_who_wait_even_when_a_unit_is_free() {
    let mut definition = announced(Some(1), true);
    definition.issue(FROM);
    assert_eq!(definition.claim(NOTHING, FROM), Claim::Queued);
    assert_eq!(definition.enqueue(), (1, 1));
    assert_eq!(definition.enqueue(), (2, 2));
    definition.take_back();
    assert_eq!(definition.claim(NOTHING, FROM), Claim::Queued);
    assert_eq!(definition.claim(Standing { ticket: Some(1), ..NOTHING }, FROM), Claim::Waiting(1));
    definition.waitlist = false;
    assert_eq!(definition.claim(NOTHING, FROM), Claim::Refused(Code::SoldOut), "the free unit is for those who wait");
    assert!(!definition.is_sold_out(), "the gate must not turn away those who wait");
}

// C9
#[test]
fn nobody_is_served_outside_the_window_or_beyond_the_units() {
    let mut definition = announced(Some(3), true);
    for _ in 0..3 {
        definition.issue(FROM);
    }
    for _ in 0..5 {
        definition.enqueue();
    }
    assert_eq!(definition.admissible(FROM), 0);
    definition.take_back();
    definition.take_back();
    assert_eq!(definition.admissible(FROM), 2);
    assert_eq!(definition.admissible(UNTIL), 0);
    assert!(definition.abandons_queue(UNTIL) && !definition.abandons_queue(FROM));
    definition.delete(FROM).unwrap();
    assert_eq!(definition.admissible(FROM), 0);
    assert!(definition.abandons_queue(FROM));
}

#[test]
fn a_quantity_may_rise_but_never_below_what_is_out() {
    let mut definition = announced(Some(3), false);
    definition.issue(FROM);
    definition.issue(FROM);
    let to = |quantity| Change { quantity: Some(quantity), name: Some("winter".into()), ..Change::default() };
    assert_eq!(definition.change(&to(1)), Err(Code::QuantityBelowIssued));
    assert_eq!((definition.quantity, definition.name.as_str()), (Some(3), "autumn"), "all or nothing");
    assert_eq!(definition.change(&to(2)), Ok(()));
    assert_eq!(definition.change(&to(9)), Ok(()));
    assert_eq!((definition.remaining(), definition.name.as_str()), (Some(7), "winter"));
}

#[test]
fn a_change_cannot_contradict_what_is_fixed() {
    let pointers =
        |definition: &Definition, change| -> Vec<_> { definition.mistakes_in(&change).iter().map(|mistake| mistake.pointer).collect() };
    let limited = announced(Some(1), false);
    let unlimited = announced(None, false);
    assert_eq!(pointers(&limited, Change { quantity: Some(0), ..Change::default() }), ["/quantity"]);
    assert_eq!(pointers(&limited, Change { issue_until: Some(FROM), ..Change::default() }), ["/issue_until"]);
    assert_eq!(pointers(&limited, Change { waitlist: Some(true), ..Change::default() }), [""; 0]);
    assert_eq!(pointers(&unlimited, Change { quantity: Some(5), ..Change::default() }), ["/quantity"]);
    assert_eq!(pointers(&unlimited, Change { waitlist: Some(true), ..Change::default() }), ["/waitlist"]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim,
    /// One of the coupons out there comes back.
    GiveBack,
    /// One of those who wait walks away.
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

/// A campaign with everything that in the service is rows.
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
        for _ in 0..self.definition.admissible(self.now) {
            let ticket = self.queue.pop_front().expect("as many wait as the definition says");
            let unit = self.definition.admit(ticket, self.now);
            self.served.push(ticket);
            self.numbers.push(unit.number);
            self.out += 1;
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Claim => match self.definition.claim(NOTHING, self.now) {
                Claim::Granted => {
                    assert!(self.queue.is_empty(), "a newcomer overtook");
                    self.numbers.push(self.definition.issue(self.now).number);
                    self.out += 1;
                }
                Claim::Queued => {
                    let (ticket, position) = self.definition.enqueue();
                    self.queue.push_back(ticket);
                    assert_eq!(position, i64::try_from(self.queue.len()).unwrap());
                }
                Claim::Refused(code) => assert_eq!((code, self.now >= UNTIL), (Code::Closed, true)),
                Claim::Waiting(_) => unreachable!("every applicant is new"),
            },
            Step::GiveBack if self.out == 0 => {}
            Step::GiveBack => {
                self.definition.take_back();
                self.out -= 1;
            }
            Step::Leave(_) if self.queue.is_empty() => {}
            Step::Leave(place) => {
                self.queue.remove(place % self.queue.len());
                self.definition.leave();
            }
            Step::Raise(by) => {
                let quantity = self.definition.quantity.map(|quantity| quantity + by);
                self.definition.change(&Change { quantity, ..Change::default() }).unwrap();
            }
            Step::Wait(time) => self.now = Timestamp(self.now.0 + time),
        }
        self.promote();
    }
}

// C6, C8, C9: never over-issued, numbers without hole, tickets served in order and not after the end
proptest! {
    #[test]
    fn a_campaign_stays_exact_whatever_happens(quantity in 1..6i64, steps in prop::collection::vec(step(), 1..200)) {
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
