//! What services tell each other. Each message is written by one service in its own transaction and read by others from its stream.
//!
//! Within a key (the order id for everything of a checkout) readers see messages in the order they were written; across keys, any order.
//! Commands of the checkout saga (`stock.reserve`, `coupon.hold` …) travel in the orders service's stream, the answers in the participants'.
//! Every handler is safe to repeat. `docs/messages.md` is generated from the table at the end of this file.

use crate::{Code, CouponId, IssuedCouponId, MemberId, OrderId, PaymentId, ProductId, Sku, StoreId, Timestamp, Won};
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

/// A message could not be read back: its type is unknown here, or its data does not fit.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("unknown message type {0}")]
    UnknownType(String),
    #[error("data does not fit its type: {0}")]
    Data(#[from] serde_json::Error),
}

macro_rules! messages {
    ($($(#[doc = $doc:literal])* $source:literal => $name:ident($payload:ty) = $kind:literal;)*) => {
        /// Every message there is.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message { $($(#[doc = $doc])* $name($payload),)* }

        impl Message {
            /// (type, writing service, meaning) of every message.
            pub const TABLE: &'static [(&'static str, &'static str, &'static str)] = &[$(($kind, $source, concat!($($doc),*)),)*];

            /// The CloudEvents `type`.
            pub fn kind(&self) -> &'static str {
                match self { $(Message::$name(_) => $kind,)* }
            }
            /// The service in whose stream it travels.
            pub fn source(&self) -> &'static str {
                match self { $(Message::$name(_) => $source,)* }
            }
            pub fn encode(&self) -> Result<String, serde_json::Error> {
                match self { $(Message::$name(data) => serde_json::to_string(data),)* }
            }
            pub fn decode(kind: &str, data: &str) -> Result<Message, DecodeError> {
                match kind {
                    $($kind => Ok(Message::$name(serde_json::from_str(data)?)),)*
                    other => Err(DecodeError::UnknownType(other.to_owned())),
                }
            }
        }
    };
}

