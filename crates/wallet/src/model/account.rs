//! One account: its balance, its held part, and its chain of entries.

use contracts::{MemberId, Timestamp, Won};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Kind of an account. `Cash`, `CashIn` and `Sales` count won; the others count points. A transaction never mixes the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// A member's money.
    Cash,
    /// A member's points.
    Reward,
    /// The mall: source of charged money.
    CashIn,
    /// The mall: payments of buyers.
    Sales,
    /// The mall: source of points.
    PointsGranted,
    /// The mall: spent points.
    PointsSpent,
}

impl AccountKind {
    pub const ALL: [AccountKind; 6] = [
        AccountKind::Cash,
        AccountKind::Reward,
        AccountKind::CashIn,
        AccountKind::Sales,
        AccountKind::PointsGranted,
        AccountKind::PointsSpent,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AccountKind::Cash => "CASH",
            AccountKind::Reward => "REWARD",
            AccountKind::CashIn => "CASH_IN",
            AccountKind::Sales => "SALES",
            AccountKind::PointsGranted => "POINTS_GRANTED",
            AccountKind::PointsSpent => "POINTS_SPENT",
        }
    }

    pub fn parse(text: &str) -> Option<AccountKind> {
        AccountKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    pub fn is_member_account(self) -> bool {
        matches!(self, AccountKind::Cash | AccountKind::Reward)
    }

    /// True for accounts that count points. Transfers are allowed within points and within money.
    pub fn is_points(self) -> bool {
        matches!(self, AccountKind::Reward | AccountKind::PointsGranted | AccountKind::PointsSpent)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    /// A member, or [`MALL`].
    pub owner: Uuid,
    pub kind: AccountKind,
}

/// Owner of the mall's own accounts.
pub const MALL: Uuid = Uuid::nil();

pub const CASH_IN: AccountKey = AccountKey { owner: MALL, kind: AccountKind::CashIn };
pub const SALES: AccountKey = AccountKey { owner: MALL, kind: AccountKind::Sales };
pub const POINTS_GRANTED: AccountKey = AccountKey { owner: MALL, kind: AccountKind::PointsGranted };
pub const POINTS_SPENT: AccountKey = AccountKey { owner: MALL, kind: AccountKind::PointsSpent };

impl AccountKey {
    pub fn cash(member_id: MemberId) -> Self {
        Self { owner: member_id.0, kind: AccountKind::Cash }
    }
    pub fn reward(member_id: MemberId) -> Self {
        Self { owner: member_id.0, kind: AccountKind::Reward }
    }
}

/// The previous hash of an account's first entry.
pub const GENESIS: [u8; 32] = [0; 32];

/// SHA-256(previous hash ‖ transaction ‖ n ‖ amount ‖ time), with numbers as big-endian 64 bits. An audit recomputes the chain of
/// an account from [`GENESIS`] and compares its end with the stored head.
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
pub struct LedgerEntry {
    pub tx_id: Uuid,
    pub account: AccountKey,
    pub n: i64,
    pub amount: Won,
    pub balance_after: Won,
    pub at: Timestamp,
    pub hash: [u8; 32],
    pub previous_tx: Option<Uuid>,
}

/// Reason why an amount cannot be held or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The amount exceeds the available balance.
    Insufficient,
    /// The balance would exceed 64 bits.
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
    /// Number of saves; 0 for an account that was never stored.
    pub version: i64,
    /// `Some`: its member closed the account.
    pub closed_at: Option<Timestamp>,
}

impl Account {
    /// A new account without a row.
    pub fn empty(key: AccountKey) -> Self {
        Self { key, balance: Won::ZERO, held: Won::ZERO, entries: 0, head: GENESIS, last_tx: None, version: 0, closed_at: None }
    }

    pub fn available(&self) -> Won {
        Won(self.balance.0 - self.held.0)
    }

    pub fn hold(&mut self, amount: Won) -> Result<(), Denied> {
        if amount > self.available() {
            return Err(Denied::Insufficient);
        }
        self.held = self.held.plus(amount).map_err(|_| Denied::OutOfRange)?;
        Ok(())
    }

    /// Ends a hold of this amount. The held part never falls below 0.
    pub fn unhold(&mut self, amount: Won) {
        self.held = Won((self.held.0 - amount.0).max(0));
    }

    /// The balance after a movement of `amount`. `Err`: a member lacks the amount or orders hold it, or the balance would exceed 64 bits.
    pub fn balance_after(&self, amount: Won) -> Result<Won, Denied> {
        let balance = self.balance.plus(amount).map_err(|_| Denied::OutOfRange)?;
        if self.key.kind.is_member_account() && amount.is_negative() && balance < self.held {
            Err(Denied::Insufficient)
        } else {
            Ok(balance)
        }
    }

    /// Appends an entry. `balance` is the result of [`Account::balance_after`].
    pub(super) fn append_entry(&mut self, tx_id: Uuid, amount: Won, balance: Won, at: Timestamp) -> LedgerEntry {
        self.entries += 1;
        self.balance = balance;
        self.head = ledger_hash(&self.head, tx_id, self.entries, amount, at);
        let previous_tx = self.last_tx.replace(tx_id);
        LedgerEntry { tx_id, account: self.key, n: self.entries, amount, balance_after: balance, at, hash: self.head, previous_tx }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(balance: i64) -> Account {
        Account { balance: Won(balance), ..Account::empty(AccountKey::reward(MemberId(Uuid::from_u128(5)))) }
    }

    #[test]
    fn held_points_cannot_be_spent_or_held_again() {
        let mut account = account(100);
        assert_eq!(account.hold(Won(60)), Ok(()));
        assert_eq!(account.hold(Won(41)), Err(Denied::Insufficient));
        assert_eq!(account.balance_after(Won(-41)), Err(Denied::Insufficient));
        assert_eq!(account.balance_after(Won(-40)), Ok(Won(60)));
        account.unhold(Won(60));
        assert_eq!(account.available(), Won(100));
    }

    #[test]
    fn the_mall_may_be_negative_and_no_account_overflows() {
        assert_eq!(Account::empty(SALES).balance_after(Won(-5)), Ok(Won(-5)));
        assert_eq!(account(i64::MAX).balance_after(Won(1)), Err(Denied::OutOfRange));
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
        let first = account.append_entry(tx, Won(10), Won(10), Timestamp(7));
        let second = account.append_entry(other, Won(-4), Won(6), Timestamp(8));
        assert_eq!(first.hash, base);
        assert_eq!((second.hash, second.previous_tx), (ledger_hash(&base, other, 2, Won(-4), Timestamp(8)), Some(tx)));
        assert_eq!((account.head, account.last_tx, account.entries), (second.hash, Some(other), 2));
    }
}
