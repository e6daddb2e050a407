//! Reserving without payment: limits on a member's open unpaid orders, and the pause after an unpaid order that the member let go.
//!
//! An account costs nothing. So a reservation without payment is small, and does not return at once to the member who let it go.

use super::{Order, OrderLine, PricedLine, SagaState};
use contracts::{Code, OrderId, Refusal, Sku, Timestamp, messages::StockPolicy};
use std::{collections::BTreeMap, time::Duration};

/// Longest pause: 36 times the usual time to pay. A member who never pays then reserves for less than 3 % of the time.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// Lapses are forgotten when the last pause ended a day ago.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Limits on orders without payment. An order that is paid in the same call is decided at once, so they do not apply to it.
#[derive(Clone, Copy, Debug)]
pub struct UnpaidLimits {
    /// Most open unpaid orders of a member. 0: each order needs a payment.
    pub orders: u32,
    /// Most units of a SKU that a member's unpaid orders may reserve, unless the product has a limit of its own.
    pub units: u32,
    /// Pause after a lapse. It doubles with each further one. Zero: no pause.
    pub pause: Duration,
}

impl Default for UnpaidLimits {
    fn default() -> Self {
        Self { orders: 10, units: 10, pause: Duration::from_secs(60) }
    }
}

/// Reservations of a member without payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnpaidHoldings {
    /// Units that each open unpaid order reserves.
    pub open: BTreeMap<OrderId, Vec<(Sku, u32)>>,
    /// Unpaid orders that the member let go: they expired, or the member cancelled them.
    pub lapses: u32,
    /// Orders without payment are refused until then.
    pub paused_until: Option<Timestamp>,
}

impl UnpaidHoldings {
    /// Checks whether another unpaid order with these lines is allowed.
    pub fn admit(&self, lines: &[PricedLine], limits: &UnpaidLimits, now: Timestamp) -> Result<(), Refusal> {
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            let detail = format!("You let an unpaid order go. Until {until} an order must be paid in the same call.");
            return Err(Refusal::new(Code::UnpaidPaused, detail));
        }
        if self.open.len() >= limits.orders as usize {
            let detail =
                format!("At most {} of your orders can be unpaid at once. Pay or cancel one, or pay in the same call.", limits.orders);
            return Err(Refusal::new(Code::UnpaidLimit, detail));
        }
        let mut reserved: BTreeMap<Sku, u32> = BTreeMap::new();
        for priced in lines.iter().filter(|priced| is_reserved(&priced.line)) {
            let units = reserved.entry(priced.line.sku).or_insert_with(|| self.reserved(priced.line.sku));
            *units = units.saturating_add(priced.line.quantity);
            let most = priced.max_unpaid.unwrap_or(limits.units);
            if *units > most {
                let detail =
                    format!("At most {most} of “{}” can be ordered without payment. Pay in the same call to order more.", priced.line.name);
                return Err(Refusal::new(Code::UnpaidLimit, detail));
            }
        }
        Ok(())
    }

    /// Adds an admitted order.
    pub fn add(&mut self, id: OrderId, lines: &[OrderLine]) {
        let reserved = lines.iter().filter(|line| is_reserved(line)).map(|line| (line.sku, line.quantity));
        self.open.insert(id, reserved.collect());
    }

    /// Records that the member let an unpaid order go. A lapse during a pause only prolongs it, because the order was placed before it.
    pub fn record_lapse(&mut self, limits: &UnpaidLimits, now: Timestamp) {
        if limits.pause.is_zero() {
            return;
        }
        if self.paused_until.is_some_and(|until| now >= until.after(FORGOTTEN_AFTER)) {
            self.lapses = 0;
        }
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        if !is_paused {
            self.lapses = self.lapses.saturating_add(1);
        }
        let doubled = 2_u32.saturating_pow(self.lapses.saturating_sub(1));
        let until = now.after(limits.pause.saturating_mul(doubled).min(LONGEST_PAUSE));
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Units of a SKU that the open unpaid orders reserve.
    fn reserved(&self, sku: Sku) -> u32 {
        let units = self.open.values().flatten().filter(|(reserved, _)| *reserved == sku);
        units.fold(0, |sum, (_, quantity)| sum.saturating_add(*quantity))
    }
}

