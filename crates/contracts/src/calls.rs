//! Synchronous questions between services: typed request, typed answer. They only read. Delivered in-process or over HTTP by `kit::links`.

use crate::{Code, CouponId, IssuedCouponId, MemberId, ProductId, Sku, StoreId, Timestamp, Won, messages::StockPolicy};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use uuid::Uuid;

/// A question to one service.
pub trait Call: Serialize + DeserializeOwned + Send + Sync + 'static {
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// The service that answers.
    const SERVICE: &'static str;
    const NAME: &'static str;
}

/// Sessions that were ended at or after this instant, with the time of their end: their access tokens are to be refused.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetEndedSessions {
    pub since: Timestamp,
}

impl Call for GetEndedSessions {
    type Reply = Vec<(Uuid, Timestamp)>;
    const SERVICE: &'static str = "accounts";
    const NAME: &'static str = "get_ended_sessions";
}

/// Whom a browser's cookie stands for; `None` for one that is unknown, has expired or was ended. To be asked for is to be used, which may
/// move the session's end; asking twice does nothing more.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetWebSession {
    /// SHA-256 of the cookie's secret.
    pub hash: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSession {
    pub member_id: MemberId,
    /// As access tokens say it.
    pub role: String,
    /// What ends it when it is ended, and is named by [`GetEndedSessions`] then.
    pub session_id: Uuid,
    pub expires_at: Timestamp,
}

impl Call for GetWebSession {
    type Reply = Option<WebSession>;
    const SERVICE: &'static str = "accounts";
    const NAME: &'static str = "get_web_session";
}

/// What these SKUs cost now and whether they can be bought. A SKU that is unknown, deleted or not on sale is missing from the reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetPrices {
    pub skus: Vec<Sku>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedSku {
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    /// Product and option, as printed on an order.
    pub name: String,
    pub price: Won,
    pub policy: StockPolicy,
}

impl Call for GetPrices {
    type Reply = Vec<PricedSku>;
    const SERVICE: &'static str = "catalog";
    const NAME: &'static str = "get_prices";
}

/// How many units of these SKUs could be ordered now. Unknown SKUs are missing from the reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetAvailability {
    pub skus: Vec<Sku>,
}

impl Call for GetAvailability {
    type Reply = HashMap<Sku, i64>;
    const SERVICE: &'static str = "stock";
    const NAME: &'static str = "get_availability";
}

/// A number that is another one after any availability changed. What was made from answers to [`GetAvailability`] holds as long as the
/// number that was read before them stays.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetStockVersion {}

impl Call for GetStockVersion {
    type Reply = u64;
    const SERVICE: &'static str = "stock";
    const NAME: &'static str = "get_stock_version";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Discount {
    /// A fixed amount, never more than it is applied to.
    Amount { won: Won },
    /// A share in basis points (1/100 of a percent), rounded down, at most `max_won`.
    Rate {
        basis_points: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_won: Option<Won>,
    },
}

impl Discount {
    /// The discount on `base`: never negative, never above `base`.
    pub fn on(self, base: Won) -> Won {
        let raw = match self {
            Discount::Amount { won } => won,
            Discount::Rate { basis_points, max_won } => {
                let share = base.basis_points(basis_points);
                max_won.map_or(share, |max| share.min(max))
            }
        };
        raw.min(base).max(Won::ZERO)
    }
}

/// What a coupon is applied to. Order of application: item, then store, then order (decision 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CouponScope {
    Item,
    Store,
    Order,
}

impl CouponScope {
    pub fn as_str(self) -> &'static str {
        match self {
            CouponScope::Item => "item",
            CouponScope::Store => "store",
            CouponScope::Order => "order",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "item" => Some(CouponScope::Item),
            "store" => Some(CouponScope::Store),
            "order" => Some(CouponScope::Order),
            _ => None,
        }
    }
}

/// The member's coupons among these ids, as they stand. Foreign and unknown ids are missing from the reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetIssuedCoupons {
    pub member_id: MemberId,
    pub ids: Vec<IssuedCouponId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCouponTerms {
    pub issued_coupon_id: IssuedCouponId,
    pub coupon_id: CouponId,
    pub name: String,
    pub discount: Discount,
    pub scope: CouponScope,
    pub store_id: Option<StoreId>,
    pub min_order: Won,
    pub expires_at: Timestamp,
    /// Why it could not be used now, if so.
    pub refusal: Option<Code>,
}

impl Call for GetIssuedCoupons {
    type Reply = Vec<IssuedCouponTerms>;
    const SERVICE: &'static str = "coupons";
    const NAME: &'static str = "get_issued_coupons";
}

/// Who runs a store. `None` for an unknown store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetStore {
    pub store_id: StoreId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCard {
    pub store_id: StoreId,
    pub name: String,
    pub seller_id: Option<MemberId>,
}

impl Call for GetStore {
    type Reply = Option<StoreCard>;
    const SERVICE: &'static str = "stores";
    const NAME: &'static str = "get_store";
}

/// Names of these stores, for lists. Unknown ids are missing from the reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetStores {
    pub store_ids: Vec<StoreId>,
}

impl Call for GetStores {
    type Reply = Vec<StoreCard>;
    const SERVICE: &'static str = "stores";
    const NAME: &'static str = "get_stores";
}

/// Every store a seller runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetStoresOfSeller {
    pub seller_id: MemberId,
}

impl Call for GetStoresOfSeller {
    type Reply = Vec<StoreCard>;
    const SERVICE: &'static str = "stores";
    const NAME: &'static str = "get_stores_of_seller";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discount_is_between_zero_and_its_base() {
        assert_eq!(Discount::Amount { won: Won(5_000) }.on(Won(3_000)), Won(3_000));
        assert_eq!(Discount::Rate { basis_points: 1_000, max_won: None }.on(Won(999)), Won(99));
        assert_eq!(Discount::Rate { basis_points: 5_000, max_won: Some(Won(100)) }.on(Won(1_000)), Won(100));
    }
}
