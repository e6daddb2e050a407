//! The steps of an order, and the messages of its checkout: the request of each step, and the `order.paid` event.

use super::Checkout;
use contracts::{
    PaymentId, Won,
    messages::{
        CouponApplication, CouponHold, OrderLineSold, OrderPaid, PaymentMethod, PaymentRequest, PointsHold, SagaStep, SlipStep, StockLine,
        StockPolicy, StockReserve, StockTake,
    },
};
use std::time::Duration;

/// Time that holds live beyond the order's deadline, so that they never expire while the order is being paid.
const HOLD_MARGIN: Duration = Duration::from_secs(15 * 60);

/// The steps of an order, in execution order (decision 3). `paid_inline`: the payment comes with the order.
pub fn itinerary(policies: impl Iterator<Item = StockPolicy>, coupons: bool, points: bool, paid_inline: bool) -> Vec<SagaStep> {
    let mut steps = vec![SagaStep::StockReserve];
    if coupons {
        steps.push(SagaStep::CouponHold);
    }
    if points {
        steps.push(SagaStep::PointsHold);
    }
    if !paid_inline {
        steps.push(SagaStep::AwaitPayment);
    }
    if policies.into_iter().any(|policy| policy == StockPolicy::DeductOnPayment) {
        steps.push(SagaStep::StockTake);
    }
    steps.push(SagaStep::Payment);
    steps
}

impl Checkout {
    /// The request of a step. `None`: no participant acts on it.
    pub(super) fn request_for(&self, step: SagaStep) -> Option<SlipStep> {
        let (order_id, member_id) = (self.order.id, self.order.member_id);
        let expires_at = self.order.expires_at.after(HOLD_MARGIN);
        Some(match step {
            SagaStep::StockReserve => SlipStep::StockReserve(StockReserve {
                order_id,
                reserve: self.stock_lines(StockPolicy::ReserveOnOrder),
                check_only: self.stock_lines(StockPolicy::DeductOnPayment),
                expires_at,
            }),
            SagaStep::StockTake => {
                SlipStep::StockTake(StockTake { order_id, lines: self.stock_lines(StockPolicy::DeductOnPayment), expires_at })
            }
            SagaStep::CouponHold => {
                let coupons = self
                    .coupons
                    .iter()
                    .map(|coupon| CouponApplication {
                        issued_coupon_id: coupon.issued_coupon_id,
                        base: coupon.base,
                        discount: coupon.discount,
                        store_id: coupon.store_id,
                    })
                    .collect();
                SlipStep::CouponHold(CouponHold { order_id, member_id, coupons, expires_at })
            }
            SagaStep::PointsHold => SlipStep::PointsHold(PointsHold { order_id, member_id, amount: self.order.points_used, expires_at }),
            SagaStep::Payment => SlipStep::Payment(self.payment_request()),
            SagaStep::AwaitPayment => return None,
        })
    }

    fn payment_request(&self) -> PaymentRequest {
        let payment = self.order.payment.clone();
        PaymentRequest {
            order_id: self.order.id,
            payment_id: payment.as_ref().map_or(PaymentId(self.order.id.0), |payment| payment.id),
            member_id: self.order.member_id,
            amount: self.order.total,
            method: payment.as_ref().map_or(PaymentMethod::None, |payment| payment.method),
            token: payment.and_then(|payment| payment.token),
        }
    }

    fn stock_lines(&self, policy: StockPolicy) -> Vec<StockLine> {
        let lines = self.lines.iter().filter(|line| line.policy == policy);
        lines.map(|line| StockLine { line_no: line.line_no, sku: line.sku, quantity: line.quantity }).collect()
    }

    pub(super) fn paid_message(&self) -> OrderPaid {
        OrderPaid {
            order_id: self.order.id,
            member_id: self.order.member_id,
            total: self.order.total,
            points_used: self.order.points_used,
            method: self.order.payment.as_ref().map_or(PaymentMethod::None, |payment| payment.method),
            lines: self
                .lines
                .iter()
                .map(|line| OrderLineSold {
                    sku: line.sku,
                    product_id: line.product_id,
                    store_id: line.store_id,
                    quantity: line.quantity,
                    unit_price: line.unit_price,
                    paid: Won(line.unit_price.0 * i64::from(line.quantity) - line.line_discount.0),
                })
                .collect(),
        }
    }
}
