//! Price of an order: lines, then item, store and order coupons, then points (decision 8). All amounts are computed here from the
//! catalogue's prices. Amounts that a client sends are only compared.

use super::{AppliedCoupon, OrderLine};
use contracts::{
    Code, IssuedCouponId, Refusal, Sku, Won,
    calls::{CouponScope, IssuedCouponTerms, PricedSku},
};
use std::collections::{HashMap, HashSet};

/// Maximum lines of an order, more than any real order has. Limits the work of one command.
pub const MAX_LINES: usize = 100;

#[derive(Clone, Debug)]
pub struct BasketItem {
    pub sku: Sku,
    pub quantity: u32,
    /// A coupon of scope `item` for this line.
    pub coupon: Option<IssuedCouponId>,
}

/// The items, coupons and points of an order to price.
#[derive(Clone, Debug, Default)]
pub struct Basket {
    pub items: Vec<BasketItem>,
    /// Coupons of scope `store` or `order`.
    pub coupons: Vec<IssuedCouponId>,
    pub points: Won,
}

/// Amount that one coupon takes off a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedDiscount {
    pub issued_coupon_id: IssuedCouponId,
    pub amount: Won,
}

#[derive(Clone, Debug)]
pub struct PricedLine {
    pub line: OrderLine,
    /// Discount of each coupon on this line. Their sum is `line.line_discount`.
    pub discounts: Vec<AppliedDiscount>,
    /// Most units that a member may reserve without payment. `None`: the mall's default.
    pub max_unpaid: Option<u32>,
}

impl PricedLine {
    fn gross(&self) -> Won {
        Won(self.line.unit_price.0 * i64::from(self.line.quantity))
    }
    /// Price of the line after discounts.
    pub fn net(&self) -> Won {
        Won(self.gross().0 - self.line.line_discount.0)
    }
    fn add_discount(&mut self, coupon: IssuedCouponId, amount: Won) {
        self.line.line_discount = Won(self.line.line_discount.0 + amount.0);
        self.discounts.push(AppliedDiscount { issued_coupon_id: coupon, amount });
    }
}

/// A priced basket.
#[derive(Clone, Debug)]
pub struct Quote {
    pub lines: Vec<PricedLine>,
    pub coupons: Vec<AppliedCoupon>,
    pub subtotal: Won,
    pub discount: Won,
    pub points: Won,
    pub shipping: Won,
    pub total: Won,
}

/// Prices a basket with `prices` from the catalogue and `terms` from the coupons service. `Err`: a rule forbids the order.
pub fn quote(basket: &Basket, prices: &[PricedSku], terms: &[IssuedCouponTerms]) -> Result<Quote, Refusal> {
    let mut lines = price_lines(basket, prices)?;
    let subtotal = Won::sum(lines.iter().map(PricedLine::gross)).map_err(|_| Refusal::from(Code::AmountOutOfRange))?;
    let coupons = apply_coupons(basket, terms, &mut lines)?;
    let discount = Won(lines.iter().map(|line| line.line.line_discount.0).sum());
    let payable = Won(subtotal.0 - discount.0);
    if basket.points.is_negative() || basket.points > payable {
        return Err(Refusal::new(Code::InvalidField, format!("At most {payable} points can be used for this order.")));
    }
    let shipping = Won::ZERO;
    let total = Won(payable.0 - basket.points.0 + shipping.0);
    Ok(Quote { lines, coupons, subtotal, discount, points: basket.points, shipping, total })
}

fn price_lines(basket: &Basket, prices: &[PricedSku]) -> Result<Vec<PricedLine>, Refusal> {
    if basket.items.is_empty() {
        return Err(Code::EmptyOrder.into());
    }
    let prices: HashMap<Sku, &PricedSku> = prices.iter().map(|priced| (priced.sku, priced)).collect();
    basket
        .items
        .iter()
        .zip(1..)
        .map(|(item, line_no)| {
            let Some(priced) = prices.get(&item.sku) else {
                return Err(Refusal::new(Code::NotOnSale, format!("{} is not on sale.", item.sku)));
            };
            priced.price.times(item.quantity).map_err(|_| Refusal::from(Code::AmountOutOfRange))?;
            let line = OrderLine {
                line_no,
                sku: item.sku,
                product_id: priced.product_id,
                store_id: priced.store_id,
                name: priced.name.clone(),
                quantity: item.quantity,
                unit_price: priced.price,
                line_discount: Won::ZERO,
                policy: priced.policy,
            };
            Ok(PricedLine { line, discounts: Vec::new(), max_unpaid: priced.max_unpaid })
        })
        .collect()
}

