use super::*;
use contracts::MemberId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const RULES: Rules = Rules { test_provider: true, lease: Duration::from_secs(6) };
const NOW: Timestamp = Timestamp(1_000_000);

fn order(n: u8) -> OrderId {
    OrderId(Uuid::from_u128(0x100 + u128::from(n)))
}
fn payment_id(n: u8) -> PaymentId {
    PaymentId(Uuid::from_u128(0x200 + u128::from(n)))
}
fn ask(payment: u8, of: u8, amount: i64, method: PaymentMethod) -> PaymentRequest {
    let member_id = MemberId(Uuid::from_u128(1));
    PaymentRequest { order_id: order(of), payment_id: payment_id(payment), member_id, amount: Won(amount), method, token: None }
}
fn charged() -> Says {
    Says::Charged { reference: Some("ref".into()) }
}
fn declined() -> Says {
    Says::Refused(Code::PaymentFailed.into())
}

/// What a database would hold.
#[derive(Default)]
struct Tables {
    payments: BTreeMap<PaymentId, Payment>,
    refunds: BTreeMap<PaymentId, Refund>,
    cancellations: BTreeMap<OrderId, Cancellation>,
    told: Vec<(OrderId, Message)>,
    refund_ids: u128,
}

impl Tables {
    fn run<T>(&mut self, decide: impl FnOnce(&mut Book, Uuid) -> Result<T, Broken>) -> T {
        let mut book = Book::default();
        for n in 0..8 {
            book.load_payment(payment_id(n), self.payments.get(&payment_id(n)).cloned());
            book.load_refund(payment_id(n), self.refunds.get(&payment_id(n)).cloned());
            book.load_live(order(n), self.payments.values().find(|p| p.order_id == order(n) && p.state.is_live()).cloned());
            book.load_cancellation(order(n), self.cancellations.get(&order(n)).cloned());
        }
        self.refund_ids += 1;
        let value = decide(&mut book, Uuid::from_u128(self.refund_ids)).expect("sound");
        let changes = book.into_changes();
        for payment in changes.new_payments.into_iter().chain(changes.changed_payments.into_iter().map(|(_, payment)| payment)) {
            self.payments.insert(payment.id, payment);
        }
        for refund in changes.new_refunds.into_iter().chain(changes.changed_refunds) {
            self.refunds.insert(refund.payment_id, refund);
        }
        for cancellation in changes.new_cancellations.into_iter().chain(changes.changed_cancellations) {
            self.cancellations.insert(cancellation.order_id, cancellation);
        }
        value
    }

    fn note(&mut self, next: Next) -> Next {
        if let Next::Tell(order_id, message) = &next {
            self.told.push((*order_id, message.clone()));
        }
        next
    }

    fn request(&mut self, ask: &PaymentRequest) -> Next {
        let next = self.run(|book, _| book.request(ask, &RULES, NOW));
        self.note(next)
    }
    fn cancel(&mut self, n: u8) -> Next {
        let next = self.run(|book, refund| book.cancel(order(n), refund, &RULES, NOW));
        self.note(next)
    }
    fn settle(&mut self, n: u8, says: &Says) -> Next {
        let next = self.run(|book, refund| book.settle(payment_id(n), says, refund, &RULES, NOW));
        self.note(next)
    }
    fn refunded(&mut self, n: u8) -> Next {
        let next = self.run(|book, _| book.refunded(payment_id(n), None, NOW));
        self.note(next)
    }
    fn state(&self, n: u8) -> State {
        self.payments[&payment_id(n)].state
    }
}

fn kind(next: &Next) -> &'static str {
    match next {
        Next::Nothing => "nothing",
        Next::Charge(_) => "charge",
        Next::Refund(_) => "refund",
        Next::Tell(_, message) => message.kind(),
    }
}

fn failed_with(next: &Next) -> Option<Code> {
    match next {
        Next::Tell(_, Message::PaymentFailed(refused)) => Some(refused.code),
        _ => None,
    }
}

