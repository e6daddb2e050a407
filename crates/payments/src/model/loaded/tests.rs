use super::*;
use contracts::MemberId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const RULES: PaymentRules = PaymentRules { test_provider: true, lease: Duration::from_secs(6) };
const NOW: Timestamp = Timestamp(1_000_000);

fn order(n: u8) -> OrderId {
    OrderId(Uuid::from_u128(0x100 + u128::from(n)))
}
fn payment_id(n: u8) -> PaymentId {
    PaymentId(Uuid::from_u128(0x200 + u128::from(n)))
}
fn payment_request(payment: u8, of: u8, amount: i64, method: PaymentMethod) -> PaymentRequest {
    let member_id = MemberId(Uuid::from_u128(1));
    PaymentRequest { order_id: order(of), payment_id: payment_id(payment), member_id, amount: Won(amount), method, token: None }
}
fn charged() -> ProviderStatus {
    ProviderStatus::Charged { reference: Some("ref".into()) }
}
fn declined() -> ProviderStatus {
    ProviderStatus::Refused(Code::PaymentFailed.into())
}

/// Stands in for the database.
#[derive(Default)]
struct Tables {
    payments: BTreeMap<PaymentId, Payment>,
    refunds: BTreeMap<PaymentId, Refund>,
    cancellations: BTreeMap<OrderId, Cancellation>,
    emitted: Vec<(OrderId, Message)>,
    refund_ids: u128,
}

impl Tables {
    fn run<T>(&mut self, decide: impl FnOnce(&mut LoadedPayments, Uuid) -> Result<T, PaymentInvariantViolation>) -> T {
        let mut loaded = LoadedPayments::default();
        for n in 0..8 {
            let (id, order_id) = (payment_id(n), order(n));
            loaded.payments.add_found([id], self.payments.get(&id).map(|payment| (id, payment.clone().into())));
            loaded.refunds.add_found([id], self.refunds.get(&id).map(|refund| (id, refund.clone())));
            let live = self.payments.values().filter(|payment| payment.order_id == order_id && payment.state.is_live());
            loaded.load_live(vec![order_id], live.cloned().collect());
            loaded.cancellations.add_found([order_id], self.cancellations.get(&order_id).map(|row| (order_id, row.clone())));
        }
        self.refund_ids += 1;
        let value = decide(&mut loaded, Uuid::from_u128(self.refund_ids)).expect("sound");
        let payments = loaded.payments.take_changed();
        for LoadedPayment { payment, .. } in payments.new.into_iter().chain(payments.existing) {
            self.payments.insert(payment.id, payment.clone());
        }
        let refunds = loaded.refunds.take_changed();
        for refund in refunds.new.into_iter().chain(refunds.existing) {
            self.refunds.insert(refund.payment_id, refund.clone());
        }
        let cancellations = loaded.cancellations.take_changed();
        for cancellation in cancellations.new.into_iter().chain(cancellations.existing) {
            self.cancellations.insert(cancellation.order_id, cancellation.clone());
        }
        value
    }

    fn record(&mut self, next: NextAction) -> NextAction {
        if let NextAction::Emit(order_id, message) = &next {
            self.emitted.push((*order_id, message.clone()));
        }
        next
    }

    fn request(&mut self, request: &PaymentRequest) -> NextAction {
        let next = self.run(|loaded, _| loaded.request(request, &RULES, NOW));
        self.record(next)
    }
    fn cancel(&mut self, n: u8) -> NextAction {
        let next = self.run(|loaded, refund| loaded.cancel(order(n), refund, &RULES, NOW));
        self.record(next)
    }
    fn settle(&mut self, n: u8, status: &ProviderStatus) -> NextAction {
        let next = self.run(|loaded, refund| loaded.settle(payment_id(n), status, refund, &RULES, NOW));
        self.record(next)
    }
    fn complete_refund(&mut self, n: u8) -> NextAction {
        let next = self.run(|loaded, _| loaded.complete_refund(payment_id(n), None, NOW));
        self.record(next)
    }
    fn state(&self, n: u8) -> PaymentState {
        self.payments[&payment_id(n)].state
    }
}

fn kind(next: &NextAction) -> &'static str {
    match next {
        NextAction::Nothing => "nothing",
        NextAction::Charge(_) => "charge",
        NextAction::Refund(_) => "refund",
        NextAction::Emit(_, message) => message.kind(),
    }
}

fn failed_with(next: &NextAction) -> Option<Code> {
    match next {
        NextAction::Emit(_, Message::PaymentFailed(refused)) => Some(refused.code),
        _ => None,
    }
}

