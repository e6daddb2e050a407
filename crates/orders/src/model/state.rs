//! The states of an order, and the legal transitions between them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $text:tt,)*) => {
        /// State of an order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[schema(as = State)]
        pub enum OrderState { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl OrderState {
            pub const ALL: &'static [OrderState] = &[$(OrderState::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(OrderState::$name => $text,)* }
            }
            pub fn parse(text: &str) -> Option<OrderState> {
                match text { $($text => Some(OrderState::$name),)* _ => None }
            }
        }
    };
}

states! {
    /// Created. Stock, coupons and points are being held.
    Pending = "PENDING",
    /// Everything is held. The buyer pays next.
    AwaitingPayment = "AWAITING_PAYMENT",
    /// A payment is running.
    Paying = "PAYING",
    Paid = "PAID",
    Preparing = "PREPARING",
    Shipping = "SHIPPING",
    Delivered = "DELIVERED",
    /// The purchase is final.
    Confirmed = "CONFIRMED",
    /// Being undone because the buyer or an operator cancelled it.
    Cancelling = "CANCELLING",
    Cancelled = "CANCELLED",
    /// A step was refused or timed out. Everything is undone.
    Failed = "FAILED",
    /// Not paid in time. Everything is undone.
    Expired = "EXPIRED",
}

impl OrderState {
    /// All legal transitions. Others are refused with `illegal-transition`.
    pub const TRANSITIONS: &'static [(OrderState, OrderState)] = &[
        (OrderState::Pending, OrderState::AwaitingPayment),
        (OrderState::Pending, OrderState::Paying),
        (OrderState::Pending, OrderState::Failed),
        (OrderState::Pending, OrderState::Cancelling),
        (OrderState::AwaitingPayment, OrderState::Paying),
        (OrderState::AwaitingPayment, OrderState::Expired),
        (OrderState::AwaitingPayment, OrderState::Cancelling),
        (OrderState::Paying, OrderState::Paid),
        (OrderState::Paying, OrderState::AwaitingPayment),
        (OrderState::Paying, OrderState::Failed),
        (OrderState::Paid, OrderState::Preparing),
        (OrderState::Paid, OrderState::Cancelling),
        (OrderState::Preparing, OrderState::Shipping),
        (OrderState::Preparing, OrderState::Cancelling),
        (OrderState::Shipping, OrderState::Delivered),
        (OrderState::Delivered, OrderState::Confirmed),
        (OrderState::Cancelling, OrderState::Cancelled),
    ];

    pub fn may_become(self, next: OrderState) -> bool {
        OrderState::TRANSITIONS.contains(&(self, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // O5
    #[test]
    fn final_states_have_no_exit_and_all_states_are_reachable() {
        for end in [OrderState::Confirmed, OrderState::Cancelled, OrderState::Failed, OrderState::Expired] {
            assert!(OrderState::ALL.iter().all(|next| !end.may_become(*next)), "{end:?}");
        }
        for state in OrderState::ALL.iter().filter(|state| **state != OrderState::Pending) {
            assert!(OrderState::TRANSITIONS.iter().any(|(_, to)| to == state), "{state:?}");
        }
    }
}
