//! The rules of limited stock, checked against the answers its buyers got.

use super::{Check, numbers::first_few};
use std::collections::HashSet;
use uuid::Uuid;

/// The answers that the buyers of one SKU got.
#[derive(Clone, Debug, Default)]
pub struct OrdersEvidence {
    pub stock: u64,
    pub buyers: u64,
    /// Paid orders, one unit each.
    pub paid: Vec<Uuid>,
    pub out_of_stock: u64,
    /// Orders refused for other reasons, such as funds or coupons.
    pub otherwise_refused: u64,
    /// Orders of unknown outcome.
    pub unknown: u64,
    /// The stock after the last order was settled. `None`: it could not be read.
    pub final_stock: Option<StockState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockState {
    pub on_hand: i64,
    pub reserved: i64,
    pub available: i64,
    pub sold: i64,
}

impl OrdersEvidence {
    /// Units sold beyond the stock.
    pub fn oversold(&self) -> u64 {
        let counted = self.final_stock.map_or(0, |state| u64::try_from(state.sold).unwrap_or(0));
        (self.paid.len() as u64).max(counted).saturating_sub(self.stock)
    }

    pub fn checks(&self) -> Vec<Check> {
        vec![self.oversell(), self.exactly_sold(), self.distinct(), self.stock_adds_up()]
    }

    fn oversell(&self) -> Check {
        let over = self.oversold();
        let violation = (over > 0).then(|| format!("{over} sold beyond the stock"));
        Check::of("oversell", "never more paid orders than units", violation, format!("{} paid, {} in stock", self.paid.len(), self.stock))
    }

    fn exactly_sold(&self) -> Check {
        const ID: &str = "exactly-sold";
        const RULE: &str = "no unit is left over while a buyer was refused";
        let (paid, due) = (self.paid.len() as u64, self.stock.min(self.buyers));
        if paid < due && self.unknown + self.otherwise_refused > 0 {
            let reason = format!("{paid} of {due} paid, {} refused for other reasons, {} unknown", self.otherwise_refused, self.unknown);
            return Check::skipped(ID, RULE, reason);
        }
        let counts = format!("{paid} paid, {due} due, {} told out of stock", self.out_of_stock);
        Check::of(ID, RULE, (paid < due).then(|| counts.clone()), counts)
    }

    fn distinct(&self) -> Check {
        let mut seen = HashSet::new();
        let twice: Vec<Uuid> = self.paid.iter().copied().filter(|order| !seen.insert(*order)).collect();
        let violation = (!twice.is_empty()).then(|| format!("one order answered to two buyers: {}", first_few(&twice)));
        Check::of("one-order-each", "every paid buyer has their own order", violation, format!("{} orders", self.paid.len()))
    }

    fn stock_adds_up(&self) -> Check {
        const ID: &str = "stock-books";
        const RULE: &str = "afterwards no unit is held, and units sold and left add up to the stock";
        let Some(StockState { on_hand, reserved, available, sold }) = self.final_stock else {
            return Check::skipped(ID, RULE, "the stock could not be read");
        };
        let (paid, unknown) = (self.paid.len() as i64, self.unknown as i64);
        let mut violations = Vec::new();
        if reserved != 0 {
            violations.push(format!("{reserved} still held"));
        }
        if sold + on_hand != self.stock as i64 {
            violations.push(format!("{sold} sold and {on_hand} left of {}", self.stock));
        }
        if !(paid..=paid + unknown).contains(&sold) {
            violations.push(format!("{sold} sold, buyers paid for {paid}"));
        }
        if available != on_hand - reserved || available < 0 {
            violations.push(format!("{available} available with {on_hand} on hand and {reserved} held"));
        }
        let evidence = format!("{sold} sold, {on_hand} left, {reserved} held");
        Check::of(ID, RULE, (!violations.is_empty()).then(|| violations.join("; ")), evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn honest() -> OrdersEvidence {
        OrdersEvidence {
            stock: 2,
            buyers: 5,
            paid: vec![Uuid::from_u128(1), Uuid::from_u128(2)],
            out_of_stock: 3,
            final_stock: Some(StockState { on_hand: 0, reserved: 0, available: 0, sold: 2 }),
            ..OrdersEvidence::default()
        }
    }

    fn violated(evidence: &OrdersEvidence) -> Vec<String> {
        evidence.checks().iter().filter(|check| check.violation().is_some()).map(|check| check.id.clone()).collect()
    }

    #[test]
    fn correct_answers_violate_no_rule() {
        assert_eq!(violated(&honest()), Vec::<String>::new());
    }

    #[test]
    fn an_oversell_is_found_in_orders_and_in_the_stock() {
        let mut planted = honest();
        planted.paid.push(Uuid::from_u128(3));
        assert_eq!(violated(&planted), ["oversell", "stock-books"]);
        assert_eq!(planted.oversold(), 1);
        let mut silent = honest();
        silent.final_stock = Some(StockState { on_hand: -1, reserved: 0, available: -1, sold: 3 });
        assert_eq!(violated(&silent), ["oversell", "stock-books"]);
    }

    #[test]
    fn a_unit_left_over_and_a_held_unit_are_found() {
        let mut planted = honest();
        planted.paid.pop();
        planted.final_stock = Some(StockState { on_hand: 1, reserved: 1, available: 0, sold: 1 });
        assert_eq!(violated(&planted), ["exactly-sold", "stock-books"]);
        planted.otherwise_refused = 1;
        assert_eq!(violated(&planted), ["stock-books"]);
    }

    #[test]
    fn one_order_for_two_buyers_is_found() {
        let mut planted = honest();
        planted.paid[1] = planted.paid[0];
        assert_eq!(violated(&planted), ["one-order-each"]);
    }

    #[test]
    fn an_unknown_order_may_be_sold_or_not() {
        let mut evidence = OrdersEvidence { unknown: 1, ..honest() };
        evidence.paid.pop();
        assert_eq!(violated(&evidence), Vec::<String>::new());
    }
}
