//! Messages between services. One service writes each message in its own transaction, and other services read it from that service's
//! stream.
//!
//! Readers see the messages of one key in the order they were written. The key of all messages of a checkout is its order id. Messages of
//! different keys arrive in any order.
//!
//! The commands of an orchestrated checkout (`stock.reserve`, `coupon.hold` …) travel in the orders stream, and the answers in the
//! participants' streams. A choreographed checkout travels as a [`RoutingSlip`] from participant to participant, each in its own stream.
//!
//! Every handler tolerates repeats. `docs/messages.md` is generated from the table `messages!` in this file.

#[macro_use]
mod saga;
mod participant;
mod payloads;
mod slip;

pub use participant::{Participant, execute_tasks, reply_result, reply_undone, saga_tasks};
pub use payloads::*;
pub use saga::{SagaAction, SagaAnswer, SagaTask, ServiceRequest, StepMessages, StepOutcome, saga_reads};
pub use slip::{Direction, RoutingSlip, SlipEntry};

use crate::{OrderId, Refusal};
use saga::{DoneData, RefusedData, RequestOfOrder};
use serde::{Deserialize, Serialize};

/// A stored message cannot be decoded: its type is unknown to this version, or its data does not fit the type.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("unknown message type {0}")]
    UnknownType(String),
    #[error("data does not fit its type: {0}")]
    Data(#[from] serde_json::Error),
}

macro_rules! messages {
    ($($(#[doc = $doc:literal])* $source:literal => $name:ident($payload:ty) = $kind:literal;)*) => {
        /// Kind of a message: its type without its data. In tables and on the wire it is a text such as `stock.reserve`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[doc = $doc])* $name,)* }

        impl Kind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The CloudEvents `type`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$name => $kind,)* }
            }
            /// `None`: the type is unknown to this version.
            pub fn parse(text: &str) -> Option<Kind> {
                match text { $($kind => Some(Kind::$name),)* _ => None }
            }
        }

        /// All messages.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message { $($(#[doc = $doc])* $name($payload),)* }

        impl Message {
            /// (type, writing service, meaning) of every message.
            pub const TABLE: &'static [(&'static str, &'static str, &'static str)] = &[$(($kind, $source, concat!($($doc),*)),)*];

            /// The CloudEvents `type`.
            pub fn kind(&self) -> &'static str {
                match self { $(Message::$name(_) => $kind,)* }
            }
            /// The service whose stream carries the message.
            pub fn source(&self) -> &'static str {
                match self { $(Message::$name(_) => $source,)* }
            }
            /// The payload as JSON.
            pub fn encode(&self) -> Result<String, serde_json::Error> {
                match self { $(Message::$name(data) => serde_json::to_string(data),)* }
            }
            /// `Err`: the type is unknown to this version, or the data does not fit it.
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
    /// Asks stock to reserve the lines of an order, all or none.
    "orders" => StockReserve(StockReserve) = "stock.reserve";
    /// Asks stock to take lines of policy `deduct_on_payment`, all or none.
    "orders" => StockTake(StockTake) = "stock.take";
    /// Undo: stock returns everything the order holds or took. Without a prior do, stock leaves a tombstone.
    "orders" => StockRelease(StepCommand) = "stock.release";
    /// The order is paid: stock marks the units it holds as sold.
    "orders" => StockCommit(StepCommand) = "stock.commit";
    /// Asks coupons to hold the order's coupons, all or none.
    "orders" => CouponHold(CouponHold) = "coupon.hold";
    /// Undo: the order's coupons return to their owner. Without a prior do, coupons leaves a tombstone.
    "orders" => CouponUnhold(StepCommand) = "coupon.unhold";
    /// The order is paid: its coupons become used.
    "orders" => CouponUse(StepCommand) = "coupon.use";
    /// Asks the wallet to hold points.
    "orders" => PointsHold(PointsHold) = "points.hold";
    /// Undo: the held or used points return to the member. Without a prior do, the wallet leaves a tombstone.
    "orders" => PointsUnhold(StepCommand) = "points.unhold";
    /// The order is paid: the held points are spent.
    "orders" => PointsUse(StepCommand) = "points.use";
    /// Asks payments to capture the order's amount.
    "orders" => PaymentRequest(PaymentRequest) = "payment.request";
    /// Undo: payments refunds every capture for the order, present or future.
    "orders" => PaymentCancel(StepCommand) = "payment.cancel";
    /// An order is paid.
    "orders" => OrderPaid(OrderPaid) = "order.paid";
    /// An order failed because a step was refused. All steps are undone.
    "orders" => OrderFailed(OrderEnded) = "order.failed";
    /// An order was cancelled. All steps are undone.
    "orders" => OrderCancelled(OrderEnded) = "order.cancelled";
    /// An order was not paid in time. All steps are undone.
    "orders" => OrderExpired(OrderEnded) = "order.expired";
    /// The buyer confirmed the purchase, or the time limit did.
    "orders" => OrderConfirmed(OrderConfirmed) = "order.confirmed";
    /// Choreography: orders starts a routing slip, forward or back.
    "orders" => OrdersSlip(RoutingSlip) = "orders.slip";
    /// All lines are held, and the check-only lines are available.
    "stock" => StockReserved(StepDone) = "stock.reserved";
    /// Not all lines could be held. None is.
    "stock" => StockRefused(StepRefused) = "stock.refused";
    /// The lines of policy `deduct_on_payment` are taken.
    "stock" => StockTaken(StepDone) = "stock.taken";
    /// Not all lines could be taken. None is.
    "stock" => StockTakeRefused(StepRefused) = "stock.take_refused";
    /// The order holds no stock any more.
    "stock" => StockReleased(StepDone) = "stock.released";
    /// Choreography: stock did, refused or undid its step and passes the slip on.
    "stock" => StockSlip(RoutingSlip) = "stock.slip";
    /// All coupons are held.
    "coupons" => CouponHeld(StepDone) = "coupon.held";
    /// A coupon cannot be used. None is held.
    "coupons" => CouponRefused(StepRefused) = "coupon.refused";
    /// The order holds no coupons any more.
    "coupons" => CouponReleased(StepDone) = "coupon.released";
    /// Choreography: coupons did, refused or undid its step and passes the slip on.
    "coupons" => CouponsSlip(RoutingSlip) = "coupons.slip";
    /// A member's claim was accepted with 202. Coupons settles it in the order of the log.
    "coupons.claims" => ClaimRequested(ClaimRequested) = "coupon.claim";
    /// A member got a coupon, by claim or from the waitlist.
    "coupons" => CouponIssued(CouponIssued) = "coupon.issued";
    /// A member returned an unused coupon.
    "coupons" => CouponCancelled(CouponGone) = "coupon.cancelled";
    /// The validity of an unused coupon ended.
    "coupons" => CouponExpired(CouponGone) = "coupon.expired";
    /// The points are held.
    "wallet" => PointsHeld(StepDone) = "points.held";
    /// The points balance is too low.
    "wallet" => PointsRefused(StepRefused) = "points.refused";
    /// The order holds no points any more.
    "wallet" => PointsReleased(StepDone) = "points.released";
    /// Choreography: the wallet did, refused or undid its step and passes the slip on.
    "wallet" => WalletSlip(RoutingSlip) = "wallet.slip";
    /// Cash moved from the member to the mall.
    "wallet" => WalletDebited(WalletMoved) = "wallet.debited";
    /// The cash balance is too low.
    "wallet" => WalletRefused(WalletRefused) = "wallet.refused";
    /// Cash moved back to the member.
    "wallet" => WalletCredited(WalletMoved) = "wallet.credited";
    /// Asks the wallet to move cash from the member to the mall.
    "payments" => WalletDebit(WalletTransfer) = "wallet.debit";
    /// Asks the wallet to move cash back to the member.
    "payments" => WalletCredit(WalletTransfer) = "wallet.credit";
    /// The order's amount is captured.
    "payments" => PaymentApproved(PaymentApproved) = "payment.approved";
    /// The payment was refused. Nothing is captured.
    "payments" => PaymentFailed(PaymentRefused) = "payment.failed";
    /// No capture for the order remains.
    "payments" => PaymentCancelled(StepDone) = "payment.cancelled";
    /// Choreography: the payment's outcome is known, or the payment is undone. Payments passes the slip on.
    "payments" => PaymentsSlip(RoutingSlip) = "payments.slip";
    /// A member signed up.
    "accounts" => MemberRegistered(MemberRegistered) = "member.registered";
    /// A member closed its account: readers end all that the account still has. Sent twice: with the closing, and again when the last
    /// access token has expired.
    "accounts" => MemberClosed(MemberClosed) = "member.closed";
    /// A store opened.
    "stores" => StoreCreated(StoreCreated) = "store.created";
    /// New SKUs can be stocked and sold.
    "catalog" => SkusListed(SkusListed) = "skus.listed";
}

