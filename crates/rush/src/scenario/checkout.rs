//! Everyone orders one unit of one product, with coupon, points and wallet, in one call.

use super::{
    Stage,
    claim::{ClaimOnce, ClaimPaths},
    claims::ClaimRecord,
    order::{OrderForm, OrderOnce, OrderSeen},
};
use crate::{
    Checkout, RushError,
    acks::{Ack, Promise},
    check::{
        self, UNANSWERED,
        orders::{OrdersEvidence, StockState},
    },
    engine::tally::Record,
    setup::{Caller, NewCoupon},
    shoppers::Shopper,
};
use std::sync::Arc;
use uuid::Uuid;

const CLAIM: &str = "claim the coupon";
const ORDER: &str = "order";
pub fn play(checkout: &Checkout, stage: &mut Stage<'_>) -> Result<(), RushError> {
    let mut operator = stage.operator()?;
    let run = stage.run_name();
    let product = operator.create_product(&format!("{run} product"), checkout.price, checkout.stock)?;
    let name = format!("{run} coupon");
    let coupon = NewCoupon { name: &name, quantity: checkout.coupon_quantity, waitlist: false, discount: checkout.discount };
    let coupon_id = operator.create_coupon(&coupon)?;
    stage.fact("product", product.product_id);
    stage.fact("sku", product.sku);
    stage.fact("stock", checkout.stock);
    stage.fact("price", format!("₩{}", checkout.price));
    stage.fact("coupon", coupon_id);
    stage.fact("discount", format!("₩{}", checkout.discount));
    stage.fact("points an order", checkout.points);

    let claim = ClaimOnce { paths: ClaimPaths::of(coupon_id), shoppers: Arc::clone(&stage.shoppers) };
    let records = stage.phase(CLAIM, &Arc::new(claim), 0)?.records;
    let mut claims = ClaimRecord { coupon_id, quantity: checkout.coupon_quantity, records };
    let mut claimed = claims.resolve(stage)?;
    (claimed.server_remaining, claimed.server_waiting) = operator.coupon_counts(coupon_id)?;
    stage.checks.extend(claimed.checks());
    stage.checks.push(check::unexpected_answers(&stage.ends_of(CLAIM), &["issued", "sold-out"]));
    stage.totals.issued = Some(claimed.issued.len() as u64);
    stage.totals.over_issued = Some(claimed.over_issued());
    stage.totals.unknown_outcomes += claimed.unresolved;

    let coupons = OrderOnce::coupons_of(stage.shoppers.len(), &claims.records);
    let form = OrderForm { sku: product.sku, points: checkout.points, run };
    let plan = OrderOnce { form, shoppers: Arc::clone(&stage.shoppers), coupons };
    let orders = stage.phase(ORDER, &Arc::new(plan), 0)?.records;
    judge_orders(stage, &mut operator, product.sku, checkout.stock, &orders, ORDER)?;

    let mut acks = claims.acks(&stage.shoppers);
    acks.extend(order_acks(&orders, &stage.shoppers, |turn| turn as usize));
    stage.keep_and_read_back(&acks)
}

/// Counts how orders ended, reads the stock once it rests, and holds the two against each other.
pub fn judge_orders(
    stage: &mut Stage<'_>,
    operator: &mut Caller,
    sku: Uuid,
    stock: u64,
    orders: &[Record<OrderSeen>],
    operation: &str,
) -> Result<(), RushError> {
    let ends: Vec<(String, u64)> = stage
        .phases
        .iter()
        .flat_map(|phase| &phase.operations)
        .filter(|known| known.name == operation)
        .flat_map(|known| known.ends.clone())
        .collect();
    let out_of_stock: u64 = ends.iter().filter(|(label, _)| label == "out-of-stock").map(|(_, count)| count).sum();
    let unknown = orders.iter().filter(|record| record.seen == OrderSeen::Unknown).count() as u64;
    let refused = orders.iter().filter(|record| matches!(record.seen, OrderSeen::Refused { .. })).count() as u64;
    let paid = orders.iter().filter_map(|record| if let OrderSeen::Paid { order_id } = record.seen { Some(order_id) } else { None });
    let at_rest = operator.stock_at_rest(sku, stage.options.patience)?;
    let at_the_end =
        at_rest.map(|found| StockState { on_hand: found.on_hand, reserved: found.reserved, available: found.available, sold: found.sold });
    let evidence = OrdersEvidence {
        stock,
        buyers: orders.len() as u64,
        paid: paid.collect(),
        out_of_stock,
        otherwise_refused: refused.saturating_sub(out_of_stock),
        unknown,
        at_the_end,
    };
    stage.checks.extend(evidence.checks());
    stage.totals.paid = Some(evidence.paid.len() as u64);
    stage.totals.out_of_stock = Some(out_of_stock);
    stage.totals.oversold = Some(evidence.oversold());
    stage.totals.unknown_outcomes += unknown;
    let others: Vec<String> = ends
        .iter()
        .filter(|(label, _)| label != "paid" && label != "out-of-stock" && !UNANSWERED.contains(&label.as_str()))
        .map(|(label, count)| format!("{label} × {count}"))
        .collect();
    if !others.is_empty() {
        stage.notes.push(format!("Orders refused for other reasons than stock: {}.", others.join(", ")));
    }
    Ok(())
}

/// What was promised to whom; `shopper` finds the buyer of a turn.
pub fn order_acks(orders: &[Record<OrderSeen>], shoppers: &[Shopper], shopper: impl Fn(u32) -> usize) -> Vec<Ack> {
    let ack = |record: &Record<OrderSeen>| {
        let promise = match record.seen {
            OrderSeen::Paid { order_id } => Promise::Paid { order_id },
            OrderSeen::Refused { order_id: Some(order_id) } => Promise::Refused { order_id },
            OrderSeen::Refused { order_id: None } | OrderSeen::Unknown => return None,
        };
        Some(Ack { member_id: shoppers[shopper(record.turn)].member_id, promise })
    };
    orders.iter().filter_map(ack).collect()
}
