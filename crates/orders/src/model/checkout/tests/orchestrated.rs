//! Random tests of an orchestrated checkout with correct participants: they do and undo each step once, repeat their answers, and leave a
//! tombstone. Messages are delayed and repeated. Each participant reads them in order.

use super::{
    simulation::{CheckoutSimulation, ParticipantHoldings},
    *,
};
use std::collections::VecDeque;

/// Simulates stock, coupons, the wallet's points, or payments.
#[derive(Default)]
struct OrchestratedParticipant {
    inbox: VecDeque<Message>,
    answers: VecDeque<StepAnswer>,
    /// Answers given so far, for repeated requests.
    past_answers: HashMap<(SagaStep, Option<PaymentId>), bool>,
    /// Steps whose effect exists now. For payments: captured.
    holds: Vec<SagaStep>,
    is_final: bool,
    tombstone: bool,
}

#[derive(Clone, Copy)]
enum StepAnswer {
    Done(SagaStep),
    Refused(SagaStep),
    Undone(SagaStep),
    Approved(PaymentId),
    Declined(PaymentId),
}

impl OrchestratedParticipant {
    fn handle(&mut self, message: &Message, accepts: bool) {
        let kind = message.kind();
        if kind == "stock.commit" || kind == "coupon.use" || kind == "points.use" {
            self.is_final = !self.holds.is_empty();
            return;
        }
        let Some((step, step_kind)) = requested_step(kind) else { return };
        if step_kind == StepKind::Undo {
            self.tombstone = true;
            self.holds.clear();
            self.is_final = false;
            self.answers.push_back(StepAnswer::Undone(step));
            return;
        }
        let attempt = match message {
            Message::PaymentRequest(request) => Some(request.payment_id),
            _ => None,
        };
        let (is_first, is_done) = match self.past_answers.get(&(step, attempt)) {
            Some(is_done) => (false, *is_done),
            None => (true, accepts && !self.tombstone),
        };
        self.past_answers.insert((step, attempt), is_done);
        if is_first && is_done {
            self.holds.push(step);
        }
        self.answers.push_back(match (attempt, is_done) {
            (Some(id), true) => StepAnswer::Approved(id),
            (Some(id), false) => StepAnswer::Declined(id),
            (None, true) => StepAnswer::Done(step),
            (None, false) => StepAnswer::Refused(step),
        });
    }
}

struct OrchestratedSimulation {
    checkout: Checkout,
    now: Timestamp,
    attempts: u128,
    participants: [OrchestratedParticipant; 4],
    emitted: Vec<&'static str>,
}

const STOCK: usize = 0;
const COUPONS: usize = 1;
const POINTS: usize = 2;
const PAYMENTS: usize = 3;

#[derive(Clone, Debug)]
enum OrchestratedAction {
    /// A participant handles its next message once or twice.
    Read {
        participant: usize,
        accepts: bool,
        twice: bool,
    },
    /// The next answer of a participant arrives once or twice.
    Arrive {
        participant: usize,
        twice: bool,
    },
    Pay,
    Cancel,
    AdvanceClock(Duration),
}

fn any_action() -> impl Strategy<Value = OrchestratedAction> {
    prop_oneof![
        10 => (0..4usize, prop::bool::weighted(0.9), any::<bool>()).prop_map(|(participant, accepts, twice)| OrchestratedAction::Read { participant, accepts, twice }),
        10 => (0..4usize, any::<bool>()).prop_map(|(participant, twice)| OrchestratedAction::Arrive { participant, twice }),
        2 => Just(OrchestratedAction::Pay),
        1 => Just(OrchestratedAction::Cancel),
        2 => prop::sample::select(vec![5, 31, 601]).prop_map(|seconds| OrchestratedAction::AdvanceClock(Duration::from_secs(seconds))),
    ]
}

impl OrchestratedSimulation {
    fn new(shape: OrderShape) -> OrchestratedSimulation {
        let mut simulation = OrchestratedSimulation {
            checkout: shape.place(),
            now: NOW,
            attempts: 1,
            participants: Default::default(),
            emitted: Vec::new(),
        };
        simulation.collect_outgoing();
        simulation
    }

