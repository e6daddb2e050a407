//! Payloads of messages. Plain data; each struct states the promise of its writer.

use crate::{ClaimId, Code, CouponId, IssuedCouponId, MemberId, OrderId, PaymentId, ProductId, Sku, StoreId, Timestamp, Won};
use serde::{Deserialize, Serialize};

/// The moment at which an order reduces the stock (decision 1): at the order, or at the payment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StockPolicy {
    /// Reserved at the order until a deadline. Deducted at the payment, returned if unpaid.
    #[default]
    ReserveOnOrder,
    /// Only checked at the order. Deducted at the payment, which fails with `out-of-stock` if too few units are left.
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

/// Payment method of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMethod {
    /// The member's cash balance.
    Wallet,
    /// No payment. Only for a payable amount of 0.
    None,
    /// The test provider with its own ledger. Only where the operator enabled it.
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

/// Reason for a refused saga step, in words for the buyer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRefused {
    pub order_id: OrderId,
    pub code: Code,
    pub detail: String,
}

/// A saga step is done or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDone {
    pub order_id: OrderId,
}

/// The order whose step is to be undone or made final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCommand {
    pub order_id: OrderId,
}

/// Units of one SKU, as ordered by one line of the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLine {
    pub line_no: u32,
    pub sku: Sku,
    pub quantity: u32,
}

/// Reserves all lines or none. Stock compares the `check_only` lines (policy `deduct_on_payment`) with the available units and does not
/// hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReserve {
    pub order_id: OrderId,
    pub reserve: Vec<StockLine>,
    pub check_only: Vec<StockLine>,
    /// Stock releases the reservation at this instant plus a grace period, in case the order never releases it.
    pub expires_at: Timestamp,
}

/// Takes lines of policy `deduct_on_payment` just before the payment: all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockTake {
    pub order_id: OrderId,
    pub lines: Vec<StockLine>,
    pub expires_at: Timestamp,
}

/// A coupon that an order uses, with the terms the order assumed. Coupons checks them against its own data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponApplication {
    pub issued_coupon_id: IssuedCouponId,
    /// Amount the coupon applies to, in won: the line (scope item), the store's lines (scope store) or the order.
    pub base: Won,
    pub discount: Won,
    /// The store of all lines it applies to. `None`: the coupon is not limited to a store.
    pub store_id: Option<StoreId>,
}

/// Holds all coupons of an order or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponHold {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub coupons: Vec<CouponApplication>,
    pub expires_at: Timestamp,
}

/// Holds points of a member for an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointsHold {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub amount: Won,
    pub expires_at: Timestamp,
}

/// One attempt to pay an order. A repeat has the same `payment_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRequest {
    pub order_id: OrderId,
    pub payment_id: PaymentId,
    pub member_id: MemberId,
    pub amount: Won,
    pub method: PaymentMethod,
    /// Token from the buyer for the provider. For `test`: the behaviour to simulate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The amount of this attempt is captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentApproved {
    pub order_id: OrderId,
    pub payment_id: PaymentId,
    pub amount: Won,
}

/// This attempt is refused. `detail` tells the buyer why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRefused {
    pub order_id: OrderId,
    pub payment_id: PaymentId,
    pub code: Code,
    pub detail: String,
}

/// A transfer of cash between a member's wallet and the mall, requested by payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletTransfer {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub amount: Won,
}

/// The wallet refused a transfer. `detail` tells the buyer why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletRefused {
    pub payment_id: PaymentId,
    pub code: Code,
    pub detail: String,
}

/// A transfer is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletMoved {
    pub payment_id: PaymentId,
}

/// One line of a paid order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLineSold {
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub quantity: u32,
    pub unit_price: Won,
    /// Price of the whole line less its line discount, in won.
    pub paid: Won,
}

/// An order is paid in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPaid {
    pub order_id: OrderId,
    pub member_id: MemberId,
    /// Amount paid, in won, without the points.
    pub total: Won,
    pub points_used: Won,
    pub method: PaymentMethod,
    pub lines: Vec<OrderLineSold>,
}

/// An order ended without a sale. `detail` tells the buyer why (G6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEnded {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub code: Option<Code>,
    pub detail: String,
}

/// The purchase is final. Points are earned on `cash_paid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderConfirmed {
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub cash_paid: Won,
}

/// A member signed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRegistered {
    pub member_id: MemberId,
}

/// A member closed its account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberClosed {
    pub member_id: MemberId,
}

/// A store opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCreated {
    pub store_id: StoreId,
    /// The member who runs the store. `None`: the mall's default store.
    pub seller_id: Option<MemberId>,
    pub name: String,
}

/// A new SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuListed {
    pub sku: Sku,
    /// Units on hand at the start.
    pub stock: i64,
}

/// SKUs were created, with their product or later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkusListed {
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub policy: StockPolicy,
    pub skus: Vec<SkuListed>,
}

/// A coupon was issued to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponIssued {
    pub coupon_id: CouponId,
    pub issued_coupon_id: IssuedCouponId,
    pub member_id: MemberId,
    /// Position among the issued coupons of this definition, from 1.
    pub number: i64,
    /// True: the coupon was issued from the waitlist.
    pub promoted: bool,
}

/// An issued coupon was returned or has expired unused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponGone {
    pub coupon_id: CouponId,
    pub issued_coupon_id: IssuedCouponId,
    pub member_id: MemberId,
}

/// A claim to be settled later, by any process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequested {
    /// Equal in repeats. A claim is settled once, even if the log has it several times.
    pub claim_id: ClaimId,
    pub coupon_id: CouponId,
    pub member_id: MemberId,
    /// `None`: the request had no idempotency key.
    pub key: Option<ClaimKey>,
    /// `None`: the claim was accepted without a slot in the shared gate.
    pub place: Option<ClaimSlot>,
}

/// The idempotency key of the claim request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimKey {
    pub key: String,
    /// SHA-256 of the request. A repeat must have the same hash.
    pub request_hash: [u8; 32],
}

/// The slot that the shared gate in Redis reserved for the claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSlot {
    /// Era of the gate that reserved the slot. A gate that lost its data starts a new era.
    pub era: String,
    pub nth: u32,
    pub held_at: Timestamp,
}
