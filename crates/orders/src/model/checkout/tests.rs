//! The rules of a checkout, by example and at random.

mod choreographed;
mod course;
mod examples;
mod random;
mod slips;
mod world;

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

/// The moves of decisions.md, section 3, written down a second time.
const LEGAL: &[(&str, &str)] = &[
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

/// What kind of order it is.
#[derive(Clone, Copy, Debug)]
struct Shape {
    coupon: bool,
    points: bool,
    /// One of its two lines is taken at payment.
    deduct: bool,
    inline: bool,
}

impl Shape {
    const FULL: Shape = Shape { coupon: true, points: true, deduct: true, inline: true };
    const PLAIN: Shape = Shape { coupon: false, points: false, deduct: false, inline: false };

    fn any() -> impl Strategy<Value = Shape> {
        let parts = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        parts.prop_map(|(coupon, points, deduct, inline)| Shape { coupon, points, deduct, inline })
    }

    fn place(self) -> Checkout {
        self.place_as(None)
    }

    /// `slip_run` as of an order that was just made: absent, or 0 for a choreographed one.
    fn place_as(self, slip_run: Option<u32>) -> Checkout {
        let policy = |n: u32| if self.deduct && n == 2 { StockPolicy::DeductOnPayment } else { StockPolicy::ReserveOnOrder };
        let discount = if self.coupon { 1_000 } else { 0 };
        let lines: Vec<Line> = (1..=2)
            .map(|n| Line {
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
            state: State::Pending,
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

fn payment(n: u128) -> Payment {
    Payment { id: PaymentId(Uuid::from_u128(n)), method: PaymentMethod::Wallet, token: None }
}

fn no(code: Code) -> Reason {
    Refusal::from(code).into()
}

/// What it says since the last time.
fn hear(checkout: &mut Checkout) -> Vec<&'static str> {
    std::mem::take(&mut checkout.outgoing).iter().map(Message::kind).collect()
}

/// The step a question is about, and whether it asks for the undo.
fn asked(kind: &str) -> Option<(Step, StepKind)> {
    Some(match kind {
        "stock.reserve" => (Step::StockReserve, StepKind::Do),
        "stock.take" => (Step::StockTake, StepKind::Do),
        "coupon.hold" => (Step::CouponHold, StepKind::Do),
        "points.hold" => (Step::PointsHold, StepKind::Do),
        "payment.request" => (Step::Payment, StepKind::Do),
        "stock.release" => (Step::StockReserve, StepKind::Undo),
        "coupon.unhold" => (Step::CouponHold, StepKind::Undo),
        "points.unhold" => (Step::PointsHold, StepKind::Undo),
        "payment.cancel" => (Step::Payment, StepKind::Undo),
        _ => return None,
    })
}

/// What must hold of any checkout at any time. `said` is all it ever said.
fn check(checkout: &Checkout, said: &[&'static str]) {
    let order = &checkout.order;
    // I-O8: dense, chained, legal, and the last one is the order's state.
    let mut state = None;
    for (event, n) in checkout.events.iter().zip(1..) {
        assert_eq!((event.n, event.from), (n, state));
        match state {
            None => assert_eq!(event.to, State::Pending),
            Some(from) => assert!(LEGAL.contains(&(State::as_str(from), event.to.as_str())), "{from:?} -> {:?}", event.to),
        }
        state = Some(event.to);
    }
    assert_eq!((state, checkout.events.len()), (Some(order.state), order.events as usize));
    assert!(checkout.steps.iter().zip(1..).all(|(step, n)| step.n == n) && checkout.steps.len() == order.steps as usize);

    let ok = |kind: StepKind| checkout.steps.iter().filter(move |step| step.result == StepResult::Ok && step.kind == kind);
    let at = |list: &[&StepRecord], step: Step| list.iter().find(|record| record.step == step).map(|record| record.n);
    let (done, undone): (Vec<&StepRecord>, Vec<&StepRecord>) = (ok(StepKind::Do).collect(), ok(StepKind::Undo).collect());
    for list in [&done, &undone] {
        // I-O10
        let mut times: HashMap<Step, u32> = HashMap::new();
        list.iter().for_each(|record| *times.entry(record.step).or_default() += 1);
        assert!(times.values().all(|times| *times == 1), "{times:?}");
    }
    for record in &done {
        let undo = at(&undone, record.step);
        // I-O11
        assert!(undo.is_none_or(|undo| record.n < undo), "{:?} done after its undo", record.step);
        // I-O12
        assert!(order.saga_state != SagaState::Undone || undo.is_some(), "{:?} stays done", record.step);
    }
    check_questions(checkout, said);
    check_ends(checkout, said);
}

/// Questions come in the order of the itinerary, undos in reverse, and nothing is undone that was not asked for.
fn check_questions(checkout: &Checkout, said: &[&'static str]) {
    let place = |step: Step| checkout.order.itinerary.iter().position(|at| *at == step).expect("only its own steps are asked for");
    let asked: Vec<(Step, StepKind)> = said.iter().filter_map(|kind| asked(kind)).collect();
    let of = |kind: StepKind| asked.iter().filter(move |(_, asked)| *asked == kind).map(|(step, _)| *step).collect::<Vec<_>>();
    let (dos, undos) = (of(StepKind::Do), of(StepKind::Undo));
    assert!(dos.windows(2).all(|pair| place(pair[0]) < place(pair[1]) || pair == [Step::Payment; 2]), "{dos:?}");
    assert!(undos.windows(2).all(|pair| place(pair[0]) >= place(pair[1])), "{undos:?}");
    assert!(undos.iter().all(|step| dos.contains(step)), "{undos:?} of {dos:?}");
    let first_undo = asked.iter().position(|(_, kind)| *kind == StepKind::Undo).unwrap_or(asked.len());
    assert!(asked[first_undo..].iter().all(|(_, kind)| *kind == StepKind::Undo), "asked for a step after an undo: {asked:?}");
}

/// A checkout that ended says so once, and what may have happened at a participant was taken back, or made final.
fn check_ends(checkout: &Checkout, said: &[&'static str]) {
    let order = &checkout.order;
    let times = |kind: &str| said.iter().filter(|said| **said == kind).count();
    let end = match order.state {
        State::Cancelled => "order.cancelled",
        State::Expired => "order.expired",
        State::Failed => "order.failed",
        _ => "",
    };
    for kind in ["order.cancelled", "order.expired", "order.failed"] {
        assert_eq!(times(kind), usize::from(kind == end), "{kind}");
    }
    assert_eq!(order.saga_state == SagaState::Undone, !end.is_empty());
    let paid = checkout.events.iter().any(|event| event.to == State::Paid);
    assert_eq!((order.paid_at.is_some(), times("order.paid"), times("stock.commit")), (paid, usize::from(paid), usize::from(paid)));
    assert_eq!(times("coupon.use"), usize::from(paid && !checkout.coupons.is_empty()));
    assert_eq!(times("points.use"), usize::from(paid && order.points_used > Won::ZERO));
    if order.saga_state == SagaState::Undone {
        assert_eq!(said.last(), Some(&end), "nothing is said after the end");
        for (step, undo) in [
            (Step::StockReserve, "stock.release"),
            (Step::CouponHold, "coupon.unhold"),
            (Step::PointsHold, "points.unhold"),
            (Step::Payment, "payment.cancel"),
        ] {
            // Only a clear "no" lets a step that was asked for go without an undo.
            let asked = said.iter().any(|kind| self::asked(kind) == Some((step, StepKind::Do)));
            let refused = checkout.steps.iter().any(|record| (record.step, record.result) == (step, StepResult::Refused));
            assert!(!asked || refused || times(undo) > 0, "{step:?} may have happened and was not undone");
        }
    }
    assert_eq!(order.due_at.is_none(), matches!(order.saga_state, SagaState::Done | SagaState::Undone) || unpaid_for_now(order));
}

/// A payment under way has no deadline: a provider's silence is not a refusal.
fn unpaid_for_now(order: &Order) -> bool {
    order.saga_state == SagaState::Running && order.itinerary.get(order.progress) == Some(&Step::Payment)
}