// The steps of the checkout saga. A step names its service, its request, and the messages of the table above.
saga! {
    orchestrator "orders" passes on OrdersSlip;

    /// Waits for the buyer to pay. No participant acts.
    pause AwaitPayment = "await.payment";

    service "stock" executes RequestToStock passes on StockSlip {
        /// Reserves lines of policy `reserve_on_order`, and checks the others.
        StockReserve(StockReserve) = "stock.reserve" {
            done: StockReserved, refused: StockRefused, undo: StockRelease, undone: StockReleased, commit: StockCommit
        }
        /// Takes lines of policy `deduct_on_payment`.
        StockTake(StockTake) = "stock.take" { done: StockTaken, refused: StockTakeRefused, undone_with: StockReserve }
    }
    service "coupons" executes RequestToCoupons passes on CouponsSlip {
        /// Holds the order's coupons.
        CouponHold(CouponHold) = "coupon.hold" {
            done: CouponHeld, refused: CouponRefused, undo: CouponUnhold, undone: CouponReleased, commit: CouponUse
        }
    }
    service "wallet" executes RequestToWallet passes on WalletSlip {
        /// Holds points.
        PointsHold(PointsHold) = "points.hold" {
            done: PointsHeld, refused: PointsRefused, undo: PointsUnhold, undone: PointsReleased, commit: PointsUse
        }
    }
    service "payments" executes RequestToPayments passes on PaymentsSlip {
        /// Captures the order's amount.
        Payment(PaymentRequest) = "payment.request" {
            done: PaymentApproved, refused: PaymentFailed, undo: PaymentCancel, undone: PaymentCancelled
        }
    }
}

/// Logs of client requests, written before the requests are executed. Kafka numbers them, and no outbox holds them.
pub const REQUEST_LOGS: &[&str] = &["coupons.claims"];

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
    fn a_kind_reads_back_and_has_the_name_of_its_table_row() {
        let rows: Vec<&str> = Message::TABLE.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(), rows);
        assert!(Kind::ALL.iter().all(|kind| Kind::parse(kind.as_str()) == Some(*kind)));
        assert_eq!((Kind::parse("no.such"), Kind::StockTakeRefused.as_str()), (None, "stock.take_refused"));
    }

    #[test]
    fn an_unknown_type_differs_from_bad_data() {
        assert!(matches!(Message::decode("no.such", "{}"), Err(DecodeError::UnknownType(_))));
        assert!(matches!(Message::decode("points.hold", "{}"), Err(DecodeError::Data(_))));
    }
}
