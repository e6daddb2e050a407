//! Random tests of a choreographed checkout with correct participants. Each participant has a stream, and each reader has its own position
//! in every stream. Slips are delayed, repeated, and overtake slips of other streams.

use super::{
    simulation::{CheckoutSimulation, ParticipantHoldings, assert_all_or_nothing},
    *,
};
use contracts::messages::{Direction, RoutingSlip, SlipStep};

const NAMES: [&str; 5] = ["orders", "stock", "coupons", "wallet", "payments"];
const ORDERS: usize = 0;
const PAYMENTS: usize = 4;

/// Simulates stock, coupons, the wallet's points, or payments.
#[derive(Default)]
struct SlipParticipant {
    /// Answers given so far, for repeated requests.
    past_answers: HashMap<(SagaStep, Option<PaymentId>), bool>,
    /// Steps whose effect exists now. For payments: captured.
    holds: Vec<SagaStep>,
    is_final: bool,
    tombstone: bool,
    /// Payments only: the slip of a payment with unknown outcome.
    open: Option<RoutingSlip>,
    /// Payments only: the undo slip that waits for that outcome.
    waiting_undo: Option<RoutingSlip>,
}

/// Outcome of a request. `None`: not known yet.
type RequestOutcome = Option<Result<(), Refusal>>;

impl SlipParticipant {
    /// Acts on a slip as long as it calls this participant, and returns it to pass on. `None`: not called, or the outcome is not known yet.
    fn advance_slip(&mut self, name: &str, slip: &RoutingSlip, accepts: bool) -> Option<RoutingSlip> {
        let mut slip = slip.clone();
        slip.next_step(name)?;
        while let Some((direction, slip_step)) = slip.next_step(name) {
            match direction {
                Direction::Forward => {
                    let slip_step = slip_step.clone();
                    match self.perform(&slip_step, &slip, accepts) {
                        Some(outcome) => slip.record_result(outcome, NOW),
                        None => return None,
                    }
                }
                Direction::Back => {
                    self.tombstone = true;
                    if self.open.is_some() {
                        // The outcome of the payment must be known before its undo.
                        self.waiting_undo = Some(slip);
                        return None;
                    }
                    self.holds.clear();
                    self.is_final = false;
                    slip.record_undone(NOW);
                }
            }
        }
        Some(slip)
    }

    fn perform(&mut self, slip_step: &SlipStep, slip: &RoutingSlip, accepts: bool) -> RequestOutcome {
        let step = slip_step.step();
        let attempt = match slip_step {
            SlipStep::Payment(request) => Some(request.payment_id),
            _ => None,
        };
        if self.open.is_some() {
            return None;
        }
        let known = self.past_answers.get(&(step, attempt)).copied();
        if known.is_none() && self.tombstone {
            self.past_answers.insert((step, attempt), false);
            return Some(Err(Code::StepTimedOut.into()));
        }
        if known.is_none() && attempt.is_some() {
            self.open = Some(slip.clone());
            return None;
        }
        let is_done = known.unwrap_or(accepts);
        self.past_answers.insert((step, attempt), is_done);
        if known.is_none() && is_done {
            self.holds.push(step);
        }
        Some(match (is_done, self.tombstone && step != SagaStep::StockReserve) {
            (true, false) => Ok(()),
            (true, true) => Err(Code::StepTimedOut.into()),
            (false, _) => Err(Code::OutOfStock.into()),
        })
    }

    /// Decides the open payment, and returns the slip to pass on. `None`: no payment is open.
    fn decide(&mut self, approved: bool) -> Option<RoutingSlip> {
        let mut slip = self.open.take()?;
        let attempt = match slip.next.map(|next| &slip.stops[next]) {
            Some(SlipStep::Payment(request)) => request.payment_id,
            other => panic!("{other:?} is not a payment"),
        };
        let wanted = self.waiting_undo.is_none();
        self.past_answers.insert((SagaStep::Payment, Some(attempt)), approved && wanted);
        if let Some(mut back) = self.waiting_undo.take() {
            back.record_undone(NOW);
            return Some(back);
        }
        if approved {
            self.holds.push(SagaStep::Payment);
        }
        slip.record_result(if approved { Ok(()) } else { Err(Code::InsufficientFunds.into()) }, NOW);
        Some(slip)
    }
}

struct ChoreographedSimulation {
    checkout: Checkout,
    now: Timestamp,
    attempts: u128,
    participants: [SlipParticipant; 5],
    /// Messages that each service wrote.
    streams: [Vec<Message>; 5],
    /// Position of each reader in each stream.
    positions: [[usize; 5]; 5],
    emitted: Vec<&'static str>,
}

#[derive(Clone, Debug)]
enum ChoreographedAction {
    /// A reader handles the next message of a stream once or twice.
    Read {
        reader: usize,
        source: usize,
        accepts: bool,
        twice: bool,
    },
    /// The open payment is approved or refused.
    Decide {
        approved: bool,
    },
    Pay,
    Cancel,
    AdvanceClock(Duration),
}

fn any_action() -> impl Strategy<Value = ChoreographedAction> {
    let read = (0..5usize, 0..5usize, prop::bool::weighted(0.95), any::<bool>());
    prop_oneof![
        30 => read.prop_map(|(reader, source, accepts, twice)| ChoreographedAction::Read { reader, source, accepts, twice }),
        4 => prop::bool::weighted(0.7).prop_map(|approved| ChoreographedAction::Decide { approved }),
        3 => Just(ChoreographedAction::Pay),
        1 => Just(ChoreographedAction::Cancel),
        2 => prop::sample::select(vec![5, 31, 601]).prop_map(|seconds| ChoreographedAction::AdvanceClock(Duration::from_secs(seconds))),
    ]
}

