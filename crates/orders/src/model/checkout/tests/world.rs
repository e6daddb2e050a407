//! A checkout among participants that keep their word: they do and undo as asked, once, remember a refusal, and leave a tombstone.
//! Messages wait as long as they like and come twice; within a participant they keep their order.

use super::{
    course::{Books, Course},
    *,
};
use std::collections::VecDeque;

/// A participant: stock, coupons, the wallet's points, or payments.
#[derive(Default)]
struct Participant {
    inbox: VecDeque<Message>,
    answers: VecDeque<Answer>,
    /// What it said about each question, to say it again.
    given: HashMap<(Step, Option<PaymentId>), bool>,
    /// Steps whose effect is there now; for payments: captured.
    holds: Vec<Step>,
    is_final: bool,
    tombstone: bool,
}

#[derive(Clone, Copy)]
enum Answer {
    Done(Step),
    Refused(Step),
    Undone(Step),
    Approved(PaymentId),
    Declined(PaymentId),
}

impl Participant {
    fn handle(&mut self, message: &Message, willing: bool) {
        let kind = message.kind();
        if kind == "stock.commit" || kind == "coupon.use" || kind == "points.use" {
            self.is_final = !self.holds.is_empty();
            return;
        }
        let Some((step, asked)) = asked(kind) else { return };
        if asked == StepKind::Undo {
            self.tombstone = true;
            self.holds.clear();
            self.is_final = false;
            self.answers.push_back(Answer::Undone(step));
            return;
        }
        let attempt = match message {
            Message::PaymentRequest(request) => Some(request.payment_id),
            _ => None,
        };
        let (fresh, did) = match self.given.get(&(step, attempt)) {
            Some(did) => (false, *did),
            None => (true, willing && !self.tombstone),
        };
        self.given.insert((step, attempt), did);
        if fresh && did {
            self.holds.push(step);
        }
        self.answers.push_back(match (attempt, did) {
            (Some(id), true) => Answer::Approved(id),
            (Some(id), false) => Answer::Declined(id),
            (None, true) => Answer::Done(step),
            (None, false) => Answer::Refused(step),
        });
    }
}

struct World {
    checkout: Checkout,
    now: Timestamp,
    attempts: u128,
    parts: [Participant; 4],
    said: Vec<&'static str>,
}

const STOCK: usize = 0;
const COUPONS: usize = 1;
const POINTS: usize = 2;
const PAYMENTS: usize = 3;

#[derive(Clone, Debug)]
enum Act {
    /// A participant reads its next message, perhaps twice.
    Read {
        who: usize,
        willing: bool,
        twice: bool,
    },
    /// Its next answer arrives, perhaps twice.
    Arrive {
        who: usize,
        twice: bool,
    },
    Pay,
    Cancel,
    Pass(Duration),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => (0..4usize, prop::bool::weighted(0.9), any::<bool>()).prop_map(|(who, willing, twice)| Act::Read { who, willing, twice }),
        10 => (0..4usize, any::<bool>()).prop_map(|(who, twice)| Act::Arrive { who, twice }),
        2 => Just(Act::Pay),
        1 => Just(Act::Cancel),
        2 => prop::sample::select(vec![5, 31, 601]).prop_map(|seconds| Act::Pass(Duration::from_secs(seconds))),
    ]
}

impl World {
    fn new(shape: Shape) -> World {
        let mut world = World { checkout: shape.place(), now: NOW, attempts: 1, parts: Default::default(), said: Vec::new() };
        world.post();
        world
    }

    /// Takes what the checkout says to those it is for.
    fn post(&mut self) {
        for message in std::mem::take(&mut self.checkout.outgoing) {
            let kind = message.kind();
            self.said.push(kind);
            let who = match kind.split_once('.').map(|(what, _)| what) {
                Some("stock") => STOCK,
                Some("coupon") => COUPONS,
                Some("points") => POINTS,
                Some("payment") => PAYMENTS,
                _ => continue,
            };
            self.parts[who].inbox.push_back(message);
        }
    }

    fn read(&mut self, who: usize, willing: bool, twice: bool) -> bool {
        let Some(message) = self.parts[who].inbox.pop_front() else { return false };
        for _ in 0..=usize::from(twice) {
            self.parts[who].handle(&message, willing);
        }
        true
    }

    fn arrive(&mut self, who: usize, twice: bool) -> bool {
        let Some(answer) = self.parts[who].answers.pop_front() else { return false };
        for _ in 0..=usize::from(twice) {
            match answer {
                Answer::Done(step) => self.checkout.step_done(step, self.now),
                Answer::Refused(step) => self.checkout.step_refused(step, no(Code::OutOfStock), self.now),
                Answer::Undone(step) => self.checkout.step_undone(step, self.now),
                Answer::Approved(id) => self.checkout.payment_approved(id, self.now),
                Answer::Declined(id) => self.checkout.payment_failed(id, no(Code::InsufficientFunds), self.now),
            }
            self.post();
        }
        true
    }
}

impl Course for World {
    type Act = Act;
    const PAY: Act = Act::Pay;
    const CANCEL: Act = Act::Cancel;

    fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    fn books(&self) -> Books<'_> {
        let [stock, coupons, wallet, payments] = &self.parts;
        Books {
            holds: [&stock.holds, &coupons.holds, &wallet.holds, &payments.holds],
            made_final: [stock.is_final, coupons.is_final, wallet.is_final],
        }
    }

    fn apply(&mut self, act: &Act) {
        match act {
            Act::Read { who, willing, twice } => {
                self.read(*who, *willing, *twice);
            }
            Act::Arrive { who, twice } => {
                self.arrive(*who, *twice);
            }
            Act::Pay => {
                if self.checkout.pay(payment(self.attempts + 1), self.now).is_ok() {
                    self.attempts += 1;
                }
                self.post();
            }
            Act::Cancel => {
                let _ = self.checkout.cancel("on a whim", self.now);
                self.post();
            }
            Act::Pass(time) => self.pass(*time),
        }
        check(&self.checkout, &self.said);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.checkout.fall_due(self.now);
        self.post();
    }

    /// Lets everything arrive, and the clock run while someone is waited for.
    fn settle(&mut self) {
        for _ in 0..100 {
            while (0..4).any(|who| self.read(who, true, false) || self.arrive(who, false)) {}
            check(&self.checkout, &self.said);
            if self.checkout.is_at_rest() {
                return;
            }
            self.pass(STEP_DEADLINE);
        }
        panic!("it never comes to rest: {:?}", self.checkout.order);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    // G1, G4, G5; I-O9, I-O12: when everyone answers in the end, it is all or nothing.
    #[test]
    fn it_ends_all_or_nothing(shape in Shape::any(), acts in prop::collection::vec(act(), 0..60)) {
        World::new(shape).ends_all_or_nothing(&acts);
    }

    // O8: whatever is paid can be taken back whole.
    #[test]
    fn a_paid_order_can_be_cancelled_whole(shape in Shape::any(), acts in prop::collection::vec(act(), 0..30)) {
        World::new(shape).can_be_cancelled_whole(shape, &acts);
    }
}
