//! Every shopper orders one unit of one product, with coupon, points and wallet, in one request.

use super::{
    ScenarioRun,
    claim::{ClaimOnce, ClaimPaths},
    claims::CouponClaims,
    order::{OrderForm, OrderObservation, OrderOnce},
};
use crate::{
    CheckoutScenario, RushError,
    acks::{Ack, Promise},
    check::{
        self, UNANSWERED,
        orders::{OrdersEvidence, StockState},
    },
    load::stats::IterationRecord,
    setup::{CouponSetup, SetupClient},
    shoppers::Shopper,
};
use std::sync::Arc;
use uuid::Uuid;

const CLAIM: &str = "claim the coupon";
const ORDER: &str = "order";
pub fn run(checkout: &CheckoutScenario, run: &mut ScenarioRun<'_>) -> Result<(), RushError> {
    let mut operator = run.operator()?;
    let run_name = run.run_name();
    let product = operator.create_product(&format!("{run_name} product"), checkout.price, checkout.stock)?;
    let name = format!("{run_name} coupon");
    let coupon = CouponSetup { name: &name, quantity: checkout.coupon_quantity, waitlist: false, discount: checkout.discount };
    let coupon_id = operator.create_coupon(&coupon)?;
    run.add_fact("product", product.product_id);
    run.add_fact("sku", product.sku);
    run.add_fact("stock", checkout.stock);
    run.add_fact("price", format!("₩{}", checkout.price));
    run.add_fact("coupon", coupon_id);
    run.add_fact("discount", format!("₩{}", checkout.discount));
    run.add_fact("points an order", checkout.points);

    let claim = ClaimOnce { paths: ClaimPaths::of(coupon_id), shoppers: Arc::clone(&run.shoppers) };
    let records = run.run_phase(CLAIM, &Arc::new(claim), 0)?.records;
    let mut claims = CouponClaims { coupon_id, quantity: checkout.coupon_quantity, records };
    let mut claimed = claims.resolve(run)?;
    (claimed.server_remaining, claimed.server_waiting) = operator.coupon_counts(coupon_id)?;
    run.checks.extend(claimed.checks());
    run.checks.push(check::unexpected_answers(&run.ends_of(CLAIM), &["issued", "sold-out"]));
    run.totals.issued = Some(claimed.issued.len() as u64);
    run.totals.over_issued = Some(claimed.over_issued());
    run.totals.unknown_outcomes += claimed.unresolved;

    let coupons = OrderOnce::coupons_of(run.shoppers.len(), &claims.records);
    let form = OrderForm { sku: product.sku, points: checkout.points, run: run_name };
    let workload = OrderOnce { form, shoppers: Arc::clone(&run.shoppers), coupons };
    let orders = run.run_phase(ORDER, &Arc::new(workload), 0)?.records;
    check_orders(run, &mut operator, product.sku, checkout.stock, &orders, ORDER)?;

    let mut acks = claims.acks(&run.shoppers);
    acks.extend(order_acks(&orders, &run.shoppers, |iteration| iteration as usize));
    run.write_acks_and_read_back(&acks)
}

/// Counts the outcomes of the orders, reads the stock once it is settled, and compares both.
pub fn check_orders(
    run: &mut ScenarioRun<'_>,
    operator: &mut SetupClient,
    sku: Uuid,
    stock: u64,
    orders: &[IterationRecord<OrderObservation>],
    operation: &str,
) -> Result<(), RushError> {
    let ends: Vec<(String, u64)> = run
        .phases
        .iter()
        .flat_map(|phase| &phase.operations)
        .filter(|known| known.name == operation)
        .flat_map(|known| known.ends.clone())
        .collect();
    let out_of_stock: u64 = ends.iter().filter(|(label, _)| label == "out-of-stock").map(|(_, count)| count).sum();
    let unknown = orders.iter().filter(|record| record.observation == OrderObservation::Unknown).count() as u64;
    let refused = orders.iter().filter(|record| matches!(record.observation, OrderObservation::Refused { .. })).count() as u64;
    let paid =
        orders.iter().filter_map(|record| if let OrderObservation::Paid { order_id } = record.observation { Some(order_id) } else { None });
    let settled = operator.wait_for_settled_stock(sku, run.options.patience)?;
    let final_stock =
        settled.map(|found| StockState { on_hand: found.on_hand, reserved: found.reserved, available: found.available, sold: found.sold });
    let evidence = OrdersEvidence {
        stock,
        buyers: orders.len() as u64,
        paid: paid.collect(),
        out_of_stock,
        otherwise_refused: refused.saturating_sub(out_of_stock),
        unknown,
        final_stock,
    };
    run.checks.extend(evidence.checks());
    run.totals.paid = Some(evidence.paid.len() as u64);
    run.totals.out_of_stock = Some(out_of_stock);
    run.totals.oversold = Some(evidence.oversold());
    run.totals.unknown_outcomes += unknown;
    let others: Vec<String> = ends
        .iter()
        .filter(|(label, _)| label != "paid" && label != "out-of-stock" && !UNANSWERED.contains(&label.as_str()))
        .map(|(label, count)| format!("{label} × {count}"))
        .collect();
    if !others.is_empty() {
        run.notes.push(format!("Orders refused for other reasons than stock: {}.", others.join(", ")));
    }
    Ok(())
}

/// The acknowledgements of the orders. `shopper` maps an iteration to the index of its buyer.
pub fn order_acks(orders: &[IterationRecord<OrderObservation>], shoppers: &[Shopper], shopper: impl Fn(u32) -> usize) -> Vec<Ack> {
    let ack = |record: &IterationRecord<OrderObservation>| {
        let promise = match record.observation {
            OrderObservation::Paid { order_id } => Promise::Paid { order_id },
            OrderObservation::Refused { order_id: Some(order_id) } => Promise::Refused { order_id },
            OrderObservation::Refused { order_id: None } | OrderObservation::Unknown => return None,
        };
        Some(Ack { member_id: shoppers[shopper(record.iteration)].member_id, promise })
    };
    orders.iter().filter_map(ack).collect()
}