// Y1, Y4: the ways a payment may go, per method.
#[test]
fn methods_ask_whom_they_must() {
    let mut tables = Tables::default();
    assert_eq!(kind(&tables.request(&ask(0, 0, 0, PaymentMethod::None))), "payment.approved");
    assert_eq!(failed_with(&tables.request(&ask(1, 1, 5, PaymentMethod::None))), Some(Code::PaymentMethodNotAllowed));
    assert_eq!(kind(&tables.request(&ask(2, 2, 5, PaymentMethod::Wallet))), "wallet.debit");
    assert_eq!(kind(&tables.request(&ask(3, 3, 5, PaymentMethod::Test))), "charge");
    assert_eq!(kind(&tables.request(&ask(4, 4, 0, PaymentMethod::Test))), "payment.approved");
    assert_eq!(failed_with(&tables.request(&ask(5, 5, -1, PaymentMethod::Wallet))), Some(Code::AmountOutOfRange));
    assert_eq!(tables.state(2), State::Intent);
    let off = Rules { test_provider: false, ..RULES };
    let next = tables.run(|book, _| book.request(&ask(6, 6, 5, PaymentMethod::Test), &off, NOW));
    assert_eq!(failed_with(&next), Some(Code::PaymentMethodNotAllowed));
}

// Y2: an order is paid once.
#[test]
fn a_second_payment_of_an_order_is_refused() {
    let mut tables = Tables::default();
    tables.request(&ask(0, 0, 5, PaymentMethod::Test));
    assert_eq!(failed_with(&tables.request(&ask(1, 0, 5, PaymentMethod::Wallet))), Some(Code::PaymentInProgress));
    tables.settle(0, &Says::Unknown { called: true });
    assert_eq!(failed_with(&tables.request(&ask(2, 0, 5, PaymentMethod::Wallet))), Some(Code::PaymentInProgress));
    tables.settle(0, &charged());
    assert_eq!(failed_with(&tables.request(&ask(3, 0, 5, PaymentMethod::Wallet))), Some(Code::AlreadyPaid));
    let mut tables = Tables::default();
    tables.request(&ask(0, 0, 5, PaymentMethod::Test));
    tables.settle(0, &declined());
    assert_eq!(kind(&tables.request(&ask(1, 0, 5, PaymentMethod::Wallet))), "wallet.debit", "a failed one may be tried again");
}

// F30: what is said twice, or contradicts what is settled, changes nothing and is told once.
#[test]
fn repeated_answers_change_nothing() {
    let mut tables = Tables::default();
    tables.request(&ask(0, 0, 5, PaymentMethod::Test));
    assert_eq!(kind(&tables.settle(0, &charged())), "payment.approved");
    for says in [charged(), declined(), Says::Unknown { called: true }, Says::NeverCharged, Says::CallingAgain] {
        assert_eq!(kind(&tables.settle(0, &says)), "nothing");
    }
    assert_eq!((tables.state(0), tables.told.len()), (State::Approved, 1));
}

#[test]
fn silence_is_not_a_failure() {
    let mut tables = Tables::default();
    tables.request(&ask(0, 0, 5, PaymentMethod::Test));
    assert_eq!(kind(&tables.settle(0, &Says::Unknown { called: true })), "nothing");
    assert_eq!(tables.state(0), State::Unknown);
    assert_eq!(kind(&tables.settle(0, &Says::NeverCharged)), "nothing", "the order still wants it");
    assert_eq!(kind(&tables.settle(0, &charged())), "payment.approved");
}

// I-O6: whatever is captured for an undone order goes back, whenever that turns out.
#[test]
fn an_undone_order_keeps_nothing() {
    let mut tables = Tables::default();
    assert_eq!(kind(&tables.cancel(7)), "payment.cancelled", "nothing to undo");
    assert_eq!(failed_with(&tables.request(&ask(7, 7, 5, PaymentMethod::Wallet))), Some(Code::StepTimedOut), "a tombstone");

    tables.request(&ask(0, 0, 5, PaymentMethod::Test));
    tables.settle(0, &charged());
    assert_eq!(kind(&tables.cancel(0)), "refund");
    assert_eq!(kind(&tables.cancel(0)), "nothing", "it is on its way");
    assert_eq!(kind(&tables.refunded(0)), "payment.cancelled");
    assert_eq!((kind(&tables.refunded(0)), tables.state(0)), ("nothing", State::Cancelled));
    assert_eq!(kind(&tables.cancel(0)), "payment.cancelled", "asked again, told again");

    tables.request(&ask(1, 1, 5, PaymentMethod::Wallet));
    assert_eq!(kind(&tables.cancel(1)), "nothing", "first find out");
    assert_eq!(kind(&tables.settle(1, &charged())), "wallet.credit");
    assert_eq!(kind(&tables.refunded(1)), "payment.cancelled");

    tables.request(&ask(2, 2, 5, PaymentMethod::Test));
    tables.settle(2, &Says::Unknown { called: true });
    assert_eq!(kind(&tables.cancel(2)), "nothing");
    assert_eq!(kind(&tables.settle(2, &Says::NeverCharged)), "payment.cancelled");

    tables.request(&ask(3, 3, 0, PaymentMethod::None));
    assert_eq!((kind(&tables.cancel(3)), tables.state(3)), ("payment.cancelled", State::Cancelled));
}