    /// Moves the queued messages to their participants.
    fn collect_outgoing(&mut self) {
        for message in std::mem::take(&mut self.checkout.outgoing) {
            let kind = message.kind();
            self.emitted.push(kind);
            let participant = match kind.split_once('.').map(|(service, _)| service) {
                Some("stock") => STOCK,
                Some("coupon") => COUPONS,
                Some("points") => POINTS,
                Some("payment") => PAYMENTS,
                _ => continue,
            };
            self.participants[participant].inbox.push_back(message);
        }
    }

    fn read(&mut self, participant: usize, accepts: bool, twice: bool) -> bool {
        let Some(message) = self.participants[participant].inbox.pop_front() else { return false };
        for _ in 0..=usize::from(twice) {
            self.participants[participant].handle(&message, accepts);
        }
        true
    }

    fn arrive(&mut self, participant: usize, twice: bool) -> bool {
        let Some(answer) = self.participants[participant].answers.pop_front() else { return false };
        for _ in 0..=usize::from(twice) {
            match answer {
                StepAnswer::Done(step) => self.checkout.step_done(step, self.now),
                StepAnswer::Refused(step) => self.checkout.step_refused(step, reason_for(Code::OutOfStock), self.now),
                StepAnswer::Undone(step) => self.checkout.step_undone(step, self.now),
                StepAnswer::Approved(id) => self.checkout.payment_approved(id, self.now),
                StepAnswer::Declined(id) => self.checkout.payment_failed(id, reason_for(Code::InsufficientFunds), self.now),
            }
            self.collect_outgoing();
        }
        true
    }
}

impl CheckoutSimulation for OrchestratedSimulation {
    type Action = OrchestratedAction;
    const PAY: OrchestratedAction = OrchestratedAction::Pay;
    const CANCEL: OrchestratedAction = OrchestratedAction::Cancel;

    fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    fn holdings(&self) -> ParticipantHoldings<'_> {
        let [stock, coupons, wallet, payments] = &self.participants;
        ParticipantHoldings {
            holds: [&stock.holds, &coupons.holds, &wallet.holds, &payments.holds],
            made_final: [stock.is_final, coupons.is_final, wallet.is_final],
        }
    }

    fn apply(&mut self, action: &OrchestratedAction) {
        match action {
            OrchestratedAction::Read { participant, accepts, twice } => {
                self.read(*participant, *accepts, *twice);
            }
            OrchestratedAction::Arrive { participant, twice } => {
                self.arrive(*participant, *twice);
            }
            OrchestratedAction::Pay => {
                if self.checkout.pay(payment(self.attempts + 1), self.now).is_ok() {
                    self.attempts += 1;
                }
                self.collect_outgoing();
            }
            OrchestratedAction::Cancel => {
                let _ = self.checkout.cancel("on a whim", self.now);
                self.collect_outgoing();
            }
            OrchestratedAction::AdvanceClock(time) => self.advance_clock(*time),
        }
        check(&self.checkout, &self.emitted);
    }

    fn advance_clock(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.checkout.on_deadline(self.now);
        self.collect_outgoing();
    }

    /// Delivers all messages, and advances the clock while a participant does not answer.
    fn run_to_rest(&mut self) {
        for _ in 0..100 {
            while (0..4).any(|participant| self.read(participant, true, false) || self.arrive(participant, false)) {}
            check(&self.checkout, &self.emitted);
            if self.checkout.is_at_rest() {
                return;
            }
            self.advance_clock(STEP_DEADLINE);
        }
        panic!("the order never comes to rest: {:?}", self.checkout.order);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    // G1, G4, G5; I-O9, I-O12: when all participants answer in the end, all steps are done or none.
    #[test]
    fn a_checkout_ends_with_all_steps_or_none(shape in OrderShape::any(), actions in prop::collection::vec(any_action(), 0..60)) {
        OrchestratedSimulation::new(shape).assert_all_or_nothing_at_the_end(&actions);
    }

    // O8: a cancelled paid order is undone completely.
    #[test]
    fn cancelling_a_paid_order_undoes_all_steps(shape in OrderShape::any(), actions in prop::collection::vec(any_action(), 0..30)) {
        OrchestratedSimulation::new(shape).assert_cancelling_undoes_all(shape, &actions);
    }
}
