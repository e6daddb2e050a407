//! Tests of the checkout rules: by example and with random actions.

mod choreographed;
mod examples;
mod orchestrated;
mod random;
mod simulation;
mod slips;

use super::{super::itinerary, *};
use contracts::{
    IssuedCouponId, MemberId, OrderId, ProductId, Sku, StoreId, Won,
    calls::CouponScope,
    messages::{PaymentMethod, StockPolicy},
};
use proptest::prelude::*;
use std::collections::HashMap;
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
const UNPAID: Duration = Duration::from_secs(600);

/// The transitions of decisions.md, section 3, written independently of the code.
const SPECIFIED_TRANSITIONS: &[(&str, &str)] = &[
    ("PENDING", "AWAITING_PAYMENT"),
    ("PENDING", "PAYING"),
    ("PENDING", "FAILED"),
    ("PENDING", "CANCELLING"),
    ("AWAITING_PAYMENT", "PAYING"),
    ("AWAITING_PAYMENT", "EXPIRED"),
    ("AWAITING_PAYMENT", "CANCELLING"),
    ("PAYING", "PAID"),
    ("PAYING", "AWAITING_PAYMENT"),
    ("PAYING", "FAILED"),
    ("PAID", "PREPARING"),
    ("PAID", "CANCELLING"),
    ("PREPARING", "SHIPPING"),
    ("PREPARING", "CANCELLING"),
    ("SHIPPING", "DELIVERED"),
    ("DELIVERED", "CONFIRMED"),
    ("CANCELLING", "CANCELLED"),
];

/// Steps that an order needs.
#[derive(Clone, Copy, Debug)]
struct OrderShape {
    coupon: bool,
    points: bool,
    /// One of the two lines is taken at payment.
    deduct: bool,
    inline: bool,
}

impl OrderShape {
    const FULL: OrderShape = OrderShape { coupon: true, points: true, deduct: true, inline: true };
    const PLAIN: OrderShape = OrderShape { coupon: false, points: false, deduct: false, inline: false };

    fn any() -> impl Strategy<Value = OrderShape> {
        let participants = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        participants.prop_map(|(coupon, points, deduct, inline)| OrderShape { coupon, points, deduct, inline })
    }

    fn place(self) -> Checkout {
        self.place_in_mode(None)
    }

    /// `slip_run`: `None` for an orchestrated order, 0 for a new choreographed one.
    fn place_in_mode(self, slip_run: Option<u32>) -> Checkout {
        let policy = |n: u32| if self.deduct && n == 2 { StockPolicy::DeductOnPayment } else { StockPolicy::ReserveOnOrder };
        let discount = if self.coupon { 1_000 } else { 0 };
        let lines: Vec<OrderLine> = (1..=2)
            .map(|n| OrderLine {
                line_no: n,
                sku: Sku(Uuid::from_u128(n.into())),
                product_id: ProductId(Uuid::from_u128(n.into())),
                store_id: StoreId(Uuid::from_u128(9)),
                name: format!("thing {n}"),
                quantity: n,
                unit_price: Won(5_000),
                line_discount: Won(if n == 1 { discount } else { 0 }),
                policy: policy(n),
            })
            .collect();
        let coupon = AppliedCoupon {
            issued_coupon_id: IssuedCouponId(Uuid::from_u128(77)),
            name: "1,000 off".into(),
            scope: CouponScope::Item,
            store_id: None,
            base: Won(5_000),
            discount: Won(1_000),
        };
        let points = if self.points { 500 } else { 0 };
        let order = Order {
            id: OrderId(Uuid::from_u128(1)),
            member_id: MemberId(Uuid::from_u128(2)),
            state: OrderState::Pending,
            subtotal: Won(15_000),
            discount: Won(discount),
            points_used: Won(points),
            shipping: Won::ZERO,
            total: Won(15_000 - discount - points),
            itinerary: itinerary(lines.iter().map(|line| line.policy), self.coupon, self.points, self.inline),
            progress: 0,
            saga_state: SagaState::Running,
            slip_run,
            due_at: None,
            expires_at: NOW.after(UNPAID),
            paid_inline: self.inline,
            from_cart: false,
            payment: self.inline.then(|| payment(1)),
            ending: None,
            reason: None,
            idempotency_key: "k".into(),
            events: 0,
            steps: 0,
            created_at: NOW,
            updated_at: NOW,
            paid_at: None,
        };
        Checkout::place(order, lines, if self.coupon { vec![coupon] } else { Vec::new() }, NOW)
    }
}

