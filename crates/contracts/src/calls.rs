//! Synchronous read-only calls between services: a typed request and its typed reply. `kit::links` delivers them in-process or over HTTP.
//! `docs/messages.md` lists them, generated from the table in this file.

use crate::{Code, CouponId, IssuedCouponId, MemberId, ProductId, Sku, StoreId, Timestamp, Won, messages::StockPolicy};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use uuid::Uuid;

/// A call to one service. The caller gets the reply or a `LinkError`.
pub trait Call: Serialize + DeserializeOwned + Send + Sync + 'static {
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// The service that answers the call.
    const SERVICE: &'static str;
    /// Unique within the service; part of the internal path.
    const NAME: &'static str;
}

macro_rules! calls {
    ($($(#[doc = $doc:literal])* $service:literal => $request:ident {
        $($(#[doc = $field_doc:literal])* $field:ident: $type:ty),*
    } -> $reply:ty = $name:literal;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Debug, Serialize, Deserialize)]
            pub struct $request { $($(#[doc = $field_doc])* pub $field: $type,)* }

            impl Call for $request {
                type Reply = $reply;
                const SERVICE: &'static str = $service;
                const NAME: &'static str = $name;
            }
        )*

        /// (name, answering service, meaning) of every call.
        pub const CALLS: &[(&str, &str, &str)] = &[$(($name, $service, concat!($($doc),*)),)*];
    };
}

calls! {
    /// True while the member has an account, active or disabled. A closed account does not count.
    "accounts" => HasAccount { member_id: MemberId } -> bool = "has_account";
    /// Sessions that ended at or after `since`, each with the instant it ended. Every service refuses the access tokens of these sessions.
    "accounts" => GetEndedSessions { since: Timestamp } -> Vec<(Uuid, Timestamp)> = "get_ended_sessions";
    /// Looks up a browser session by the hash of its cookie. Reply `None`: the cookie is unknown, expired or revoked. The lookup counts as
    /// use and may extend the session; a repeat has no further effect.
    "accounts" => GetWebSession {
        /// SHA-256 of the cookie's secret.
        hash: [u8; 32]
    } -> Option<WebSession> = "get_web_session";
    /// Current prices of these SKUs. The reply omits a SKU that is unknown, deleted or not on sale.
    "catalog" => GetPrices { skus: Vec<Sku> } -> Vec<PricedSku> = "get_prices";
    /// Units of each SKU that can be ordered now. The reply omits unknown SKUs.
    "stock" => GetAvailability { skus: Vec<Sku> } -> HashMap<Sku, i64> = "get_availability";
    /// Version of the stock, which changes with every change of availability. Cached replies to `get_availability` are current while the
    /// version read before them is unchanged.
    "stock" => GetStockVersion {} -> u64 = "get_stock_version";
    /// Terms and state of the member's coupons among these ids. The reply omits unknown ids and coupons of other members.
    "coupons" => GetIssuedCoupons { member_id: MemberId, ids: Vec<IssuedCouponId> } -> Vec<IssuedCouponTerms> = "get_issued_coupons";
    /// Number of the member's orders that are paid and not delivered, or whose payment or refund is running. Unpaid orders do not count.
    "orders" => CountOpenOrders { member_id: MemberId } -> u64 = "count_open_orders";
    /// Cash balance of the member, in won.
    "wallet" => GetCash { member_id: MemberId } -> Won = "get_cash";
    /// Looks up a store. Reply `None`: the store is unknown.
    "stores" => GetStore { store_id: StoreId } -> Option<StoreCard> = "get_store";
    /// Names of these stores, for lists. The reply omits unknown ids.
    "stores" => GetStores { store_ids: Vec<StoreId> } -> Vec<StoreCard> = "get_stores";
    /// All stores that this member runs.
    "stores" => GetStoresOfSeller { seller_id: MemberId } -> Vec<StoreCard> = "get_stores_of_seller";
}

/// The member behind a browser session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSession {
    pub member_id: MemberId,
    /// Role name as in access tokens: `customer`, `seller` or `operator`.
    pub role: String,
    /// The session behind the cookie. Its end also ends the cookie, and [`GetEndedSessions`] then lists it.
    pub session_id: Uuid,
    pub expires_at: Timestamp,
}

/// Price and sale terms of a SKU at the time of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedSku {
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    /// Product and option name, as printed on an order.
    pub name: String,
    /// Unit price in won.
    pub price: Won,
    pub policy: StockPolicy,
    /// Most units that a member may reserve without payment. `None`: the mall's default.
    #[serde(default)]
    pub max_unpaid: Option<u32>,
}

/// Discount of a coupon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Discount {
    /// A fixed amount, capped at the amount it applies to.
    Amount { won: Won },
    /// A share in basis points (1/100 of a percent), rounded down, at most `max_won`.
    Rate {
        basis_points: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_won: Option<Won>,
    },
}

impl Discount {
    /// The discount on `base`, between zero and `base`.
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

/// The part of an order that a coupon applies to. Order of application: item, then store, then order (decision 8).
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

/// Terms of an issued coupon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCouponTerms {
    pub issued_coupon_id: IssuedCouponId,
    pub coupon_id: CouponId,
    pub name: String,
    pub discount: Discount,
    pub scope: CouponScope,
    pub store_id: Option<StoreId>,
    /// Minimum amount it applies to, in won.
    pub min_order: Won,
    pub expires_at: Timestamp,
    /// Reason the coupon cannot be used now. `None`: it can be used.
    pub refusal: Option<Code>,
}

/// A store as other services show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCard {
    pub store_id: StoreId,
    pub name: String,
    /// The member who runs the store. `None`: the mall's default store.
    pub seller_id: Option<MemberId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_discount_is_between_zero_and_its_base() {
        assert_eq!(Discount::Amount { won: Won(5_000) }.on(Won(3_000)), Won(3_000));
        assert_eq!(Discount::Rate { basis_points: 1_000, max_won: None }.on(Won(999)), Won(99));
        assert_eq!(Discount::Rate { basis_points: 5_000, max_won: Some(Won(100)) }.on(Won(1_000)), Won(100));
    }

    #[test]
    fn each_call_has_its_own_path_at_a_known_service() {
        let paths: BTreeSet<(&str, &str)> = CALLS.iter().map(|(name, service, _)| (*service, *name)).collect();
        assert_eq!(paths.len(), CALLS.len());
        assert!(paths.iter().all(|(service, _)| crate::SERVICES.contains(service)), "{paths:?}");
        assert!(paths.contains(&(GetStore::SERVICE, GetStore::NAME)));
        assert_eq!(serde_json::to_string(&GetStockVersion {}).expect("plain data encodes"), "{}");
    }
}
