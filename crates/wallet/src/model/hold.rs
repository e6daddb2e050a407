//! The points that an order holds.

use contracts::{Code, MemberId, OrderId, Refusal, Timestamp, Won};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalletHoldState {
    Held,
    /// Spent: the order is paid.
    Used,
    /// Released before the points were spent.
    Released,
    /// Returned after the points were spent.
    Returned,
    /// Refused for lack of points. Recorded, so that a repeat gets the same answer.
    Refused,
    /// Undone before its hold, so that a later hold is refused.
    Tombstone,
}

impl WalletHoldState {
    const ALL: [WalletHoldState; 6] = [
        WalletHoldState::Held,
        WalletHoldState::Used,
        WalletHoldState::Released,
        WalletHoldState::Returned,
        WalletHoldState::Refused,
        WalletHoldState::Tombstone,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            WalletHoldState::Held => "HELD",
            WalletHoldState::Used => "USED",
            WalletHoldState::Released => "RELEASED",
            WalletHoldState::Returned => "RETURNED",
            WalletHoldState::Refused => "REFUSED",
            WalletHoldState::Tombstone => "TOMBSTONE",
        }
    }

    pub fn parse(text: &str) -> Option<WalletHoldState> {
        WalletHoldState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletHold {
    pub order_id: OrderId,
    pub member_id: Option<MemberId>,
    pub amount: Won,
    pub state: WalletHoldState,
    pub refused: Option<Code>,
    pub expires_at: Option<Timestamp>,
    pub at: Timestamp,
}

impl WalletHold {
    pub fn tombstone(order_id: OrderId, at: Timestamp) -> Self {
        Self { order_id, member_id: None, amount: Won::ZERO, state: WalletHoldState::Tombstone, refused: None, expires_at: None, at }
    }

    /// The answer to a repeated request for this hold.
    pub fn repeated_answer(&self) -> Result<(), Refusal> {
        match self.state {
            WalletHoldState::Held | WalletHoldState::Used => Ok(()),
            WalletHoldState::Refused => Err(refusal(self.refused.unwrap_or(Code::InsufficientPoints))),
            WalletHoldState::Released | WalletHoldState::Returned | WalletHoldState::Tombstone => Err(refusal(Code::StepTimedOut)),
        }
    }
}

/// The refusal of a hold, the same at every repeat.
pub fn refusal(code: Code) -> Refusal {
    match code {
        Code::InsufficientPoints => Refusal::new(code, "You have fewer points available than the order uses"),
        Code::StepTimedOut => Refusal::new(code, "The order was given up before its points could be held"),
        other => other.into(),
    }
}
