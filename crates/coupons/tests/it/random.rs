//! Random walks against a naive model of the rules: every answer must equal the model's (C3, C5, C7 to C10, C19).

use crate::support::*;
use contracts::{CouponId, MemberId, Timestamp};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

const MEMBERS: usize = 12;
const STEPS: usize = 250;

/// SplitMix64: the same seed gives the same walk.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Had {
    Issued { until: Timestamp },
    GivenBack,
    Expired,
}

/// The rules in their simplest form.
struct Naive {
    quantity: i64,
    waitlist: bool,
    reissue: bool,
    closes_at: Timestamp,
    out: i64,
    numbers: i64,
    tickets: i64,
    queue: Vec<(i64, usize)>,
    had: HashMap<usize, Vec<(i64, Had)>>,
    left: HashSet<usize>,
}

impl Naive {
    fn give(&mut self, member: usize, now: Timestamp) -> i64 {
        self.numbers += 1;
        self.out += 1;
        self.had.entry(member).or_default().push((self.numbers, Had::Issued { until: now.after(DAY) }));
        self.numbers
    }

    fn serve(&mut self, now: Timestamp) {
        while now < self.closes_at && self.out < self.quantity && !self.queue.is_empty() {
            let (_, member) = self.queue.remove(0);
            self.give(member, now);
        }
    }

    fn position(&self, member: usize) -> Option<(i64, usize)> {
        let position = self.queue.iter().position(|(_, waiter)| *waiter == member)?;
        Some((self.queue[position].0, position + 1))
    }

    fn claim(&mut self, member: usize, now: Timestamp) -> (u16, Value) {
        let counted = self.had.get(&member).map_or(0, |had| had.iter().filter(|(_, had)| !self.reissue || *had != Had::GivenBack).count());
        if counted > 0 {
            (409, json!("already-issued"))
        } else if now >= self.closes_at {
            (409, json!("closed"))
        } else if let Some((ticket, position)) = self.position(member) {
            (202, json!([ticket, position]))
        } else if self.queue.is_empty() && self.out < self.quantity {
            (201, json!(self.give(member, now)))
        } else if self.waitlist {
            self.tickets += 1;
            self.left.remove(&member);
            self.queue.push((self.tickets, member));
            (202, json!([self.tickets, self.queue.len()]))
        } else {
            (409, json!("sold-out"))
        }
    }

    fn give_back(&mut self, member: usize, now: Timestamp) -> (u16, Value) {
        if self.position(member).is_some() {
            self.queue.retain(|(_, waiter)| *waiter != member);
            self.left.insert(member);
            return (204, Value::Null);
        }
        let had = self.had.entry(member).or_default();
        if let Some((_, had)) = had.iter_mut().rev().find(|(_, had)| matches!(had, Had::Issued { until } if now < *until)) {
            *had = Had::GivenBack;
            self.out -= 1;
            self.serve(now);
            (204, Value::Null)
        } else if had.iter().any(|(_, had)| *had != Had::GivenBack) {
            (409, json!("coupon-not-returnable"))
        } else if had.is_empty() && !self.left.contains(&member) {
            (404, json!("not-found"))
        } else {
            (204, Value::Null)
        }
    }

    fn expire(&mut self, now: Timestamp) {
        for (_, had) in self.had.values_mut().flatten() {
            if matches!(had, Had::Issued { until } if now >= *until) {
                *had = Had::Expired;
                self.out -= i64::from(now < self.closes_at);
            }
        }
        self.serve(now);
    }

    fn close(&mut self, now: Timestamp) {
        if now >= self.closes_at {
            self.queue.clear();
        }
    }
}

struct Walk {
    mall: Mall,
    coupon: CouponId,
    crowd: Vec<MemberId>,
    naive: Naive,
}

impl Walk {
    async fn start(dice: &mut Dice) -> Walk {
        let mall = Mall::open().await;
        let quantity = 1 + dice.roll(4);
        let (waitlist, reissue) = (dice.roll(4) > 0, dice.roll(2) == 0);
        let closes_at = mall.now().after(4 * DAY);
        let fields = json!({
            "quantity": quantity, "waitlist": waitlist, "reissue_after_cancel": reissue, "valid_days": 1,
            "issue_until": closes_at, "valid_until": mall.now().after(30 * DAY),
        });
        let coupon = mall.announce(fields).await;
        let naive = Naive {
            quantity: i64::try_from(quantity).unwrap(),
            waitlist,
            reissue,
            closes_at,
            out: 0,
            numbers: 0,
            tickets: 0,
            queue: Vec::new(),
            had: HashMap::new(),
            left: HashSet::new(),
        };
        Walk { mall, coupon, crowd: members(MEMBERS), naive }
    }

    async fn step(&mut self, dice: &mut Dice) {
        let (member, now) = (dice.roll(MEMBERS), self.mall.now());
        match dice.roll(20) {
            0..9 => {
                let answer = self.mall.claim(self.coupon, self.crowd[member]).await;
                let body = match answer.status {
                    201 => answer.body["number"].clone(),
                    202 => json!([answer.body["ticket"], answer.body["position"]]),
                    _ => json!(answer.problem()),
                };
                assert_eq!((answer.status, body), self.naive.claim(member, now), "claim of {member}");
            }
            9..15 => {
                let answer = self.mall.give_back(self.coupon, self.crowd[member]).await;
                let body = if answer.status == 204 { Value::Null } else { json!(answer.problem()) };
                assert_eq!((answer.status, body), self.naive.give_back(member, now), "return of {member}");
            }
            15 => {
                self.naive.quantity += 1;
                let _ = self.mall.change(self.coupon, json!({"quantity": self.naive.quantity})).await.expect(200);
                self.naive.serve(now);
            }
            16 => {
                self.mall.app.job("coupons.close").await;
                self.naive.close(now);
            }
            17 => {
                self.mall.app.job("coupons.expire").await;
                self.naive.expire(now);
            }
            _ => self.mall.app.clock.advance(HOUR),
        }
    }

    /// Compares each member's state with the model.
    async fn compare(&self) {
        for member in 0..MEMBERS {
            let standing = self.mall.standing(self.coupon, self.crowd[member]).await;
            if let Some((ticket, position)) = self.naive.position(member) {
                assert_eq!(standing.body, json!({"state": "waiting", "ticket": ticket, "position": position}));
            } else if let Some(had) = self.naive.had.get(&member).filter(|had| !had.is_empty()) {
                let last = had.iter().rev().find(|(_, had)| *had != Had::GivenBack).or(had.last()).unwrap();
                assert_eq!(standing.body["number"], json!(last.0));
            }
        }
        let shown = self.mall.coupon_now(self.coupon).await;
        assert_eq!((&shown["issued"], &shown["waiting"]), (&json!(self.naive.out), &json!(self.naive.queue.len())));
        self.mall.audit().await;
    }
}

#[tokio::test]
async fn random_walks_match_the_naive_model() {
    for seed in 1..=12 {
        let mut dice = Dice(seed);
        let mut walk = Walk::start(&mut dice).await;
        for step in 0..STEPS {
            walk.step(&mut dice).await;
            if step % 25 == 24 {
                walk.compare().await;
            }
        }
    }
}
