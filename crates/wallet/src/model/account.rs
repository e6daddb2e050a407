//! One account: its balance, what of it is held, and its chain of entries.

use contracts::{MemberId, Timestamp, Won};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What an account holds. `Cash`, `CashIn` and `Sales` count won; the others count points. Money never meets points in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A member's money.
    Cash,
    /// A member's points.
    Reward,
    /// The mall: where charged money comes from.
    CashIn,
    /// The mall: what buyers paid.
    Sales,
    /// The mall: where points come from.
    PointsGranted,
    /// The mall: what points were spent on.
    PointsSpent,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::Cash, Kind::Reward, Kind::CashIn, Kind::Sales, Kind::PointsGranted, Kind::PointsSpent];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Cash => "CASH",
            Kind::Reward => "REWARD",
            Kind::CashIn => "CASH_IN",
            Kind::Sales => "SALES",
            Kind::PointsGranted => "POINTS_GRANTED",
            Kind::PointsSpent => "POINTS_SPENT",
        }
    }

    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    pub fn is_members(self) -> bool {
        matches!(self, Kind::Cash | Kind::Reward)
    }

    /// Kinds of one currency may move to each other.
    pub fn is_points(self) -> bool {
        matches!(self, Kind::Reward | Kind::PointsGranted | Kind::PointsSpent)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    /// A member, or [`MALL`].
    pub owner: Uuid,
    pub kind: Kind,
}

/// Owner of the mall's own accounts.
pub const MALL: Uuid = Uuid::nil();

pub const CASH_IN: AccountKey = AccountKey { owner: MALL, kind: Kind::CashIn };
pub const SALES: AccountKey = AccountKey { owner: MALL, kind: Kind::Sales };
pub const POINTS_GRANTED: AccountKey = AccountKey { owner: MALL, kind: Kind::PointsGranted };
pub const POINTS_SPENT: AccountKey = AccountKey { owner: MALL, kind: Kind::PointsSpent };

impl AccountKey {
    pub fn cash(member_id: MemberId) -> Self {
        Self { owner: member_id.0, kind: Kind::Cash }
    }
    pub fn reward(member_id: MemberId) -> Self {
        Self { owner: member_id.0, kind: Kind::Reward }
    }
}

/// What the first entry's hash covers in place of a hash before it.
pub const GENESIS: [u8; 32] = [0; 32];

/// SHA-256(hash before ‖ transaction ‖ n ‖ amount ‖ instant), numbers as big-endian 64 bits. Whoever audits recomputes an account's
/// chain with it from [`GENESIS`] and compares the end with the stored head.
pub fn ledger_hash(before: &[u8; 32], tx_id: Uuid, n: i64, amount: Won, at: Timestamp) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(tx_id.as_bytes());
    hash.update(n.to_be_bytes());
    hash.update(amount.0.to_be_bytes());
    hash.update(at.0.to_be_bytes());
    hash.finalize().into()
}

/// One side of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub tx_id: Uuid,
    pub account: AccountKey,
    pub n: i64,
    pub amount: Won,
    pub balance_after: Won,
    pub at: Timestamp,
    pub hash: [u8; 32],
    pub previous_tx: Option<Uuid>,
}

/// Why an amount cannot be held or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// What is available does not cover it.
    Short,
    /// The balance would leave 64 bits.
    OutOfRange,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub key: AccountKey,
    pub balance: Won,
    pub held: Won,
    pub entries: i64,
    pub head: [u8; 32],
    pub last_tx: Option<Uuid>,
    /// How often it was saved; 0 for one that was never stored.
    pub version: i64,
}

impl Account {
    /// An account nobody touched yet: it has no row, and a balance of 0.
    pub fn untouched(key: AccountKey) -> Self {
        Self { key, balance: Won::ZERO, held: Won::ZERO, entries: 0, head: GENESIS, last_tx: None, version: 0 }
    }

    pub fn available(&self) -> Won {
        Won(self.balance.0 - self.held.0)
    }

    pub fn hold(&mut self, amount: Won) -> Result<(), Denied> {
        if amount > self.available() {
            return Err(Denied::Short);
        }
        self.held = self.held.plus(amount).map_err(|_| Denied::OutOfRange)?;
        Ok(())
    }

    /// Ends a hold of this amount; what is held never falls below 0.
    pub fn unhold(&mut self, amount: Won) {
        self.held = Won((self.held.0 - amount.0).max(0));
    }

    /// The balance after `amount`, if the account may have it. Members never spend what they lack or what an order holds.
    pub fn after(&self, amount: Won) -> Result<Won, Denied> {
        let balance = self.balance.plus(amount).map_err(|_| Denied::OutOfRange)?;
        if self.key.kind.is_members() && amount.is_negative() && balance < self.held { Err(Denied::Short) } else { Ok(balance) }
    }

    /// Adds an entry. `balance` is what [`Account::after`] answered.
    pub(super) fn post(&mut self, tx_id: Uuid, amount: Won, balance: Won, at: Timestamp) -> Entry {
        self.entries += 1;
        self.balance = balance;
        self.head = ledger_hash(&self.head, tx_id, self.entries, amount, at);
        let previous_tx = self.last_tx.replace(tx_id);
        Entry { tx_id, account: self.key, n: self.entries, amount, balance_after: balance, at, hash: self.head, previous_tx }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(balance: i64) -> Account {
        Account { balance: Won(balance), ..Account::untouched(AccountKey::reward(MemberId(Uuid::from_u128(5)))) }
    }

    #[test]
    fn held_points_cannot_be_spent_or_held_again() {
        let mut account = account(100);
        assert_eq!(account.hold(Won(60)), Ok(()));
        assert_eq!(account.hold(Won(41)), Err(Denied::Short));
        assert_eq!(account.after(Won(-41)), Err(Denied::Short));
        assert_eq!(account.after(Won(-40)), Ok(Won(60)));
        account.unhold(Won(60));
        assert_eq!(account.available(), Won(100));
    }

    #[test]
    fn the_mall_may_be_in_the_red_and_nobody_may_overflow() {
        assert_eq!(Account::untouched(SALES).after(Won(-5)), Ok(Won(-5)));
        assert_eq!(account(i64::MAX).after(Won(1)), Err(Denied::OutOfRange));
    }

    #[test]
    fn the_chain_covers_every_part_of_an_entry() {
        let (tx, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let base = ledger_hash(&GENESIS, tx, 1, Won(10), Timestamp(7));
        let changed = [
            ledger_hash(&base, tx, 1, Won(10), Timestamp(7)),
            ledger_hash(&GENESIS, other, 1, Won(10), Timestamp(7)),
            ledger_hash(&GENESIS, tx, 2, Won(10), Timestamp(7)),
            ledger_hash(&GENESIS, tx, 1, Won(-10), Timestamp(7)),
            ledger_hash(&GENESIS, tx, 1, Won(10), Timestamp(8)),
        ];
        assert!(changed.iter().all(|hash| *hash != base));
        let mut account = account(0);
        let first = account.post(tx, Won(10), Won(10), Timestamp(7));
        let second = account.post(other, Won(-4), Won(6), Timestamp(8));
        assert_eq!(first.hash, base);
        assert_eq!((second.hash, second.previous_tx), (ledger_hash(&base, other, 2, Won(-4), Timestamp(8)), Some(tx)));
        assert_eq!((account.head, account.last_tx, account.entries), (second.hash, Some(other), 2));
    }
}
