//! What services tell each other. Each message is written by one service in its own transaction and read by others from its stream.
//!
//! Within a key (the order id for everything of a checkout) readers see messages in the order they were written; across keys, any order.
//! An orchestrated checkout's commands (`stock.reserve`, `coupon.hold` …) travel in the orders service's stream, the answers in the
//! participants'; a choreographed one travels as a [`RoutingSlip`] from participant to participant, each in its own stream.
//! Every handler is safe to repeat. `docs/messages.md` is generated from the table at the end of this file.

mod payloads;
mod slip;

pub use payloads::*;
pub use slip::{Outcome, RoutingSlip, Stop, Visit, Way};

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
    /// Choreography: an order sends its itinerary on its way, forward or back.
    "orders" => OrdersSlip(RoutingSlip) = "orders.slip";
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
    /// Choreography: stock did, refused or undid its part and passes the itinerary on.
    "stock" => StockSlip(RoutingSlip) = "stock.slip";
    /// All coupons are held.
    "coupons" => CouponHeld(StepDone) = "coupon.held";
    /// A coupon cannot be used; none is held.
    "coupons" => CouponRefused(StepRefused) = "coupon.refused";
    /// The order holds no coupon any more.
    "coupons" => CouponReleased(StepDone) = "coupon.released";
    /// Choreography: coupons did, refused or undid their part and pass the itinerary on.
    "coupons" => CouponsSlip(RoutingSlip) = "coupons.slip";
    /// A member asked for a coupon and was told that it is taken down; it is settled in its turn.
    "coupons.claims" => ClaimAsked(ClaimAsked) = "coupon.claim";
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
    /// Choreography: the wallet did, refused or undid its part and passes the itinerary on.
    "wallet" => WalletSlip(RoutingSlip) = "wallet.slip";
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
    /// Choreography: the payment's outcome is known, or it is undone; payments passes the itinerary on.
    "payments" => PaymentsSlip(RoutingSlip) = "payments.slip";
    /// Someone signed up.
    "accounts" => MemberRegistered(MemberRegistered) = "member.registered";
    /// A store opened.
    "stores" => StoreCreated(StoreCreated) = "store.created";
    /// New SKUs can be stocked and sold.
    "catalog" => SkusListed(SkusListed) = "skus.listed";
}

/// Logs into which callers' requests are written before they are done. Kafka numbers them, and no service has them in its outbox.
pub const REQUEST_LOGS: &[&str] = &["coupons.claims"];

impl Message {
    /// The itinerary this message carries, whoever passed it on.
    pub fn slip(&self) -> Option<&RoutingSlip> {
        match self {
            Message::OrdersSlip(slip)
            | Message::StockSlip(slip)
            | Message::CouponsSlip(slip)
            | Message::WalletSlip(slip)
            | Message::PaymentsSlip(slip) => Some(slip),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemberId, OrderId, Timestamp, Won};
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
    fn an_unknown_type_differs_from_bad_data() {
        assert!(matches!(Message::decode("no.such", "{}"), Err(DecodeError::UnknownType(_))));
        assert!(matches!(Message::decode("points.hold", "{}"), Err(DecodeError::Data(_))));
    }
}
