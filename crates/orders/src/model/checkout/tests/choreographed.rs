//! A choreographed checkout among participants that keep their word. Each participant has a stream, and everybody reads each stream at a
//! pace of their own: slips wait as long as they like, come twice, and overtake those of other streams.

use super::{
    course::{Books, Course, all_or_nothing},
    *,
};
use contracts::messages::{RoutingSlip, Stop, Way};

const NAMES: [&str; 5] = ["orders", "stock", "coupons", "wallet", "payments"];
const ORDERS: usize = 0;
const PAYMENTS: usize = 4;

/// Stock, coupons, the wallet's points, or payments.
#[derive(Default)]
struct Participant {
    /// What it said about each question, to say it again.
    given: HashMap<(Step, Option<PaymentId>), bool>,
    /// Steps whose effect is there now; for payments: captured.
    holds: Vec<Step>,
    is_final: bool,
    tombstone: bool,
    /// Of payments: a request whose outcome is not known, and the slip that waits for it to be undone.
    open: Option<RoutingSlip>,
    waits: Option<RoutingSlip>,
}

/// What the do of a stop comes to; none when it is not known yet.
type Verdict = Option<Result<(), Refusal>>;

impl Participant {
    /// Acts on a slip for as long as it is called; what it passes on.
    fn travel(&mut self, name: &str, slip: &RoutingSlip, willing: bool) -> Option<RoutingSlip> {
        let mut slip = slip.clone();
        slip.call(name)?;
        while let Some((way, stop)) = slip.call(name) {
            match way {
                Way::Forward => {
                    let stop = stop.clone();
                    match self.act(&stop, &slip, willing) {
                        Some(verdict) => slip.answer(verdict, NOW),
                        None => return None,
                    }
                }
                Way::Back => {
                    self.tombstone = true;
                    if self.open.is_some() {
                        // What is not known is found out first.
                        self.waits = Some(slip);
                        return None;
                    }
                    self.holds.clear();
                    self.is_final = false;
                    slip.undone(NOW);
                }
            }
        }
        Some(slip)
    }

    fn act(&mut self, stop: &Stop, slip: &RoutingSlip, willing: bool) -> Verdict {
        let step = Step::parse(stop.step()).expect("a step of ours");
        let attempt = match stop {
            Stop::Payment(ask) => Some(ask.payment_id),
            _ => None,
        };
        if self.open.is_some() {
            return None;
        }
        let known = self.given.get(&(step, attempt)).copied();
        if known.is_none() && self.tombstone {
            self.given.insert((step, attempt), false);
            return Some(Err(Code::StepTimedOut.into()));
        }
        if known.is_none() && attempt.is_some() {
            self.open = Some(slip.clone());
            return None;
        }
        let did = known.unwrap_or(willing);
        self.given.insert((step, attempt), did);
        if known.is_none() && did {
            self.holds.push(step);
        }
        Some(match (did, self.tombstone && step != Step::StockReserve) {
            (true, false) => Ok(()),
            (true, true) => Err(Code::StepTimedOut.into()),
            (false, _) => Err(Code::OutOfStock.into()),
        })
    }

    /// The outcome of the open payment becomes known; the slip that goes on.
    fn decide(&mut self, approved: bool) -> Option<RoutingSlip> {
        let mut slip = self.open.take()?;
        let attempt = match slip.next.map(|next| &slip.stops[next]) {
            Some(Stop::Payment(ask)) => ask.payment_id,
            other => panic!("{other:?} waits for a payment"),
        };
        let wanted = self.waits.is_none();
        self.given.insert((Step::Payment, Some(attempt)), approved && wanted);
        if let Some(mut back) = self.waits.take() {
            back.undone(NOW);
            return Some(back);
        }
        if approved {
            self.holds.push(Step::Payment);
        }
        slip.answer(if approved { Ok(()) } else { Err(Code::InsufficientFunds.into()) }, NOW);
        Some(slip)
    }
}

struct World {
    checkout: Checkout,
    now: Timestamp,
    attempts: u128,
    parts: [Participant; 5],
    /// What each wrote, and how far each reader is in it.
    streams: [Vec<Message>; 5],
    positions: [[usize; 5]; 5],
    said: Vec<&'static str>,
}

#[derive(Clone, Debug)]
enum Act {
    /// A reader takes the next message of a stream, perhaps twice.
    Read {
        reader: usize,
        source: usize,
        willing: bool,
        twice: bool,
    },
    /// A payment that is open is approved or refused.
    Decide {
        approved: bool,
    },
    Pay,
    Cancel,
    Pass(Duration),
}