fn payment(n: u128) -> PaymentAttempt {
    PaymentAttempt { id: PaymentId(Uuid::from_u128(n)), method: PaymentMethod::Wallet, token: None }
}

fn reason_for(code: Code) -> Reason {
    Refusal::from(code).into()
}

/// Kinds of the messages queued since the last call.
fn take_emitted(checkout: &mut Checkout) -> Vec<&'static str> {
    std::mem::take(&mut checkout.outgoing).iter().map(Message::kind).collect()
}

/// The step that a message requests, and whether it requests the undo. `None`: the message is not a request.
fn requested_step(kind: &str) -> Option<(SagaStep, StepKind)> {
    Some(match kind {
        "stock.reserve" => (SagaStep::StockReserve, StepKind::Do),
        "stock.take" => (SagaStep::StockTake, StepKind::Do),
        "coupon.hold" => (SagaStep::CouponHold, StepKind::Do),
        "points.hold" => (SagaStep::PointsHold, StepKind::Do),
        "payment.request" => (SagaStep::Payment, StepKind::Do),
        "stock.release" => (SagaStep::StockReserve, StepKind::Undo),
        "coupon.unhold" => (SagaStep::CouponHold, StepKind::Undo),
        "points.unhold" => (SagaStep::PointsHold, StepKind::Undo),
        "payment.cancel" => (SagaStep::Payment, StepKind::Undo),
        _ => return None,
    })
}