/// Applies item coupons, then store coupons, then the order coupon. Each applies to the amount left by the previous ones.
fn apply_coupons(basket: &Basket, terms: &[IssuedCouponTerms], lines: &mut [PricedLine]) -> Result<Vec<AppliedCoupon>, Refusal> {
    let terms: HashMap<IssuedCouponId, &IssuedCouponTerms> = terms.iter().map(|terms| (terms.issued_coupon_id, terms)).collect();
    let mut used: HashSet<IssuedCouponId> = HashSet::new();
    let mut targets: HashSet<CouponTarget> = HashSet::new();
    let mut wanted: Vec<(Option<usize>, &IssuedCouponTerms)> = Vec::new();
    let on_lines = basket.items.iter().enumerate().filter_map(|(index, item)| item.coupon.map(|coupon| (Some(index), coupon)));
    for (line, id) in on_lines.chain(basket.coupons.iter().map(|id| (None, *id))) {
        // Another member's coupon is refused like an unknown one, so that it stays hidden.
        let Some(terms) = terms.get(&id) else { return Err(Code::CouponNotUsable.into()) };
        if let Some(code) = terms.refusal {
            return Err(code.into());
        }
        if !used.insert(id) {
            return Err(Refusal::new(Code::CouponUsed, "The same coupon is named twice."));
        }
        if (terms.scope == CouponScope::Item) != line.is_some() {
            return Err(Refusal::new(Code::CouponNotApplicable, "A coupon for an item goes on its line, others on the order."));
        }
        if !targets.insert(coupon_target(terms, line)) {
            return Err(Refusal::new(Code::CouponNotApplicable, "Only one coupon of a kind can be used for the same thing."));
        }
        wanted.push((line, terms));
    }
    wanted.sort_by_key(|(line, terms)| (terms.scope, *line, terms.issued_coupon_id));
    wanted.into_iter().map(|(line, terms)| apply_coupon(terms, line, lines)).collect()
}

/// Target of a coupon. At most one coupon applies to each target.
#[derive(PartialEq, Eq, Hash)]
enum CouponTarget {
    Line(usize),
    Store(Option<contracts::StoreId>),
    Order,
}

fn coupon_target(terms: &IssuedCouponTerms, line: Option<usize>) -> CouponTarget {
    match (terms.scope, line) {
        (CouponScope::Item, Some(index)) => CouponTarget::Line(index),
        (CouponScope::Store, _) => CouponTarget::Store(terms.store_id),
        _ => CouponTarget::Order,
    }
}

fn apply_coupon(terms: &IssuedCouponTerms, line: Option<usize>, lines: &mut [PricedLine]) -> Result<AppliedCoupon, Refusal> {
    let covers = |index: usize, priced: &PricedLine| match terms.scope {
        CouponScope::Item => line == Some(index) && terms.store_id.is_none_or(|store| store == priced.line.store_id),
        CouponScope::Store => terms.store_id == Some(priced.line.store_id),
        CouponScope::Order => true,
    };
    let mut covered: Vec<&mut PricedLine> =
        lines.iter_mut().enumerate().filter(|(index, priced)| covers(*index, priced)).map(|(_, priced)| priced).collect();
    if covered.is_empty() {
        return Err(Refusal::new(Code::CouponNotApplicable, format!("“{}” does not apply to anything in this order.", terms.name)));
    }
    let base = Won(covered.iter().map(|priced| priced.net().0).sum());
    if base < terms.min_order {
        let detail = format!("“{}” needs at least {} won; it would apply to {base} won.", terms.name, terms.min_order);
        return Err(Refusal::new(Code::CouponNotApplicable, detail));
    }
    let discount = terms.discount.on(base);
    if discount == Won::ZERO {
        // It would be used up for nothing.
        return Err(Refusal::new(Code::CouponNotApplicable, format!("“{}” takes nothing off this order.", terms.name)));
    }
    let nets: Vec<Won> = covered.iter().map(|priced| priced.net()).collect();
    for (priced, share) in covered.iter_mut().zip(split_proportionally(discount, &nets)) {
        priced.add_discount(terms.issued_coupon_id, share);
    }
    Ok(AppliedCoupon {
        issued_coupon_id: terms.issued_coupon_id,
        name: terms.name.clone(),
        scope: terms.scope,
        store_id: terms.store_id,
        base,
        discount,
    })
}

/// Splits the points of an order over its lines in proportion to their prices after discounts. The shares sum up to the points.
pub fn points_per_line(points: Won, lines: &[OrderLine]) -> Vec<Won> {
    let nets: Vec<Won> = lines.iter().map(|line| Won(line.unit_price.0 * i64::from(line.quantity) - line.line_discount.0)).collect();
    split_proportionally(points, &nets)
}