impl ChoreographedSimulation {
    fn new(shape: OrderShape) -> ChoreographedSimulation {
        let checkout = shape.place_in_mode(Some(0));
        let participants = Default::default();
        let mut simulation = ChoreographedSimulation {
            checkout,
            now: NOW,
            attempts: 1,
            participants,
            streams: Default::default(),
            positions: [[0; 5]; 5],
            emitted: Vec::new(),
        };
        simulation.collect_outgoing();
        simulation
    }

    fn collect_outgoing(&mut self) {
        for message in std::mem::take(&mut self.checkout.outgoing) {
            self.emitted.push(message.kind());
            self.streams[ORDERS].push(message);
        }
    }

    fn read(&mut self, reader: usize, source: usize, accepts: bool, twice: bool) -> bool {
        let position = &mut self.positions[reader][source];
        let Some(message) = self.streams[source].get(*position).filter(|_| reader != source).cloned() else { return false };
        *position += 1;
        for _ in 0..=usize::from(twice) {
            self.handle(reader, &message, accepts);
        }
        true
    }

    fn handle(&mut self, reader: usize, message: &Message, accepts: bool) {
        if reader == ORDERS {
            if let Some(slip) = message.slip() {
                self.checkout.apply_slip(slip, self.now);
            }
            return self.collect_outgoing();
        }
        let part = &mut self.participants[reader];
        let makes_final = ["", "stock.commit", "coupon.use", "points.use", ""][reader];
        if message.kind() == makes_final {
            part.is_final = !part.holds.is_empty();
        }
        let passed_on = message.slip().and_then(|slip| part.advance_slip(NAMES[reader], slip, accepts));
        // The kind does not matter here, because readers look at the slip.
        self.streams[reader].extend(passed_on.map(Message::StockSlip));
    }

    fn decide(&mut self, approved: bool) -> bool {
        let passed_on = self.participants[PAYMENTS].decide(approved);
        let decided = passed_on.is_some();
        self.streams[PAYMENTS].extend(passed_on.map(Message::PaymentsSlip));
        decided
    }
}

impl CheckoutSimulation for ChoreographedSimulation {
    type Action = ChoreographedAction;
    const PAY: ChoreographedAction = ChoreographedAction::Pay;
    const CANCEL: ChoreographedAction = ChoreographedAction::Cancel;

    fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    fn holdings(&self) -> ParticipantHoldings<'_> {
        let [_, stock, coupons, wallet, payments] = &self.participants;
        ParticipantHoldings {
            holds: [&stock.holds, &coupons.holds, &wallet.holds, &payments.holds],
            made_final: [stock.is_final, coupons.is_final, wallet.is_final],
        }
    }

    fn apply(&mut self, action: &ChoreographedAction) {
        match action {
            ChoreographedAction::Read { reader, source, accepts, twice } => {
                self.read(*reader, *source, *accepts, *twice);
            }
            ChoreographedAction::Decide { approved } => {
                self.decide(*approved);
            }
            ChoreographedAction::Pay => {
                if self.checkout.pay(payment(self.attempts + 1), self.now).is_ok() {
                    self.attempts += 1;
                }
                self.collect_outgoing();
            }
            ChoreographedAction::Cancel => {
                let _ = self.checkout.cancel("on a whim", self.now);
                self.collect_outgoing();
            }
            ChoreographedAction::AdvanceClock(time) => self.advance_clock(*time),
        }
        check(&self.checkout, &self.emitted);
    }

    fn advance_clock(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.checkout.on_deadline(self.now);
        self.collect_outgoing();
    }

    /// Delivers all messages, and advances the clock while a participant does not answer. Late slips are delivered after the end, too.
    fn run_to_rest(&mut self) {
        for _ in 0..100 {
            loop {
                let all = (0..5).flat_map(|reader| (0..5).map(move |source| (reader, source)));
                let moved = all.filter(|(reader, source)| self.read(*reader, *source, true, false)).count();
                if moved == 0 && !self.decide(true) {
                    break;
                }
                check(&self.checkout, &self.emitted);
            }
            if self.checkout.is_at_rest() {
                return;
            }
            self.advance_clock(STEP_DEADLINE);
        }
        panic!("the order never comes to rest: {:?}", self.checkout.order);
    }

    fn check_holdings(&self) {
        let Checkout { order, steps, .. } = &self.checkout;
        assert_all_or_nothing(&self.checkout, &self.holdings());
        if matches!(order.state, OrderState::Failed | OrderState::Expired | OrderState::Cancelled) {
            let reason = order.reason.as_ref().expect("an ended order has a reason");
            let timed_out = steps.iter().any(|step| step.result == StepResult::TimedOut);
            assert!(timed_out || reason.code != Some(Code::StepTimedOut), "an echo became the reason");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    // G1, G3, G4, G5; I-O9, I-O12: when all participants answer in the end, all steps are done or none, as in the orchestrated mode.
    #[test]
    fn a_checkout_ends_with_all_steps_or_none(shape in OrderShape::any(), actions in prop::collection::vec(any_action(), 0..160)) {
        ChoreographedSimulation::new(shape).assert_all_or_nothing_at_the_end(&actions);
    }

    // O8, G3: a cancelled paid order is undone completely, even when the undo slip overtakes the messages that make the sale final.
    #[test]
    fn cancelling_a_paid_order_undoes_all_steps(shape in OrderShape::any(), actions in prop::collection::vec(any_action(), 0..60)) {
        ChoreographedSimulation::new(shape).assert_cancelling_undoes_all(shape, &actions);
    }
}
