//! All shoppers read, claim and order at the same time. Of five iterations of a shopper, three read, one claims, one orders.

use super::{
    ScenarioRun,
    checkout::{check_orders, order_acks},
    claim::{ClaimObservation, ClaimPaths},
    claims::CouponClaims,
    order::{self, OrderForm, OrderObservation},
};
use crate::{
    MixedScenario, RushError, check,
    load::{
        connection::{PreparedRequest, ServerAnswer},
        stats::IterationRecord,
        workload::{self, Finished, IterationAttempts, NextStep, Workload},
    },
    setup::CouponSetup,
    shoppers::Shopper,
};
use http::Uri;
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

const PHASE: &str = "mixed";
const DISCOUNT_WON: i64 = 1_000;
/// Iterations of each shopper, in this order.
const ITERATIONS: [usize; 5] = [LIST, CLAIM, DETAIL, LIST, ORDER];
const LIST: usize = 0;
const DETAIL: usize = 1;
const CLAIM: usize = 2;
const ORDER: usize = 3;

struct MixedWorkload {
    shoppers: Arc<Vec<Shopper>>,
    claims: ClaimPaths,
    /// The coupon of each shopper, once its claim was answered. An order placed earlier uses none.
    coupons: Vec<OnceLock<Uuid>>,
    form: OrderForm,
    list: Uri,
    details: Vec<Uri>,
}

enum MixedObservation {
    Claim(ClaimObservation),
    Order(OrderObservation),
}

impl MixedWorkload {
    fn shopper(&self, iteration: u32) -> &Shopper {
        &self.shoppers[iteration as usize / ITERATIONS.len()]
    }
}

impl Workload for MixedWorkload {
    type Observation = MixedObservation;

    fn operations(&self) -> &'static [&'static str] {
        &["list products", "read a product", "claim", "order"]
    }
    fn operation(&self, iteration: u32) -> usize {
        ITERATIONS[iteration as usize % ITERATIONS.len()]
    }
    fn iterations(&self) -> Option<u32> {
        Some((self.shoppers.len() * ITERATIONS.len()) as u32)
    }
    fn first_request(&self, iteration: u32, _elapsed_nanos: u64) -> Option<PreparedRequest> {
        let index = iteration as usize / ITERATIONS.len();
        let shopper = self.shoppers.get(index)?;
        Some(match self.operation(iteration) {
            LIST => PreparedRequest::get(self.list.clone(), None),
            DETAIL => PreparedRequest::get(self.details[index % self.details.len()].clone(), None),
            CLAIM => self.claims.claim(shopper),
            _ => self.form.request(shopper, iteration, self.coupons[index].get().copied()),
        })
    }
    fn read_answer(&self, iteration: u32, answer: &ServerAnswer<'_>, attempts: &IterationAttempts) -> NextStep<MixedObservation> {
        match self.operation(iteration) {
            CLAIM => {
                let step = self.claims.read_answer(self.shopper(iteration), answer, attempts);
                if let NextStep::Finish(Finished { observation: Some(ClaimObservation::Issued { issued_coupon_id, .. }), .. }) = &step {
                    let _ = self.coupons[iteration as usize / ITERATIONS.len()].set(*issued_coupon_id);
                }
                wrap(step, MixedObservation::Claim)
            }
            ORDER => wrap(order::read_answer(self.shopper(iteration), answer, attempts), MixedObservation::Order),
            _ if answer.status == 200 => NextStep::Finish(Finished::unobserved("ok", true)),
            _ => NextStep::Finish(Finished::unobserved(workload::refusal_label(answer), false)),
        }
    }
    fn give_up(&self, iteration: u32, attempts: &IterationAttempts) -> Finished<MixedObservation> {
        let label = workload::give_up_label(attempts);
        match self.operation(iteration) {
            CLAIM => Finished::not_won(label, MixedObservation::Claim(ClaimObservation::Unknown)),
            ORDER => {
                let Finished { label, won, observation } = order::give_up(attempts);
                Finished { label, won, observation: observation.map(MixedObservation::Order) }
            }
            _ => Finished::unobserved(label, false),
        }
    }
}

fn wrap<S>(step: NextStep<S>, into: fn(S) -> MixedObservation) -> NextStep<MixedObservation> {
    match step {
        NextStep::Finish(Finished { label, won, observation }) => {
            NextStep::Finish(Finished { label, won, observation: observation.map(into) })
        }
        NextStep::Follow { request, after } => NextStep::Follow { request, after },
    }
}

pub fn run(mixed: &MixedScenario, run: &mut ScenarioRun<'_>) -> Result<(), RushError> {
    let mut operator = run.operator()?;
    let run_name = run.run_name();
    let product = operator.create_product(&format!("{run_name} product"), mixed.price, mixed.stock)?;
    let name = format!("{run_name} coupon");
    let coupon = CouponSetup { name: &name, quantity: Some(mixed.quantity), waitlist: false, discount: DISCOUNT_WON };
    let coupon_id = operator.create_coupon(&coupon)?;
    let mut products = operator.list_product_ids()?;
    if products.is_empty() {
        // The list may not show the new product yet.
        products.push(product.product_id);
    }
    run.add_fact("coupon", coupon_id);
    run.add_fact("quantity", mixed.quantity);
    run.add_fact("sku", product.sku);
    run.add_fact("stock", mixed.stock);
    run.add_fact("products read", products.len());
    let detail = |id: &Uuid| Uri::try_from(format!("/v1/products/{id}")).expect("a path of letters, digits and dashes is a URI");
    let workload = MixedWorkload {
        shoppers: Arc::clone(&run.shoppers),
        claims: ClaimPaths::of(coupon_id),
        coupons: (0..run.shoppers.len()).map(|_| OnceLock::new()).collect(),
        form: OrderForm { sku: product.sku, points: mixed.points, run: run_name },
        list: Uri::from_static("/v1/products?limit=20"),
        details: products.iter().map(detail).collect(),
    };
    let records = run.run_phase(PHASE, &Arc::new(workload), 0)?.records;
    let (mut claims, mut orders) = (Vec::new(), Vec::new());
    for IterationRecord { iteration, first_begin, begin, end, observation } in records {
        let shopper = iteration / ITERATIONS.len() as u32;
        match observation {
            MixedObservation::Claim(observation) => {
                claims.push(IterationRecord { iteration: shopper, first_begin, begin, end, observation })
            }
            MixedObservation::Order(observation) => {
                orders.push(IterationRecord { iteration: shopper, first_begin, begin, end, observation })
            }
        }
    }
    let mut claims = CouponClaims { coupon_id, quantity: Some(mixed.quantity), records: claims };
    let mut claimed = claims.resolve(run)?;
    (claimed.server_remaining, claimed.server_waiting) = operator.coupon_counts(coupon_id)?;
    run.checks.extend(claimed.checks());
    run.totals.issued = Some(claimed.issued.len() as u64);
    run.totals.over_issued = Some(claimed.over_issued());
    run.totals.unknown_outcomes += claimed.unresolved;
    let ends: Vec<(String, u64)> = run.phases[0]
        .operations
        .iter()
        .filter(|operation| operation.name != "order")
        .flat_map(|operation| operation.ends.clone())
        .collect();
    run.checks.push(check::unexpected_answers(&ends, &["ok", "issued", "sold-out"]));
    check_orders(run, &mut operator, product.sku, mixed.stock, &orders, "order")?;
    let mut acks = claims.acks(&run.shoppers);
    acks.extend(order_acks(&orders, &run.shoppers, |shopper| shopper as usize));
    run.write_acks_and_read_back(&acks)
}