/// Splits an amount over parts in proportion, by largest remainder. The shares sum up exactly, and none exceeds its part.
fn split_proportionally(amount: Won, parts: &[Won]) -> Vec<Won> {
    let whole: i128 = parts.iter().map(|part| i128::from(part.0)).sum();
    if whole == 0 {
        return vec![Won::ZERO; parts.len()];
    }
    let exact = |part: &Won| i128::from(amount.0) * i128::from(part.0);
    let mut shares: Vec<i64> = parts.iter().map(|part| i64::try_from(exact(part) / whole).unwrap_or(0)).collect();
    let mut left = amount.0 - shares.iter().sum::<i64>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(exact(&parts[*index]) % whole));
    for index in order {
        if left == 0 {
            break;
        }
        shares[index] += 1;
        left -= 1;
    }
    shares.into_iter().map(Won).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{ProductId, StoreId, Timestamp, calls::Discount, messages::StockPolicy};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn priced(n: u128, store: u128, price: i64) -> PricedSku {
        PricedSku {
            sku: Sku(Uuid::from_u128(n)),
            product_id: ProductId(Uuid::from_u128(n)),
            store_id: StoreId(Uuid::from_u128(store)),
            name: format!("thing {n}"),
            price: Won(price),
            policy: StockPolicy::ReserveOnOrder,
            max_unpaid: None,
        }
    }

    fn terms(n: u128, scope: CouponScope, discount: Discount) -> IssuedCouponTerms {
        IssuedCouponTerms {
            issued_coupon_id: IssuedCouponId(Uuid::from_u128(n)),
            coupon_id: contracts::CouponId(Uuid::from_u128(n)),
            name: format!("coupon {n}"),
            discount,
            scope,
            store_id: None,
            min_order: Won::ZERO,
            expires_at: Timestamp::MAX,
            refusal: None,
        }
    }

    fn item(n: u128, quantity: u32, coupon: Option<u128>) -> BasketItem {
        BasketItem { sku: Sku(Uuid::from_u128(n)), quantity, coupon: coupon.map(|id| IssuedCouponId(Uuid::from_u128(id))) }
    }

    fn id(n: u128) -> IssuedCouponId {
        IssuedCouponId(Uuid::from_u128(n))
    }

    // C21: item, store and order coupons apply in that order, each to the remaining amount.
    #[test]
    fn coupons_apply_from_item_to_order() {
        let basket = Basket { items: vec![item(1, 2, Some(10)), item(2, 1, None)], coupons: vec![id(30), id(20)], points: Won(500) };
        let prices = [priced(1, 1, 5_000), priced(2, 2, 10_000)];
        let store = IssuedCouponTerms {
            store_id: Some(StoreId(Uuid::from_u128(2))),
            ..terms(20, CouponScope::Store, Discount::Amount { won: Won(1_000) })
        };
        let coupons = [
            terms(10, CouponScope::Item, Discount::Rate { basis_points: 1_000, max_won: None }),
            store,
            terms(30, CouponScope::Order, Discount::Rate { basis_points: 1_000, max_won: None }),
        ];
        let quote = quote(&basket, &prices, &coupons).expect("all of it applies");
        // 10,000 - 10 % = 9,000; 10,000 - 1,000 = 9,000; 18,000 - 10 % = 16,200; - 500 points.
        assert_eq!((quote.subtotal, quote.discount, quote.total), (Won(20_000), Won(3_800), Won(15_700)));
    }

    // Row 46: a discount larger than the order ends at 0.
    #[test]
    fn a_large_discount_ends_at_zero() {
        let basket = Basket { items: vec![item(1, 1, None)], coupons: vec![id(1)], points: Won::ZERO };
        let coupon = terms(1, CouponScope::Order, Discount::Amount { won: Won(1_000_000) });
        let quote = quote(&basket, &[priced(1, 1, 5_000)], &[coupon]).expect("it applies");
        assert_eq!((quote.discount, quote.total), (Won(5_000), Won::ZERO));
    }

    #[test]
    fn a_second_coupon_of_a_target_and_a_repeat_are_refused() {
        let order = |n| terms(n, CouponScope::Order, Discount::Amount { won: Won(1) });
        let basket = |coupons: Vec<IssuedCouponId>| Basket { items: vec![item(1, 1, None)], coupons, points: Won::ZERO };
        let prices = [priced(1, 1, 5_000)];
        let repeated = quote(&basket(vec![id(1), id(1)]), &prices, &[order(1)]).expect_err("named twice");
        assert_eq!(repeated.code, Code::CouponUsed);
        let two = quote(&basket(vec![id(1), id(2)]), &prices, &[order(1), order(2)]).expect_err("two for the order");
        assert_eq!(two.code, Code::CouponNotApplicable);
        let unknown = quote(&basket(vec![id(9)]), &prices, &[]).expect_err("unknown");
        assert_eq!(unknown.code, Code::CouponNotUsable);
    }

    // C15: an order of exactly the minimum qualifies.
    #[test]
    fn an_order_of_the_minimum_amount_may_use_the_coupon() {
        let coupon = |min| IssuedCouponTerms { min_order: Won(min), ..terms(1, CouponScope::Order, Discount::Amount { won: Won(100) }) };
        let basket = Basket { items: vec![item(1, 1, None)], coupons: vec![id(1)], points: Won::ZERO };
        assert!(quote(&basket, &[priced(1, 1, 5_000)], &[coupon(5_000)]).is_ok());
        let refused = quote(&basket, &[priced(1, 1, 5_000)], &[coupon(5_001)]).expect_err("one won short");
        assert_eq!(refused.code, Code::CouponNotApplicable);
    }

    // R5
    #[test]
    fn a_coupon_that_takes_nothing_off_is_refused() {
        let refused = |price: i64, on_line: Option<IssuedCouponTerms>, on_order: Option<IssuedCouponTerms>| {
            let coupons = on_order.iter().map(|terms| terms.issued_coupon_id).collect();
            let basket = Basket { items: vec![item(1, 1, on_line.as_ref().map(|_| 10))], coupons, points: Won::ZERO };
            let terms: Vec<IssuedCouponTerms> = on_line.into_iter().chain(on_order).collect();
            quote(&basket, &[priced(1, 1, price)], &terms).err().map(|refusal| refusal.code)
        };
        let amount = |n, scope| Some(terms(n, scope, Discount::Amount { won: Won(1_000) }));
        let rate = terms(20, CouponScope::Order, Discount::Rate { basis_points: 1, max_won: None });
        assert_eq!(refused(0, None, amount(20, CouponScope::Order)), Some(Code::CouponNotApplicable));
        assert_eq!(refused(0, amount(10, CouponScope::Item), None), Some(Code::CouponNotApplicable));
        assert_eq!(refused(5_000, None, Some(rate.clone())), Some(Code::CouponNotApplicable));
        assert_eq!(refused(1_000, amount(10, CouponScope::Item), amount(20, CouponScope::Order)), Some(Code::CouponNotApplicable));
        assert_eq!(refused(10_000, None, Some(rate)), None);
    }

    #[test]
    fn amounts_beyond_64_bits_are_refused() {
        let basket = Basket { items: vec![item(1, u32::MAX, None)], coupons: vec![], points: Won::ZERO };
        let refused = quote(&basket, &[priced(1, 1, i64::MAX / 2)], &[]).expect_err("too much");
        assert_eq!(refused.code, Code::AmountOutOfRange);
    }

    proptest! {
        // I-O1, I-C9: for all numbers, the parts sum up to the total and none is negative.
        #[test]
        fn the_parts_always_sum_up_to_the_total(
            prices in prop::collection::vec(0i64..10_000_000, 1..8),
            quantities in prop::collection::vec(1u32..1_000, 8),
            rate in 1u32..=10_000,
            amount in 0i64..50_000_000,
        ) {
            let skus: Vec<PricedSku> = prices.iter().enumerate().map(|(n, price)| priced(n as u128, (n % 2) as u128, *price)).collect();
            let items = (0..prices.len()).map(|n| item(n as u128, quantities[n], (n == 0).then_some(100))).collect();
            let basket = Basket { items, coupons: vec![id(101)], points: Won::ZERO };
            let coupons = [
                terms(100, CouponScope::Item, Discount::Amount { won: Won(amount) }),
                terms(101, CouponScope::Order, Discount::Rate { basis_points: rate, max_won: None }),
            ];
            let quote = match quote(&basket, &skus, &coupons) {
                // R5: a coupon that takes nothing off.
                Err(refusal) => {
                    prop_assert_eq!(refusal.code, Code::CouponNotApplicable);
                    return Ok(());
                }
                Ok(quote) => quote,
            };
            let lines: i64 = quote.lines.iter().map(|line| line.line.line_discount.0).sum();
            prop_assert_eq!(lines, quote.discount.0);
            prop_assert_eq!(quote.coupons.iter().map(|coupon| coupon.discount.0).sum::<i64>(), quote.discount.0);
            prop_assert_eq!(quote.total.0, quote.subtotal.0 - quote.discount.0);
            prop_assert!(quote.lines.iter().all(|line| line.line.line_discount.0 >= 0 && line.net().0 >= 0));
        }
    }
}
