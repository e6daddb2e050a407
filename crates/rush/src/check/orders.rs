//! The rules of limited stock, held against what its buyers were told.

use super::{Check, numbers::some_of};
use std::collections::HashSet;
use uuid::Uuid;

/// What the buyers of one SKU saw.
#[derive(Clone, Debug, Default)]
pub struct OrdersEvidence {
    pub stock: u64,
    pub buyers: u64,
    /// Paid orders, one unit each.
    pub paid: Vec<Uuid>,
    pub out_of_stock: u64,
    /// Refused for other reasons: funds, coupons and the like.
    pub otherwise_refused: u64,
    /// Orders whose outcome is not known.
    pub unknown: u64,
    /// Whether the stock's state below was read when no order was open any more, and what it was.
    pub at_the_end: Option<StockState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockState {
    pub on_hand: i64,
    pub reserved: i64,
    pub available: i64,
    pub sold: i64,
}

impl OrdersEvidence {
    /// Units sold that were not there.
    pub fn oversold(&self) -> u64 {
        let counted = self.at_the_end.map_or(0, |state| u64::try_from(state.sold).unwrap_or(0));
        (self.paid.len() as u64).max(counted).saturating_sub(self.stock)
    }

    pub fn checks(&self) -> Vec<Check> {
        vec![self.oversell(), self.exactly_sold(), self.distinct(), self.books()]
    }

    fn oversell(&self) -> Check {
        let over = self.oversold();
        let blame = (over > 0).then(|| format!("{over} sold that were not there"));
        Check::of("oversell", "never more paid orders than units", blame, format!("{} paid, {} in stock", self.paid.len(), self.stock))
    }

    fn exactly_sold(&self) -> Check {
        const ID: &str = "exactly-sold";
        const RULE: &str = "no unit is left over while a buyer was told there is none";
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
        let blame = (!twice.is_empty()).then(|| format!("one order answered to two buyers: {}", some_of(&twice)));
        Check::of("one-order-each", "every paid buyer has an order of its own", blame, format!("{} orders", self.paid.len()))
    }

    fn books(&self) -> Check {
        const ID: &str = "stock-books";
        const RULE: &str = "afterwards nothing is held, and units sold and left add up to what was there";
        let Some(StockState { on_hand, reserved, available, sold }) = self.at_the_end else {
            return Check::skipped(ID, RULE, "the stock could not be read");
        };
        let (paid, unknown) = (self.paid.len() as i64, self.unknown as i64);
        let mut blames = Vec::new();
        if reserved != 0 {
            blames.push(format!("{reserved} still held"));
        }
        if sold + on_hand != self.stock as i64 {
            blames.push(format!("{sold} sold and {on_hand} left of {}", self.stock));
        }
        if !(paid..=paid + unknown).contains(&sold) {
            blames.push(format!("{sold} sold, buyers paid for {paid}"));
        }
        if available != on_hand - reserved || available < 0 {
            blames.push(format!("{available} available with {on_hand} on hand and {reserved} held"));
        }
        let evidence = format!("{sold} sold, {on_hand} left, {reserved} held");
        Check::of(ID, RULE, (!blames.is_empty()).then(|| blames.join("; ")), evidence)
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
            at_the_end: Some(StockState { on_hand: 0, reserved: 0, available: 0, sold: 2 }),
            ..OrdersEvidence::default()
        }
    }

    fn violated(evidence: &OrdersEvidence) -> Vec<String> {
        evidence.checks().iter().filter(|check| check.violation().is_some()).map(|check| check.id.clone()).collect()
    }

    #[test]
    fn an_honest_server_is_clean() {
        assert_eq!(violated(&honest()), Vec::<String>::new());
    }

    #[test]
    fn finds_a_planted_oversell_even_when_the_books_hide_it() {
        let mut planted = honest();
        planted.paid.push(Uuid::from_u128(3));
        assert_eq!(violated(&planted), ["oversell", "stock-books"]);
        assert_eq!(planted.oversold(), 1);
        let mut silent = honest();
        silent.at_the_end = Some(StockState { on_hand: -1, reserved: 0, available: -1, sold: 3 });
        assert_eq!(violated(&silent), ["oversell", "stock-books"]);
    }

    #[test]
    fn finds_a_unit_left_over_and_one_still_held() {
        let mut planted = honest();
        planted.paid.pop();
        planted.at_the_end = Some(StockState { on_hand: 1, reserved: 1, available: 0, sold: 1 });
        assert_eq!(violated(&planted), ["exactly-sold", "stock-books"]);
        planted.otherwise_refused = 1;
        assert_eq!(violated(&planted), ["stock-books"]);
    }

    #[test]
    fn finds_one_order_given_to_two_buyers() {
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
