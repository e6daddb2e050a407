//! `orders.quote`: prices an order line by line without holding anything. Any signed-in account.
//!
//! Quotes and orders are priced by the same code (O2).

use crate::{
    Orders,
    model::{self, Basket, BasketItem, Cart, MAX_LINES, Quote},
    store,
    view::CouponView,
};
use axum::{Json, extract::State};
use contracts::{
    Code, IssuedCouponId, MemberId, ProductId, Sku, StoreId, Won,
    calls::{GetAvailability, GetIssuedCoupons, GetPrices},
    messages::PaymentMethod,
};
use garde::Validate;
use kit::{
    extract::SignedIn,
    http::{Input, Problem, ProblemBody, rules},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::HashMap, sync::Arc};
use utoipa::ToSchema;

/// Items, coupons, points and payment of an order.
#[derive(Clone, Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// At most 100 lines. With `from_cart`: only these lines of the cart, with at most its quantities. Absent: the whole cart.
    #[serde(default)]
    #[garde(custom(rules::items(MAX_LINES)), dive)]
    #[schema(max_items = 100)]
    pub items: Vec<ItemRequest>,
    /// Orders items of the cart. When the order is paid, its quantities leave the cart, also where the buyer has put the item in anew.
    #[serde(default)]
    #[garde(skip)]
    pub from_cart: bool,
    /// The cart's `version` that the buyer saw. The order is refused when the cart was changed or ordered since. When absent, the current
    /// cart is ordered.
    #[garde(skip)]
    pub cart_version: Option<i64>,
    /// Coupons of scope `store` or `order`.
    #[serde(default)]
    #[garde(custom(rules::items(MAX_LINES)))]
    pub coupons: Vec<IssuedCouponId>,
    /// Points to use, one won each.
    #[serde(default)]
    #[garde(custom(not_negative))]
    pub points: Won,
    /// The total that the buyer saw. The order is refused when the computed total differs (P13).
    #[garde(skip)]
    pub expected_total: Option<Won>,
    /// Pays in the same call.
    #[garde(dive)]
    pub payment: Option<PaymentChoice>,
}

#[derive(Clone, Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemRequest {
    #[garde(skip)]
    pub sku: Sku,
    #[garde(range(min = 1, max = 1_000))]
    #[schema(minimum = 1, maximum = 1000)]
    pub quantity: u32,
    /// A coupon of scope `item` for this line.
    #[garde(skip)]
    pub issued_coupon_id: Option<IssuedCouponId>,
}

#[derive(Clone, Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentChoice {
    #[garde(skip)]
    pub method: PaymentMethod,
    /// Token from the buyer for the payment provider.
    #[serde(default)]
    #[garde(inner(custom(rules::text(200))))]
    pub token: Option<String>,
    /// Amount that the buyer agreed to pay. It must be the order's total (5002).
    #[garde(skip)]
    pub amount: Option<Won>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the validator passes references")]
fn not_negative(amount: &Won, _: &()) -> garde::Result {
    if amount.is_negative() { Err(garde::Error::new("must not be negative")) } else { Ok(()) }
}

