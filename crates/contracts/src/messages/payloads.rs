//! What messages carry. Plain data; each struct says what its writer promises.

use crate::{ClaimId, Code, CouponId, IssuedCouponId, MemberId, OrderId, PaymentId, ProductId, Sku, StoreId, Timestamp, Won};
use serde::{Deserialize, Serialize};

/// How a product's stock moves (decision 1): when the order is placed, or when it is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StockPolicy {
    /// Held with a deadline at order, taken for good at payment, given back when unpaid.
    #[default]
    ReserveOnOrder,
    /// Only checked at order; taken at payment, which fails with `out-of-stock` when it is gone.
    DeductOnPayment,
}

impl StockPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            StockPolicy::ReserveOnOrder => "reserve_on_order",
            StockPolicy::DeductOnPayment => "deduct_on_payment",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "reserve_on_order" => Some(StockPolicy::ReserveOnOrder),
            "deduct_on_payment" => Some(StockPolicy::DeductOnPayment),
            _ => None,
        }
    }
}

/// How an order is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMethod {
    /// From the member's cash balance.
    Wallet,
    /// Nothing to pay: only for a payable amount of 0.
    None,
    /// The test provider with its own book; only where the operator enabled it.
    Test,
}

impl PaymentMethod {
    pub fn as_str(self) -> &'static str {
        match self {
            PaymentMethod::Wallet => "wallet",
            PaymentMethod::None => "none",
            PaymentMethod::Test => "test",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "wallet" => Some(PaymentMethod::Wallet),
            "none" => Some(PaymentMethod::None),
            "test" => Some(PaymentMethod::Test),
            _ => None,
        }
    }
}

/// Why a saga step was refused, in words a buyer can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRefused {
    pub order_id: OrderId,
    pub code: Code,
    pub detail: String,
}

/// A saga step was done, or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDone {
    pub order_id: OrderId,
}

/// Names the order whose step is to be undone or made final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCommand {
    pub order_id: OrderId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLine {
    pub line_no: u32,
    pub sku: Sku,
    pub quantity: u32,
}

/// Reserve all lines or none. `check_only` lines (policy `deduct_on_payment`) are compared with what is available but not held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReserve {
    pub order_id: OrderId,
    pub reserve: Vec<StockLine>,
    pub check_only: Vec<StockLine>,
    /// The hold ends by itself at this instant plus a grace, should the order never come back for it.
    pub expires_at: Timestamp,
}

/// Take lines of policy `deduct_on_payment` just before the payment is asked for: all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockTake {
    pub order_id: OrderId,
    pub lines: Vec<StockLine>,
    pub expires_at: Timestamp,
}

/// One coupon an order wants to use, with what the order counts on; the coupons service checks it against its own books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponApplication {
    pub issued_coupon_id: IssuedCouponId,
    /// The amount the coupon is applied to: the line (item), the store's lines (store) or the order.
    pub base: Won,
    pub discount: Won,
    /// The stores and products of the lines it is applied to are of this store, when the coupon is a store's.
    pub store_id: Option<StoreId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponHold {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub coupons: Vec<CouponApplication>,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointsHold {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub amount: Won,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRequest {
    pub order_id: OrderId,
    pub payment_id: PaymentId,
    pub member_id: MemberId,
    pub amount: Won,
    pub method: PaymentMethod,
    /// What the provider needs from the buyer: for `test`, the behaviour to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentApproved {
    pub order_id: OrderId,
    pub payment_id: PaymentId,
    pub amount: Won,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRefused {
    pub order_id: OrderId,
    pub payment_id: PaymentId,
    pub code: Code,
    pub detail: String,
}

/// A movement of cash between a member's wallet and the mall, asked for by payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletTransfer {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub amount: Won,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletRefused {
    pub payment_id: PaymentId,
    pub code: Code,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletMoved {
    pub payment_id: PaymentId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLineSold {
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub quantity: u32,
    pub unit_price: Won,
    pub paid: Won,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPaid {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub total: Won,
    pub points_used: Won,
    pub method: PaymentMethod,
    pub lines: Vec<OrderLineSold>,
}

/// An order came to an end without a sale; `detail` tells the buyer why (G6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEnded {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub code: Option<Code>,
    pub detail: String,
}

/// The purchase is final. `cash_paid` is what earns points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderConfirmed {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub cash_paid: Won,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRegistered {
    pub member_id: MemberId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCreated {
    pub store_id: StoreId,
    /// The member who runs it; the mall's default store has none.
    pub seller_id: Option<MemberId>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuListed {
    pub sku: Sku,
    /// Units on hand at the start.
    pub stock: i64,
}

/// SKUs came into being: with the product, or added to it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkusListed {
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub policy: StockPolicy,
    pub skus: Vec<SkuListed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponIssued {
    pub coupon_id: CouponId,
    pub issued_coupon_id: IssuedCouponId,
    pub member_id: MemberId,
    pub number: i64,
    /// True when the coupon came to someone who had been waiting for it.
    pub promoted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponGone {
    pub coupon_id: CouponId,
    pub issued_coupon_id: IssuedCouponId,
    pub member_id: MemberId,
}

/// A claim that is settled later, by whichever process comes to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimAsked {
    /// The same for a repeat: however often it is written down, it is settled once.
    pub claim_id: ClaimId,
    pub coupon_id: CouponId,
    pub member_id: MemberId,
    pub key: Option<ClaimKey>,
    pub place: Option<ClaimPlace>,
}

/// The idempotency key of the claim's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimKey {
    pub key: String,
    /// What a repeat must agree in.
    pub request_hash: [u8; 32],
}

/// What the gate of all processes keeps for the claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimPlace {
    /// Of the gate that keeps it.
    pub era: String,
    pub nth: u32,
    pub held_at: Timestamp,
}