impl Order {
    /// True: the buyer has yet to pay, and did not do so in the same call.
    pub fn is_unpaid(&self) -> bool {
        let is_open = matches!(self.saga_state, SagaState::Running | SagaState::Waiting);
        !self.paid_inline && self.paid_at.is_none() && is_open
    }
}

/// Lines of the other policy reserve nothing before the payment.
fn is_reserved(line: &OrderLine) -> bool {
    line.policy == StockPolicy::ReserveOnOrder
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{ProductId, StoreId, Won};
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp(1_795_132_800_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn line(sku: u128, quantity: u32, policy: StockPolicy, max_unpaid: Option<u32>) -> PricedLine {
        let line = OrderLine {
            line_no: 1,
            sku: Sku(Uuid::from_u128(sku)),
            product_id: ProductId(Uuid::from_u128(sku)),
            store_id: StoreId(Uuid::from_u128(1)),
            name: "thing".into(),
            quantity,
            unit_price: Won(1),
            line_discount: Won::ZERO,
            policy,
        };
        PricedLine { line, discounts: Vec::new(), max_unpaid }
    }

    fn reserved(quantity: u32, max_unpaid: Option<u32>) -> PricedLine {
        line(1, quantity, StockPolicy::ReserveOnOrder, max_unpaid)
    }

    fn order(n: u128) -> OrderId {
        OrderId(Uuid::from_u128(n))
    }

    fn refusal(holdings: &UnpaidHoldings, lines: &[PricedLine], now: Timestamp) -> Option<Code> {
        holdings.admit(lines, &UnpaidLimits::default(), now).err().map(|refusal| refusal.code)
    }

    // H4
    #[test]
    fn units_of_all_open_orders_and_lines_count_together() {
        let mut holdings = UnpaidHoldings::default();
        assert_eq!(refusal(&holdings, &[reserved(10, None)], NOW), None);
        assert_eq!(refusal(&holdings, &[reserved(6, None), reserved(5, None)], NOW), Some(Code::UnpaidLimit));
        holdings.add(order(1), &[reserved(7, None).line]);
        assert_eq!(refusal(&holdings, &[reserved(3, None)], NOW), None);
        assert_eq!(refusal(&holdings, &[reserved(4, None)], NOW), Some(Code::UnpaidLimit));
        assert_eq!(refusal(&holdings, &[line(2, 10, StockPolicy::ReserveOnOrder, None)], NOW), None);
    }

    // H4
    #[test]
    fn a_product_has_its_own_limit_and_taken_lines_have_none() {
        let holdings = UnpaidHoldings::default();
        assert_eq!(refusal(&holdings, &[reserved(2, Some(1))], NOW), Some(Code::UnpaidLimit));
        assert_eq!(refusal(&holdings, &[reserved(1, Some(0))], NOW), Some(Code::UnpaidLimit));
        assert_eq!(refusal(&holdings, &[reserved(50, Some(100))], NOW), None);
        assert_eq!(refusal(&holdings, &[line(1, 1_000, StockPolicy::DeductOnPayment, Some(1))], NOW), None);
    }

    // H4
    #[test]
    fn pauses_double_and_orders_of_one_pause_count_once() {
        let limits = UnpaidLimits::default();
        let mut holdings = UnpaidHoldings::default();
        holdings.record_lapse(&limits, NOW);
        holdings.record_lapse(&limits, NOW);
        assert_eq!((holdings.lapses, holdings.paused_until), (1, Some(NOW.after(MINUTE))));
        assert_eq!(refusal(&holdings, &[reserved(1, None)], NOW.after(MINUTE / 2)), Some(Code::UnpaidPaused));
        assert_eq!(refusal(&holdings, &[reserved(1, None)], NOW.after(MINUTE)), None);
        let mut now = NOW;
        for lapses in 2..20 {
            now = holdings.paused_until.expect("it is set");
            holdings.record_lapse(&limits, now);
            assert_eq!(holdings.lapses, lapses);
        }
        assert_eq!(holdings.paused_until, Some(now.after(LONGEST_PAUSE)));
        now = now.after(LONGEST_PAUSE).after(FORGOTTEN_AFTER);
        holdings.record_lapse(&limits, now);
        assert_eq!((holdings.lapses, holdings.paused_until), (1, Some(now.after(MINUTE))));
    }
}