messages! {
    /// The checkout saga asks stock to hold an order's lines, all or none.
    "orders" => StockReserve(StockReserve) = "stock.reserve";
    /// The saga asks stock to take lines of policy `deduct_on_payment`, all or none.
    "orders" => StockTake(StockTake) = "stock.take";
    /// Undo: give back whatever the order holds or took. Without its do it leaves a tombstone.
    "orders" => StockRelease(StepCommand) = "stock.release";
    /// The order is paid: what it holds is sold.
    "orders" => StockCommit(StepCommand) = "stock.commit";
    /// The saga asks coupons to hold the order's coupons, all or none.
    "orders" => CouponHold(CouponHold) = "coupon.hold";
    /// Undo: the order's coupons go back to their owner. Without its do it leaves a tombstone.
    "orders" => CouponUnhold(StepCommand) = "coupon.unhold";
    /// The order is paid: its coupons are used.
    "orders" => CouponUse(StepCommand) = "coupon.use";
    /// The saga asks the wallet to hold points.
    "orders" => PointsHold(PointsHold) = "points.hold";
    /// Undo: the held or used points go back. Without its do it leaves a tombstone.
    "orders" => PointsUnhold(StepCommand) = "points.unhold";
    /// The order is paid: the held points are spent.
    "orders" => PointsUse(StepCommand) = "points.use";
    /// The saga asks payments for the order's amount.
    "orders" => PaymentRequest(PaymentRequest) = "payment.request";
    /// Undo: whatever was or will be captured for the order is given back.
    "orders" => PaymentCancel(StepCommand) = "payment.cancel";
    /// An order was paid.
    "orders" => OrderPaid(OrderPaid) = "order.paid";
    /// An order failed: a step was refused, everything is undone.
    "orders" => OrderFailed(OrderEnded) = "order.failed";
    /// An order was cancelled, everything is undone.
    "orders" => OrderCancelled(OrderEnded) = "order.cancelled";
    /// An order was not paid in time, everything is undone.
    "orders" => OrderExpired(OrderEnded) = "order.expired";
    /// The buyer, or time, confirmed a purchase.
    "orders" => OrderConfirmed(OrderConfirmed) = "order.confirmed";
    /// All lines are held (and the check-only lines available).
    "stock" => StockReserved(StepDone) = "stock.reserved";
    /// Not all lines could be held; none is.
    "stock" => StockRefused(StepRefused) = "stock.refused";
    /// The lines of policy `deduct_on_payment` are taken.
    "stock" => StockTaken(StepDone) = "stock.taken";
    /// Not all lines could be taken; none is.
    "stock" => StockTakeRefused(StepRefused) = "stock.take_refused";
    /// The order holds no stock any more.
    "stock" => StockReleased(StepDone) = "stock.released";
    /// All coupons are held.
    "coupons" => CouponHeld(StepDone) = "coupon.held";
    /// A coupon cannot be used; none is held.
    "coupons" => CouponRefused(StepRefused) = "coupon.refused";
    /// The order holds no coupon any more.
    "coupons" => CouponReleased(StepDone) = "coupon.released";
    /// A member got a coupon, by claim or from the waitlist.
    "coupons" => CouponIssued(CouponIssued) = "coupon.issued";
    /// A member gave an unused coupon back.
    "coupons" => CouponCancelled(CouponGone) = "coupon.cancelled";
    /// A coupon's validity ended unused.
    "coupons" => CouponExpired(CouponGone) = "coupon.expired";
    /// The points are held.
    "wallet" => PointsHeld(StepDone) = "points.held";
    /// The points do not suffice.
    "wallet" => PointsRefused(StepRefused) = "points.refused";
    /// The order holds no points any more.
    "wallet" => PointsReleased(StepDone) = "points.released";
    /// Cash moved from the member to the mall.
    "wallet" => WalletDebited(WalletMoved) = "wallet.debited";
    /// The cash balance does not suffice.
    "wallet" => WalletRefused(WalletRefused) = "wallet.refused";
    /// Cash moved back to the member.
    "wallet" => WalletCredited(WalletMoved) = "wallet.credited";
    /// Payments asks the wallet to move cash from the member to the mall.
    "payments" => WalletDebit(WalletTransfer) = "wallet.debit";
    /// Payments asks the wallet to move cash back to the member.
    "payments" => WalletCredit(WalletTransfer) = "wallet.credit";
    /// The order's amount was captured.
    "payments" => PaymentApproved(PaymentApproved) = "payment.approved";
    /// The payment was refused; nothing was captured.
    "payments" => PaymentFailed(PaymentRefused) = "payment.failed";
    /// Nothing captured for the order is kept.
    "payments" => PaymentCancelled(StepDone) = "payment.cancelled";
    /// Someone signed up.
    "accounts" => MemberRegistered(MemberRegistered) = "member.registered";
    /// A store opened.
    "stores" => StoreCreated(StoreCreated) = "store.created";
    /// New SKUs can be stocked and sold.
    "catalog" => SkusListed(SkusListed) = "skus.listed";
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_message_reads_back_as_written() {
        let message = Message::PointsHold(PointsHold {
            order_id: OrderId(Uuid::from_u128(7)),
            member_id: MemberId(Uuid::from_u128(8)),
            amount: Won(900),
            expires_at: Timestamp(1_000_000),
        });
        let data = message.encode().expect("plain data encodes");
        assert_eq!(Message::decode(message.kind(), &data).expect("it was just encoded"), message);
    }

    #[test]
    fn an_unknown_type_is_told_apart_from_bad_data() {
        assert!(matches!(Message::decode("no.such", "{}"), Err(DecodeError::UnknownType(_))));
        assert!(matches!(Message::decode("points.hold", "{}"), Err(DecodeError::Data(_))));
    }
}