// Y1, Y4: the next action of each payment method.
#[test]
fn each_method_leads_to_its_next_action() {
    let mut tables = Tables::default();
    assert_eq!(kind(&tables.request(&payment_request(0, 0, 0, PaymentMethod::None))), "payment.approved");
    assert_eq!(failed_with(&tables.request(&payment_request(1, 1, 5, PaymentMethod::None))), Some(Code::PaymentMethodNotAllowed));
    assert_eq!(kind(&tables.request(&payment_request(2, 2, 5, PaymentMethod::Wallet))), "wallet.debit");
    assert_eq!(kind(&tables.request(&payment_request(3, 3, 5, PaymentMethod::Test))), "charge");
    assert_eq!(kind(&tables.request(&payment_request(4, 4, 0, PaymentMethod::Test))), "payment.approved");
    assert_eq!(failed_with(&tables.request(&payment_request(5, 5, -1, PaymentMethod::Wallet))), Some(Code::AmountOutOfRange));
    assert_eq!(tables.state(2), PaymentState::Intent);
    let off = PaymentRules { test_provider: false, ..RULES };
    let next = tables.run(|loaded, _| loaded.request(&payment_request(6, 6, 5, PaymentMethod::Test), &off, NOW));
    assert_eq!(failed_with(&next), Some(Code::PaymentMethodNotAllowed));
}

// Y2: an order is paid at most once.
#[test]
fn a_second_payment_of_an_order_is_refused() {
    let mut tables = Tables::default();
    tables.request(&payment_request(0, 0, 5, PaymentMethod::Test));
    assert_eq!(failed_with(&tables.request(&payment_request(1, 0, 5, PaymentMethod::Wallet))), Some(Code::PaymentInProgress));
    tables.settle(0, &ProviderStatus::Unknown { called: true });
    assert_eq!(failed_with(&tables.request(&payment_request(2, 0, 5, PaymentMethod::Wallet))), Some(Code::PaymentInProgress));
    tables.settle(0, &charged());
    assert_eq!(failed_with(&tables.request(&payment_request(3, 0, 5, PaymentMethod::Wallet))), Some(Code::AlreadyPaid));
    let mut tables = Tables::default();
    tables.request(&payment_request(0, 0, 5, PaymentMethod::Test));
    tables.settle(0, &declined());
    assert_eq!(kind(&tables.request(&payment_request(1, 0, 5, PaymentMethod::Wallet))), "wallet.debit", "a failed payment may be retried");
}

// F30: repeated statuses, and statuses that contradict a settled payment, change nothing and emit nothing.
#[test]
fn repeated_statuses_change_nothing() {
    let mut tables = Tables::default();
    tables.request(&payment_request(0, 0, 5, PaymentMethod::Test));
    assert_eq!(kind(&tables.settle(0, &charged())), "payment.approved");
    for status in
        [charged(), declined(), ProviderStatus::Unknown { called: true }, ProviderStatus::NeverCharged, ProviderStatus::CallingAgain]
    {
        assert_eq!(kind(&tables.settle(0, &status)), "nothing");
    }
    assert_eq!((tables.state(0), tables.emitted.len()), (PaymentState::Approved, 1));
}

#[test]
fn silence_is_not_a_failure() {
    let mut tables = Tables::default();
    tables.request(&payment_request(0, 0, 5, PaymentMethod::Test));
    assert_eq!(kind(&tables.settle(0, &ProviderStatus::Unknown { called: true })), "nothing");
    assert_eq!(tables.state(0), PaymentState::Unknown);
    assert_eq!(kind(&tables.settle(0, &ProviderStatus::NeverCharged)), "nothing", "the order is not being undone");
    assert_eq!(kind(&tables.settle(0, &charged())), "payment.approved");
}

// I-O6: all money captured for an undone order is refunded, even when the capture is found out late.
#[test]
fn captured_money_of_an_undone_order_is_refunded() {
    let mut tables = Tables::default();
    assert_eq!(kind(&tables.cancel(7)), "payment.cancelled", "nothing to undo");
    assert_eq!(failed_with(&tables.request(&payment_request(7, 7, 5, PaymentMethod::Wallet))), Some(Code::StepTimedOut), "a tombstone");

    tables.request(&payment_request(0, 0, 5, PaymentMethod::Test));
    tables.settle(0, &charged());
    assert_eq!(kind(&tables.cancel(0)), "refund");
    assert_eq!(kind(&tables.cancel(0)), "nothing", "the refund is pending");
    assert_eq!(kind(&tables.complete_refund(0)), "payment.cancelled");
    assert_eq!((kind(&tables.complete_refund(0)), tables.state(0)), ("nothing", PaymentState::Cancelled));
    assert_eq!(kind(&tables.cancel(0)), "payment.cancelled", "a repeated undo is answered again");

    tables.request(&payment_request(1, 1, 5, PaymentMethod::Wallet));
    assert_eq!(kind(&tables.cancel(1)), "nothing", "the outcome is unknown");
    assert_eq!(kind(&tables.settle(1, &charged())), "wallet.credit");
    assert_eq!(kind(&tables.complete_refund(1)), "payment.cancelled");

    tables.request(&payment_request(2, 2, 5, PaymentMethod::Test));
    tables.settle(2, &ProviderStatus::Unknown { called: true });
    assert_eq!(kind(&tables.cancel(2)), "nothing");
    assert_eq!(kind(&tables.settle(2, &ProviderStatus::NeverCharged)), "payment.cancelled");

    tables.request(&payment_request(3, 3, 0, PaymentMethod::None));
    assert_eq!((kind(&tables.cancel(3)), tables.state(3)), ("payment.cancelled", PaymentState::Cancelled));
}

