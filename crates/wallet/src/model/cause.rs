//! Causes of movements, and the transaction that settles a cause: one per cause, ever (I-L5).

use contracts::{Code, MemberId, OrderId, Timestamp, Won};
use uuid::Uuid;

/// Cause of a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Money from outside.
    Charge,
    /// Points granted by an operator.
    Grant,
    /// Held points spent on a paid order.
    Use,
    /// Spent points returned, because the order was undone.
    Return,
    /// Points earned by a confirmed purchase.
    Earn,
    /// Earned points taken back, because the order was undone.
    EarnBack,
    /// A payment from the cash balance.
    Pay,
    /// A payment refunded to the cash balance.
    Refund,
    /// Points that ended with their account.
    Forfeit,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Charge => "charge",
            Cause::Grant => "grant",
            Cause::Use => "use",
            Cause::Return => "return",
            Cause::Earn => "earn",
            Cause::EarnBack => "earn_back",
            Cause::Pay => "pay",
            Cause::Refund => "refund",
            Cause::Forfeit => "forfeit",
        }
    }

    fn digit(self) -> u128 {
        match self {
            Cause::Charge => 0x8,
            Cause::Grant => 0x9,
            Cause::Use => 0xA,
            Cause::Return => 0xB,
            Cause::Earn => 0xC,
            Cause::EarnBack => 0xD,
            Cause::Pay => 0xE,
            Cause::Refund => 0xF,
            Cause::Forfeit => 0x1,
        }
    }
}

/// Position of the version in a UUID, in bits.
const VERSION_SHIFT: u32 = 76;

/// The id of the transaction that settles a cause: the id of the cause, a version 7 UUID, with the kind of cause in place of its version.
/// So the primary key of transactions prevents a second settlement without a second index, and transactions of one time are neighbours.
pub fn transaction_id(cause: Cause, reference: Uuid) -> Uuid {
    let version = 0xF << VERSION_SHIFT;
    Uuid::from_u128((reference.as_u128() & !version) | (cause.digit() << VERSION_SHIFT))
}

/// Information for people; no rule depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    pub reason: Option<String>,
    pub granted_by: Option<MemberId>,
}

/// A movement between two accounts, or its refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerTransaction {
    pub id: Uuid,
    pub cause: Cause,
    /// The order, payment, charge or grant that caused it.
    pub reference: Uuid,
    pub order_id: Option<OrderId>,
    pub amount: Won,
    /// `Some`: nothing moved, for this reason.
    pub refused: Option<Code>,
    pub note: Note,
    pub at: Timestamp,
}

/// Outcome of a settled cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseOutcome {
    pub amount: Won,
    pub refused: Option<Code>,
}

impl LedgerTransaction {
    /// A movement for a cause, without an order or a note.
    pub fn of(cause: Cause, reference: Uuid, amount: Won, at: Timestamp) -> Self {
        Self { id: transaction_id(cause, reference), cause, reference, order_id: None, amount, refused: None, note: Note::default(), at }
    }
}
