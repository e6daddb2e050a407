//! Identifiers. Each kind has its own type over a `UUIDv7`, so that an order id cannot be passed as a member id.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

id! {
    /// An account: shopper, seller or operator.
    MemberId,
    /// A shop of the mall.
    StoreId,
    /// A product as displayed. Members buy it through one of its SKUs.
    ProductId,
    /// A purchasable option of a product (stock keeping unit).
    Sku,
    /// A coupon definition (campaign).
    CouponId,
    /// A member's claim for a coupon, with which the member polls for the outcome.
    ClaimId,
    /// One coupon issued to one member.
    IssuedCouponId,
    /// An order. Also the id of its checkout saga and the key of all its messages.
    OrderId,
    /// One attempt to pay an order.
    PaymentId,
}

/// The mall's own store, which always exists. It sells the products that an operator creates without naming a store.
pub const MALL_STORE: StoreId = StoreId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