// F30: the provider refused, but charged all the same.
#[test]
fn a_charge_after_a_failure_is_refunded() {
    let mut tables = Tables::default();
    tables.request(&payment_request(0, 0, 5, PaymentMethod::Test));
    tables.settle(0, &declined());
    assert_eq!(kind(&tables.request(&payment_request(1, 0, 5, PaymentMethod::Wallet))), "wallet.debit");
    assert_eq!(kind(&tables.settle(0, &charged())), "refund");
    assert_eq!(kind(&tables.settle(0, &charged())), "nothing");
    assert_eq!(kind(&tables.complete_refund(0)), "nothing", "the order requested no undo");
    assert_eq!((tables.state(0), tables.state(1)), (PaymentState::Cancelled, PaymentState::Intent));
}

// The refund of a failed payment's late charge does not complete the undo of the payment that is still open.
#[test]
fn an_undo_waits_only_for_the_open_payment() {
    let mut tables = Tables::default();
    tables.request(&payment_request(0, 0, 5, PaymentMethod::Test));
    tables.settle(0, &declined());
    tables.request(&payment_request(1, 0, 5, PaymentMethod::Test));
    assert_eq!((kind(&tables.settle(0, &charged())), kind(&tables.cancel(0))), ("refund", "nothing"));
    assert_eq!(kind(&tables.complete_refund(0)), "nothing");
    assert_eq!(kind(&tables.settle(1, &declined())), "payment.cancelled");
}

#[derive(Clone, Debug)]
enum PaymentAction {
    Request { payment: u8, order: u8, method: u8 },
    Cancel { order: u8 },
    SettlePayment { payment: u8, status: u8 },
    Refunded { payment: u8 },
}

fn any_action() -> impl Strategy<Value = PaymentAction> {
    prop_oneof![
        3 => (0..6u8, 0..3u8, 0..2u8).prop_map(|(payment, order, method)| PaymentAction::Request { payment, order, method }),
        1 => (0..3u8).prop_map(|order| PaymentAction::Cancel { order }),
        4 => (0..6u8, 0..5u8).prop_map(|(payment, status)| PaymentAction::SettlePayment { payment, status }),
        2 => (0..6u8).prop_map(|payment| PaymentAction::Refunded { payment }),
    ]
}

proptest! {
    // Y2, I-P1, I-P2, I-O6: requests, answers and undos in any order.
    #[test]
    fn an_order_never_holds_more_than_one_capture(actions in prop::collection::vec(any_action(), 1..80)) {
        let mut tables = Tables::default();
        for action in &actions {
            match *action {
                PaymentAction::Request { payment, order, method } => {
                    // A payment belongs to one order, so a repeat names the same one.
                    let order = tables.payments.get(&payment_id(payment)).map_or(order, |p| (p.order_id.0.as_u128() - 0x100) as u8);
                    tables.request(&payment_request(payment, order, 5, [PaymentMethod::Wallet, PaymentMethod::Test][usize::from(method)]));
                }
                PaymentAction::Cancel { order } => {
                    tables.cancel(order);
                }
                PaymentAction::SettlePayment { payment, .. } | PaymentAction::Refunded { payment } if !tables.payments.contains_key(&payment_id(payment)) => {}
                PaymentAction::SettlePayment { payment, status } => {
                    let all = [charged(), declined(), ProviderStatus::Unknown { called: true }, ProviderStatus::NeverCharged, ProviderStatus::CallingAgain];
                    tables.settle(payment, &all[usize::from(status)]);
                }
                PaymentAction::Refunded { payment } => {
                    tables.complete_refund(payment);
                }
            }
            for n in 0..3 {
                let own = || tables.payments.values().filter(move |p| p.order_id == order(n));
                prop_assert!(own().filter(|p| p.state.is_live()).count() <= 1);
                if tables.cancellations.get(&order(n)).is_some_and(|c| c.is_done) {
                    prop_assert!(own().all(|p| !p.state.is_live()), "a completed undo leaves no live payment");
                }
            }
            for payment in tables.payments.values() {
                let refund = tables.refunds.get(&payment.id);
                prop_assert!(refund.is_none() || payment.captured_at.is_some());
                prop_assert!(payment.state != PaymentState::Approved || payment.captured_at.is_some());
                prop_assert!(refund.is_none_or(|r| r.amount == payment.amount));
            }
        }
    }
}
