//! The states of an order and the moves between them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Where an order stands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum State { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl State {
            pub const ALL: &'static [State] = &[$(State::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(State::$name => $text,)* }
            }
            pub fn parse(text: &str) -> Option<State> {
                match text { $($text => Some(State::$name),)* _ => None }
            }
        }
    };
}

states! {
    /// Created; stock, coupons and points are being held.
    Pending = "PENDING",
    /// Everything is held; the buyer pays next.
    AwaitingPayment = "AWAITING_PAYMENT",
    /// A payment is under way.
    Paying = "PAYING",
    Paid = "PAID",
    Preparing = "PREPARING",
    Shipping = "SHIPPING",
    Delivered = "DELIVERED",
    /// The purchase is final.
    Confirmed = "CONFIRMED",
    /// Being undone at someone's wish.
    Cancelling = "CANCELLING",
    Cancelled = "CANCELLED",
    /// A step was refused; everything is undone.
    Failed = "FAILED",
    /// Not paid in time; everything is undone.
    Expired = "EXPIRED",
}

impl State {
    /// Every legal move. All others are refused with `illegal-transition`.
    pub const LEGAL: &'static [(State, State)] = &[
        (State::Pending, State::AwaitingPayment),
        (State::Pending, State::Paying),
        (State::Pending, State::Failed),
        (State::Pending, State::Cancelling),
        (State::AwaitingPayment, State::Paying),
        (State::AwaitingPayment, State::Expired),
        (State::AwaitingPayment, State::Cancelling),
        (State::Paying, State::Paid),
        (State::Paying, State::AwaitingPayment),
        (State::Paying, State::Failed),
        (State::Paid, State::Preparing),
        (State::Paid, State::Cancelling),
        (State::Preparing, State::Shipping),
        (State::Preparing, State::Cancelling),
        (State::Shipping, State::Delivered),
        (State::Delivered, State::Confirmed),
        (State::Cancelling, State::Cancelled),
    ];

    pub fn may_become(self, next: State) -> bool {
        State::LEGAL.contains(&(self, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // O5
    #[test]
    fn ends_have_no_way_out_and_every_state_can_be_reached() {
        for end in [State::Confirmed, State::Cancelled, State::Failed, State::Expired] {
            assert!(State::ALL.iter().all(|next| !end.may_become(*next)), "{end:?}");
        }
        for state in State::ALL.iter().filter(|state| **state != State::Pending) {
            assert!(State::LEGAL.iter().any(|(_, to)| to == state), "{state:?}");
        }
    }
}