/// Checks the invariants of every checkout at every time. `emitted`: kinds of all messages so far.
fn check(checkout: &Checkout, emitted: &[&'static str]) {
    let order = &checkout.order;
    // I-O8: state changes are dense, chained and legal, and the last one is the order's state.
    let mut state = None;
    for (event, n) in checkout.events.iter().zip(1..) {
        assert_eq!((event.n, event.from), (n, state));
        match state {
            None => assert_eq!(event.to, OrderState::Pending),
            Some(from) => {
                assert!(SPECIFIED_TRANSITIONS.contains(&(OrderState::as_str(from), event.to.as_str())), "{from:?} -> {:?}", event.to)
            }
        }
        state = Some(event.to);
    }
    assert_eq!((state, checkout.events.len()), (Some(order.state), order.events as usize));
    assert!(checkout.steps.iter().zip(1..).all(|(step, n)| step.n == n) && checkout.steps.len() == order.steps as usize);

    let ok = |kind: StepKind| checkout.steps.iter().filter(move |step| step.result == StepResult::Ok && step.kind == kind);
    let at = |list: &[&StepRecord], step: SagaStep| list.iter().find(|record| record.step == step).map(|record| record.n);
    let (done, undone): (Vec<&StepRecord>, Vec<&StepRecord>) = (ok(StepKind::Do).collect(), ok(StepKind::Undo).collect());
    for list in [&done, &undone] {
        // I-O10
        let mut times: HashMap<SagaStep, u32> = HashMap::new();
        list.iter().for_each(|record| *times.entry(record.step).or_default() += 1);
        assert!(times.values().all(|times| *times == 1), "{times:?}");
    }
    for record in &done {
        let undo = at(&undone, record.step);
        // I-O11
        assert!(undo.is_none_or(|undo| record.n < undo), "{:?} done after its undo", record.step);
        // I-O12
        assert!(order.saga_state != SagaState::Undone || undo.is_some(), "{:?} was not undone", record.step);
    }
    check_requests(checkout, emitted);
    check_ends(checkout, emitted);
}

/// Requests follow the itinerary, undos come in reverse, and only requested steps are undone.
fn check_requests(checkout: &Checkout, emitted: &[&'static str]) {
    let place = |step: SagaStep| checkout.order.itinerary.iter().position(|at| *at == step).expect("requests belong to the itinerary");
    let requested: Vec<(SagaStep, StepKind)> = emitted.iter().filter_map(|kind| requested_step(kind)).collect();
    let of = |kind: StepKind| requested.iter().filter(move |(_, requested)| *requested == kind).map(|(step, _)| *step).collect::<Vec<_>>();
    let (dos, undos) = (of(StepKind::Do), of(StepKind::Undo));
    assert!(dos.windows(2).all(|pair| place(pair[0]) < place(pair[1]) || pair == [SagaStep::Payment; 2]), "{dos:?}");
    assert!(undos.windows(2).all(|pair| place(pair[0]) >= place(pair[1])), "{undos:?}");
    assert!(undos.iter().all(|step| dos.contains(step)), "{undos:?} of {dos:?}");
    let first_undo = requested.iter().position(|(_, kind)| *kind == StepKind::Undo).unwrap_or(requested.len());
    assert!(requested[first_undo..].iter().all(|(_, kind)| *kind == StepKind::Undo), "a step was requested after an undo: {requested:?}");
}

/// An ended checkout emits its end once. Every step that a participant may have done is undone or made final.
fn check_ends(checkout: &Checkout, emitted: &[&'static str]) {
    let order = &checkout.order;
    let times = |kind: &str| emitted.iter().filter(|emitted| **emitted == kind).count();
    let end = match order.state {
        OrderState::Cancelled => "order.cancelled",
        OrderState::Expired => "order.expired",
        OrderState::Failed => "order.failed",
        _ => "",
    };
    for kind in ["order.cancelled", "order.expired", "order.failed"] {
        assert_eq!(times(kind), usize::from(kind == end), "{kind}");
    }
    assert_eq!(order.saga_state == SagaState::Undone, !end.is_empty());
    let paid = checkout.events.iter().any(|event| event.to == OrderState::Paid);
    assert_eq!((order.paid_at.is_some(), times("order.paid"), times("stock.commit")), (paid, usize::from(paid), usize::from(paid)));
    assert_eq!(times("coupon.use"), usize::from(paid && !checkout.coupons.is_empty()));
    assert_eq!(times("points.use"), usize::from(paid && order.points_used > Won::ZERO));
    if order.saga_state == SagaState::Undone {
        assert_eq!(emitted.last(), Some(&end), "nothing is emitted after the end");
        for (step, undo) in [
            (SagaStep::StockReserve, "stock.release"),
            (SagaStep::CouponHold, "coupon.unhold"),
            (SagaStep::PointsHold, "points.unhold"),
            (SagaStep::Payment, "payment.cancel"),
        ] {
            // A requested step is undone, unless its participant refused it.
            let is_requested = emitted.iter().any(|kind| self::requested_step(kind) == Some((step, StepKind::Do)));
            let refused = checkout.steps.iter().any(|record| (record.step, record.result) == (step, StepResult::Refused));
            assert!(!is_requested || refused || times(undo) > 0, "{step:?} may have happened and was not undone");
        }
    }
    assert_eq!(order.due_at.is_none(), matches!(order.saga_state, SagaState::Done | SagaState::Undone) || is_payment_running(order));
}

/// A running payment has no deadline, because a silent provider is not a refusal.
fn is_payment_running(order: &Order) -> bool {
    order.saga_state == SagaState::Running && order.itinerary.get(order.progress) == Some(&SagaStep::Payment)
}