fn act() -> impl Strategy<Value = Act> {
    let read = (0..5usize, 0..5usize, prop::bool::weighted(0.95), any::<bool>());
    prop_oneof![
        30 => read.prop_map(|(reader, source, willing, twice)| Act::Read { reader, source, willing, twice }),
        4 => prop::bool::weighted(0.7).prop_map(|approved| Act::Decide { approved }),
        3 => Just(Act::Pay),
        1 => Just(Act::Cancel),
        2 => prop::sample::select(vec![5, 31, 601]).prop_map(|seconds| Act::Pass(Duration::from_secs(seconds))),
    ]
}

impl World {
    fn new(shape: Shape) -> World {
        let checkout = shape.place_as(Some(0));
        let parts = Default::default();
        let mut world =
            World { checkout, now: NOW, attempts: 1, parts, streams: Default::default(), positions: [[0; 5]; 5], said: Vec::new() };
        world.post();
        world
    }

    fn post(&mut self) {
        for message in std::mem::take(&mut self.checkout.outgoing) {
            self.said.push(message.kind());
            self.streams[ORDERS].push(message);
        }
    }

    fn read(&mut self, reader: usize, source: usize, willing: bool, twice: bool) -> bool {
        let position = &mut self.positions[reader][source];
        let Some(message) = self.streams[source].get(*position).filter(|_| reader != source).cloned() else { return false };
        *position += 1;
        for _ in 0..=usize::from(twice) {
            self.handle(reader, &message, willing);
        }
        true
    }

    fn handle(&mut self, reader: usize, message: &Message, willing: bool) {
        if reader == ORDERS {
            if let Some(slip) = message.slip() {
                self.checkout.follow(slip, self.now);
            }
            return self.post();
        }
        let part = &mut self.parts[reader];
        let makes_final = ["", "stock.commit", "coupon.use", "points.use", ""][reader];
        if message.kind() == makes_final {
            part.is_final = !part.holds.is_empty();
        }
        let on = message.slip().and_then(|slip| part.travel(NAMES[reader], slip, willing));
        // Whose message it is does not matter here: readers look at the slip.
        self.streams[reader].extend(on.map(Message::StockSlip));
    }

    fn decide(&mut self, approved: bool) -> bool {
        let on = self.parts[PAYMENTS].decide(approved);
        let decided = on.is_some();
        self.streams[PAYMENTS].extend(on.map(Message::PaymentsSlip));
        decided
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
        let [_, stock, coupons, wallet, payments] = &self.parts;
        Books {
            holds: [&stock.holds, &coupons.holds, &wallet.holds, &payments.holds],
            made_final: [stock.is_final, coupons.is_final, wallet.is_final],
        }
    }

    fn apply(&mut self, act: &Act) {
        match act {
            Act::Read { reader, source, willing, twice } => {
                self.read(*reader, *source, *willing, *twice);
            }
            Act::Decide { approved } => {
                self.decide(*approved);
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

    /// Lets everything arrive, and the clock run while someone is waited for. Late slips are let arrive after the order's end, too.
    fn settle(&mut self) {
        for _ in 0..100 {
            loop {
                let all = (0..5).flat_map(|reader| (0..5).map(move |source| (reader, source)));
                let moved = all.filter(|(reader, source)| self.read(*reader, *source, true, false)).count();
                if moved == 0 && !self.decide(true) {
                    break;
                }
                check(&self.checkout, &self.said);
            }
            if self.checkout.is_at_rest() {
                return;
            }
            self.pass(STEP_DEADLINE);
        }
        panic!("it never comes to rest: {:?}", self.checkout.order);
    }

    fn check_books(&self) {
        let Checkout { order, steps, .. } = &self.checkout;
        all_or_nothing(&self.checkout, &self.books());
        if matches!(order.state, State::Failed | State::Expired | State::Cancelled) {
            let reason = order.reason.as_ref().expect("it has a reason");
            let timed_out = steps.iter().any(|step| step.result == StepResult::TimedOut);
            assert!(timed_out || reason.code != Some(Code::StepTimedOut), "an echo is no reason");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    // G1, G3, G4, G5; I-O9, I-O12: when everyone answers in the end, it is all or nothing, and the same as orchestrated.
    #[test]
    fn it_ends_all_or_nothing(shape in Shape::any(), acts in prop::collection::vec(act(), 0..160)) {
        World::new(shape).ends_all_or_nothing(&acts);
    }

    // O8, G3: whatever is paid can be taken back whole, also when the back slip overtakes what makes the sale final.
    #[test]
    fn a_paid_order_can_be_cancelled_whole(shape in Shape::any(), acts in prop::collection::vec(act(), 0..60)) {
        World::new(shape).can_be_cancelled_whole(shape, &acts);
    }
}
