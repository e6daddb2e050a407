//! Points that an order holds.

use contracts::{Code, MemberId, OrderId, Refusal, Timestamp, Won};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    Held,
    /// Spent: the order is paid.
    Used,
    /// Given back before it was spent.
    Released,
    /// Given back after it was spent.
    Returned,
    /// There were not enough points. Kept, so that a repeat of the question gets the same answer.
    Refused,
    /// The undo came without its hold; a hold that comes later is refused.
    Tombstone,
}

impl HoldState {
    const ALL: [HoldState; 6] =
        [HoldState::Held, HoldState::Used, HoldState::Released, HoldState::Returned, HoldState::Refused, HoldState::Tombstone];

    pub fn as_str(self) -> &'static str {
        match self {
            HoldState::Held => "HELD",
            HoldState::Used => "USED",
            HoldState::Released => "RELEASED",
            HoldState::Returned => "RETURNED",
            HoldState::Refused => "REFUSED",
            HoldState::Tombstone => "TOMBSTONE",
        }
    }

    pub fn parse(text: &str) -> Option<HoldState> {
        HoldState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub order_id: OrderId,
    pub member_id: Option<MemberId>,
    pub amount: Won,
    pub state: HoldState,
    pub refused: Option<Code>,
    pub expires_at: Option<Timestamp>,
    pub at: Timestamp,
}

impl Hold {
    pub fn tombstone(order_id: OrderId, at: Timestamp) -> Self {
        Self { order_id, member_id: None, amount: Won::ZERO, state: HoldState::Tombstone, refused: None, expires_at: None, at }
    }

    /// What a request to hold is told when this hold exists already.
    pub fn answer_again(&self) -> Result<(), Refusal> {
        match self.state {
            HoldState::Held | HoldState::Used => Ok(()),
            HoldState::Refused => Err(refusal(self.refused.unwrap_or(Code::InsufficientPoints))),
            HoldState::Released | HoldState::Returned | HoldState::Tombstone => Err(refusal(Code::StepTimedOut)),
        }
    }
}

/// The same words at every repeat.
pub fn refusal(code: Code) -> Refusal {
    match code {
        Code::InsufficientPoints => Refusal::new(code, "You have fewer points available than the order uses"),
        Code::StepTimedOut => Refusal::new(code, "The order was given up before its points could be held"),
        other => other.into(),
    }
}
