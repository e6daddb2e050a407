//! Why something moves, and the record that it did: one transaction per cause, ever (I-L5).

use contracts::{Code, MemberId, OrderId, Timestamp, Won};
use uuid::Uuid;

/// Why something moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Money came in from outside.
    Charge,
    /// An operator gave points.
    Grant,
    /// Held points were spent on a paid order.
    Use,
    /// Spent points came back because the order was undone.
    Return,
    /// Points earned by a confirmed purchase.
    Earn,
    /// Earned points taken back because the order was undone.
    EarnBack,
    /// A payment from the cash balance.
    Pay,
    /// A payment given back.
    Refund,
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
        }
    }
}

/// Where a UUID has its version.
const VERSION_SHIFT: u32 = 76;

/// The id of the transaction that settles a cause: the cause's own id, a version 7 UUID, with the kind of cause where it has its version.
/// So the primary key of transactions is what keeps causes from being settled twice, without a second index, and transactions of one
/// time lie side by side.
pub fn transaction_id(cause: Cause, reference: Uuid) -> Uuid {
    let version = 0xF << VERSION_SHIFT;
    Uuid::from_u128((reference.as_u128() & !version) | (cause.digit() << VERSION_SHIFT))
}

/// For the eyes of people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    pub reason: Option<String>,
    pub granted_by: Option<MemberId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub id: Uuid,
    pub cause: Cause,
    /// The order, payment, charge or grant that caused it.
    pub reference: Uuid,
    pub order_id: Option<OrderId>,
    pub amount: Won,
    /// Why nothing moved, if nothing did.
    pub refused: Option<Code>,
    pub note: Note,
    pub at: Timestamp,
}

/// What became of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub amount: Won,
    pub refused: Option<Code>,
}

impl Transaction {
    /// A movement for a cause, with nothing else to tell.
    pub fn of(cause: Cause, reference: Uuid, amount: Won, at: Timestamp) -> Self {
        Self { id: transaction_id(cause, reference), cause, reference, order_id: None, amount, refused: None, note: Note::default(), at }
    }
}