/// A priced order that was not placed.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuoteView {
    pub lines: Vec<QuotedLine>,
    pub coupons: Vec<CouponView>,
    pub subtotal: Won,
    pub discount: Won,
    pub points_used: Won,
    pub shipping: Won,
    pub total: Won,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct QuotedLine {
    pub line_no: u32,
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub name: String,
    pub quantity: u32,
    pub unit_price: Won,
    /// Discount of each coupon on this line.
    pub discounts: Vec<QuotedDiscount>,
    /// Price of the line after discounts.
    pub total: Won,
    /// False: fewer units can be ordered now, over all lines of the SKU. Only a hint: a quote holds nothing. Null: not known now.
    pub in_stock: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct QuotedDiscount {
    pub issued_coupon_id: IssuedCouponId,
    pub amount: Won,
}

/// Prices an order line by line without holding anything
///
/// Any signed-in account. A quote does not refuse what is sold out; `in_stock` is a hint.
#[utoipa::path(post, path = "/v1/quotes", operation_id = "orders.quote", tag = "orders", request_body = OrderRequest,
    responses((status = 200, body = QuoteView), (status = 409, description = "`not-on-sale`, `coupon-used`, `coupon-expired`", body = ProblemBody),
              (status = 422, description = "`empty-order`, `coupon-not-usable`, `coupon-not-applicable`", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn quote(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    input: Input<OrderRequest>,
) -> Result<Json<QuoteView>, Problem> {
    let PricedOrder { quote, .. } = price(&orders, caller.member_id, &input.value).await?;
    let skus = quote.lines.iter().map(|priced| priced.line.sku).collect();
    let available = orders.kit.links.call_or(GetAvailability { skus }, HashMap::new()).await;
    Ok(Json(quote_view(&quote, &available)))
}

pub struct PricedOrder {
    pub quote: Quote,
    /// Version of the cart that the items come from. `None`: the items come from the request.
    pub cart_version: Option<i64>,
}

/// Prices an order with the catalogue's prices and the coupons' terms.
pub async fn price(orders: &Orders, member_id: MemberId, request: &OrderRequest) -> Result<PricedOrder, Problem> {
    let (items, cart_version) = items(orders, member_id, request).await?;
    let basket = Basket { items, coupons: request.coupons.clone(), points: request.points };
    let prices = orders.kit.links.call(GetPrices { skus: basket.items.iter().map(|item| item.sku).collect() }).await?;
    let ids: Vec<IssuedCouponId> = basket.items.iter().filter_map(|item| item.coupon).chain(basket.coupons.iter().copied()).collect();
    let terms = if ids.is_empty() { Vec::new() } else { orders.kit.links.call(GetIssuedCoupons { member_id, ids }).await? };
    let quote = model::quote(&basket, &prices, &terms)?;
    match request.expected_total {
        Some(expected) if expected != quote.total => {
            let detail = format!("The total is {} won now, not {expected}.", quote.total);
            Err(Problem::new(Code::PriceChanged, detail).with("total", json!(quote.total)))
        }
        _ => Ok(PricedOrder { quote, cart_version }),
    }
}

/// The items of the request, or the items of the cart with its version.
async fn items(orders: &Orders, member_id: MemberId, request: &OrderRequest) -> Result<(Vec<BasketItem>, Option<i64>), Problem> {
    let named = request.items.iter();
    let named = named.map(|item| BasketItem { sku: item.sku, quantity: item.quantity, coupon: item.issued_coupon_id }).collect();
    if !request.from_cart {
        return match request.cart_version {
            Some(_) => Err(Problem::field("/cart_version", Code::InvalidField, "is only for orders from the cart")),
            None => Ok((named, None)),
        };
    }
    let mut reader = orders.kit.db.reader().await?;
    let cart = store::cart::cart(&mut reader, member_id).await?.unwrap_or_default();
    if request.cart_version.is_some_and(|seen| seen != cart.version) {
        return Err(Code::CartChanged.into());
    }
    if !request.items.is_empty() {
        check_in_cart(&named, &cart)?;
        return Ok((named, Some(cart.version)));
    }
    let items = cart.items.into_iter().map(|(sku, quantity)| BasketItem { sku, quantity, coupon: None });
    Ok((items.collect(), Some(cart.version)))
}

/// Checks that the cart has the named quantities. Several lines of a SKU count together.
fn check_in_cart(named: &[BasketItem], cart: &Cart) -> Result<(), Problem> {
    let mut left = cart.items.clone();
    for (index, item) in named.iter().enumerate() {
        let quantity = left.get_mut(&item.sku).ok_or_else(|| not_in_cart(index, "sku", "is not in the cart"))?;
        *quantity = quantity.checked_sub(item.quantity).ok_or_else(|| not_in_cart(index, "quantity", "is more than the cart has"))?;
    }
    Ok(())
}

fn not_in_cart(index: usize, field: &str, message: &'static str) -> Problem {
    Problem::field(format!("/items/{index}/{field}"), Code::InvalidField, message)
}

fn quote_view(quote: &Quote, available: &HashMap<Sku, i64>) -> QuoteView {
    let mut wanted: HashMap<Sku, i64> = HashMap::new();
    for priced in &quote.lines {
        *wanted.entry(priced.line.sku).or_default() += i64::from(priced.line.quantity);
    }
    let lines = quote
        .lines
        .iter()
        .map(|priced| QuotedLine {
            line_no: priced.line.line_no,
            sku: priced.line.sku,
            product_id: priced.line.product_id,
            store_id: priced.line.store_id,
            name: priced.line.name.clone(),
            quantity: priced.line.quantity,
            unit_price: priced.line.unit_price,
            discounts: priced
                .discounts
                .iter()
                .map(|discount| QuotedDiscount { issued_coupon_id: discount.issued_coupon_id, amount: discount.amount })
                .collect(),
            total: priced.net(),
            in_stock: available.get(&priced.line.sku).map(|units| *units >= wanted[&priced.line.sku]),
        })
        .collect();
    QuoteView {
        lines,
        coupons: quote.coupons.iter().map(Into::into).collect(),
        subtotal: quote.subtotal,
        discount: quote.discount,
        points_used: quote.points,
        shipping: quote.shipping,
        total: quote.total,
    }
}