// F30: the provider said no and took the money all the same.
#[test]
fn money_that_comes_after_a_failure_goes_back() {
    let mut tables = Tables::default();
    tables.request(&ask(0, 0, 5, PaymentMethod::Test));
    tables.settle(0, &declined());
    assert_eq!(kind(&tables.request(&ask(1, 0, 5, PaymentMethod::Wallet))), "wallet.debit");
    assert_eq!(kind(&tables.settle(0, &charged())), "refund");
    assert_eq!(kind(&tables.settle(0, &charged())), "nothing");
    assert_eq!(kind(&tables.refunded(0)), "nothing", "the order did not ask");
    assert_eq!((tables.state(0), tables.state(1)), (State::Cancelled, State::Intent));
}

// A refund of a failed payment's late money does not end the undoing of the payment that is still open.
#[test]
fn an_undo_waits_for_the_open_payment_alone() {
    let mut tables = Tables::default();
    tables.request(&ask(0, 0, 5, PaymentMethod::Test));
    tables.settle(0, &declined());
    tables.request(&ask(1, 0, 5, PaymentMethod::Test));
    assert_eq!((kind(&tables.settle(0, &charged())), kind(&tables.cancel(0))), ("refund", "nothing"));
    assert_eq!(kind(&tables.refunded(0)), "nothing");
    assert_eq!(kind(&tables.settle(1, &declined())), "payment.cancelled");
}

#[derive(Clone, Debug)]
enum Op {
    Request { payment: u8, order: u8, method: u8 },
    Cancel { order: u8 },
    Settle { payment: u8, says: u8 },
    Refunded { payment: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..6u8, 0..3u8, 0..2u8).prop_map(|(payment, order, method)| Op::Request { payment, order, method }),
        1 => (0..3u8).prop_map(|order| Op::Cancel { order }),
        4 => (0..6u8, 0..5u8).prop_map(|(payment, says)| Op::Settle { payment, says }),
        2 => (0..6u8).prop_map(|payment| Op::Refunded { payment }),
    ]
}

proptest! {
    // Y2, I-P1, I-P2, I-O6: any order of requests, answers and undos.
    #[test]
    fn an_order_never_holds_more_than_one_capture(ops in prop::collection::vec(op(), 1..80)) {
        let mut tables = Tables::default();
        for op in &ops {
            match *op {
                Op::Request { payment, order, method } => {
                    // A payment belongs to one order; a repeat asks the same.
                    let order = tables.payments.get(&payment_id(payment)).map_or(order, |p| (p.order_id.0.as_u128() - 0x100) as u8);
                    tables.request(&ask(payment, order, 5, [PaymentMethod::Wallet, PaymentMethod::Test][usize::from(method)]));
                }
                Op::Cancel { order } => {
                    tables.cancel(order);
                }
                Op::Settle { payment, .. } | Op::Refunded { payment } if !tables.payments.contains_key(&payment_id(payment)) => {}
                Op::Settle { payment, says } => {
                    let all = [charged(), declined(), Says::Unknown { called: true }, Says::NeverCharged, Says::CallingAgain];
                    tables.settle(payment, &all[usize::from(says)]);
                }
                Op::Refunded { payment } => {
                    tables.refunded(payment);
                }
            }
            for n in 0..3 {
                let own = || tables.payments.values().filter(move |p| p.order_id == order(n));
                prop_assert!(own().filter(|p| p.state.is_live()).count() <= 1);
                if tables.cancellations.get(&order(n)).is_some_and(|c| c.done) {
                    prop_assert!(own().all(|p| !p.state.is_live()), "cancelled means nothing is kept");
                }
            }
            for payment in tables.payments.values() {
                let refund = tables.refunds.get(&payment.id);
                prop_assert!(refund.is_none() || payment.captured_at.is_some());
                prop_assert!(payment.state != State::Approved || payment.captured_at.is_some());
                prop_assert!(refund.is_none_or(|r| r.amount == payment.amount));
            }
        }
    }
}
