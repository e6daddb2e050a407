//! Everyone looks around, claims and orders at the same time: of five turns of a shopper three read, one claims, one orders.

use super::{
    Stage,
    checkout::{judge_orders, order_acks},
    claim::{ClaimPaths, ClaimSeen},
    claims::ClaimRecord,
    order::{self, OrderForm, OrderSeen},
};
use crate::{
    Mixed, RushError, check,
    engine::{
        plan::{self, Done, Plan, Step, Trail},
        tally::Record,
        wire::{Answer, Call},
    },
    setup::NewCoupon,
    shoppers::Shopper,
};
use http::Uri;
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

const PHASE: &str = "mixed";
const DISCOUNT_WON: i64 = 1_000;
/// Turns of each shopper, in this order.
const TURNS: [usize; 5] = [LIST, CLAIM, DETAIL, LIST, ORDER];
const LIST: usize = 0;
const DETAIL: usize = 1;
const CLAIM: usize = 2;
const ORDER: usize = 3;

struct Everything {
    shoppers: Arc<Vec<Shopper>>,
    claims: ClaimPaths,
    /// The coupon of each shopper once its claim was answered; an order placed before goes without.
    coupons: Vec<OnceLock<Uuid>>,
    form: OrderForm,
    list: Uri,
    details: Vec<Uri>,
}

enum Seen {
    Claim(ClaimSeen),
    Order(OrderSeen),
}

impl Everything {
    fn shopper(&self, turn: u32) -> &Shopper {
        &self.shoppers[turn as usize / TURNS.len()]
    }
}

impl Plan for Everything {
    type Seen = Seen;

    fn operations(&self) -> &'static [&'static str] {
        &["list products", "read a product", "claim", "order"]
    }
    fn operation(&self, turn: u32) -> usize {
        TURNS[turn as usize % TURNS.len()]
    }
    fn turns(&self) -> Option<u32> {
        Some((self.shoppers.len() * TURNS.len()) as u32)
    }
    fn call(&self, turn: u32, _elapsed_nanos: u64) -> Option<Call> {
        let index = turn as usize / TURNS.len();
        let shopper = self.shoppers.get(index)?;
        Some(match self.operation(turn) {
            LIST => Call::get(self.list.clone(), None),
            DETAIL => Call::get(self.details[index % self.details.len()].clone(), None),
            CLAIM => self.claims.claim(shopper),
            _ => self.form.call(shopper, turn, self.coupons[index].get().copied()),
        })
    }
    fn read(&self, turn: u32, answer: &Answer<'_>, trail: &Trail) -> Step<Seen> {
        match self.operation(turn) {
            CLAIM => {
                let step = self.claims.read(self.shopper(turn), answer, trail);
                if let Step::Done(Done { seen: Some(ClaimSeen::Issued { issued_coupon_id, .. }), .. }) = &step {
                    let _ = self.coupons[turn as usize / TURNS.len()].set(*issued_coupon_id);
                }
                wrap(step, Seen::Claim)
            }
            ORDER => wrap(order::read(self.shopper(turn), answer, trail), Seen::Order),
            _ if answer.status == 200 => Step::Done(Done::plain("ok", true)),
            _ => Step::Done(Done::plain(plan::refusal(answer), false)),
        }
    }
    fn give_up(&self, turn: u32, trail: &Trail) -> Done<Seen> {
        let label = plan::gave_up(trail);
        match self.operation(turn) {
            CLAIM => Done::not(label, Seen::Claim(ClaimSeen::Unknown)),
            ORDER => {
                let Done { label, won, seen } = order::give_up(trail);
                Done { label, won, seen: seen.map(Seen::Order) }
            }
            _ => Done::plain(label, false),
        }
    }
}

fn wrap<S>(step: Step<S>, into: fn(S) -> Seen) -> Step<Seen> {
    match step {
        Step::Done(Done { label, won, seen }) => Step::Done(Done { label, won, seen: seen.map(into) }),
        Step::Follow { call, after } => Step::Follow { call, after },
    }
}

pub fn play(mixed: &Mixed, stage: &mut Stage<'_>) -> Result<(), RushError> {
    let mut operator = stage.operator()?;
    let run = stage.run_name();
    let product = operator.create_product(&format!("{run} product"), mixed.price, mixed.stock)?;
    let name = format!("{run} coupon");
    let coupon = NewCoupon { name: &name, quantity: Some(mixed.quantity), waitlist: false, discount: DISCOUNT_WON };
    let coupon_id = operator.create_coupon(&coupon)?;
    let mut products = operator.some_products()?;
    if products.is_empty() {
        // The list may lag behind the product just made.
        products.push(product.product_id);
    }
    stage.fact("coupon", coupon_id);
    stage.fact("quantity", mixed.quantity);
    stage.fact("sku", product.sku);
    stage.fact("stock", mixed.stock);
    stage.fact("products read", products.len());
    let detail = |id: &Uuid| Uri::try_from(format!("/v1/products/{id}")).expect("a path of letters, digits and dashes is a URI");
    let plan = Everything {
        shoppers: Arc::clone(&stage.shoppers),
        claims: ClaimPaths::of(coupon_id),
        coupons: (0..stage.shoppers.len()).map(|_| OnceLock::new()).collect(),
        form: OrderForm { sku: product.sku, points: mixed.points, run },
        list: Uri::from_static("/v1/products?limit=20"),
        details: products.iter().map(detail).collect(),
    };
    let records = stage.phase(PHASE, &Arc::new(plan), 0)?.records;
    let (mut claims, mut orders) = (Vec::new(), Vec::new());
    for Record { turn, first_begin, begin, end, seen } in records {
        let shopper = turn / TURNS.len() as u32;
        match seen {
            Seen::Claim(seen) => claims.push(Record { turn: shopper, first_begin, begin, end, seen }),
            Seen::Order(seen) => orders.push(Record { turn: shopper, first_begin, begin, end, seen }),
        }
    }
    let mut claims = ClaimRecord { coupon_id, quantity: Some(mixed.quantity), records: claims };
    let mut claimed = claims.resolve(stage)?;
    (claimed.server_remaining, claimed.server_waiting) = operator.coupon_counts(coupon_id)?;
    stage.checks.extend(claimed.checks());
    stage.totals.issued = Some(claimed.issued.len() as u64);
    stage.totals.over_issued = Some(claimed.over_issued());
    stage.totals.unknown_outcomes += claimed.unresolved;
    let ends: Vec<(String, u64)> = stage.phases[0]
        .operations
        .iter()
        .filter(|operation| operation.name != "order")
        .flat_map(|operation| operation.ends.clone())
        .collect();
    stage.checks.push(check::unexpected_answers(&ends, &["ok", "issued", "sold-out"]));
    judge_orders(stage, &mut operator, product.sku, mixed.stock, &orders, "order")?;
    let mut acks = claims.acks(&stage.shoppers);
    acks.extend(order_acks(&orders, &stage.shoppers, |shopper| shopper as usize));
    stage.keep_and_read_back(&acks)
}
