//! The ledger of one database transaction: what was loaded, what is decided, and what has to be written at its end.
//!
//! Every movement is a transfer between two accounts, so its entries sum to zero by construction (I-L1), and every movement has a cause
//! that is settled once (I-L5). It never touches a database: the store fills it before anything is decided and empties it before the commit.

use super::{
    account::{Account, AccountKey, CASH_IN, Denied, Entry, POINTS_GRANTED, POINTS_SPENT, SALES},
    cause::{Cause, Note, Settled, Transaction},
    hold::{self, Hold, HoldState},
};
use contracts::{
    Code, MemberId, OrderId, Refusal, Timestamp, Won,
    messages::{OrderConfirmed, PointsHold, WalletTransfer},
};
use std::collections::HashMap;
use uuid::Uuid;

/// Something that came in: its transaction, and what is available with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub tx_id: Uuid,
    pub available: Won,
}

/// Something that cannot be, unless code or data are broken: the transaction must not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

type Decision = Result<(), Refusal>;

struct Loaded<T> {
    row: T,
    /// Read from the database, as opposed to made here.
    stored: bool,
    changed: bool,
}

/// Rows to write, each once.
#[derive(Default)]
pub struct Changes {
    pub new_accounts: Vec<Account>,
    pub changed_accounts: Vec<Account>,
    pub new_holds: Vec<Hold>,
    pub changed_holds: Vec<Hold>,
    pub transactions: Vec<Transaction>,
    pub entries: Vec<Entry>,
}

/// `None` stands for "looked for, and there is none".
#[derive(Default)]
pub struct Ledger {
    accounts: HashMap<AccountKey, Loaded<Account>>,
    holds: HashMap<OrderId, Option<Loaded<Hold>>>,
    causes: HashMap<(Cause, Uuid), Option<Settled>>,
    transactions: Vec<Transaction>,
    entries: Vec<Entry>,
}

impl Ledger {
    pub fn has_account(&self, key: AccountKey) -> bool {
        self.accounts.contains_key(&key)
    }
    pub fn has_hold(&self, order_id: OrderId) -> bool {
        self.holds.contains_key(&order_id)
    }
    pub fn has_cause(&self, cause: Cause, reference: Uuid) -> bool {
        self.causes.contains_key(&(cause, reference))
    }

    /// An account as it is stored; without a row it is untouched.
    pub fn load_account(&mut self, key: AccountKey, row: Option<Account>) {
        let stored = row.is_some();
        let row = row.unwrap_or_else(|| Account::untouched(key));
        self.accounts.entry(key).or_insert(Loaded { row, stored, changed: false });
    }
    pub fn load_hold(&mut self, order_id: OrderId, row: Option<Hold>) {
        self.holds.entry(order_id).or_insert(row.map(|row| Loaded { row, stored: true, changed: false }));
    }
    pub fn load_cause(&mut self, cause: Cause, reference: Uuid, settled: Option<Settled>) {
        self.causes.entry((cause, reference)).or_insert(settled);
    }

    pub fn account(&self, key: AccountKey) -> Result<&Account, Broken> {
        self.accounts.get(&key).map(|loaded| &loaded.row).ok_or_else(|| Broken(format!("account {key:?} was not loaded")))
    }

    pub fn hold(&self, order_id: OrderId) -> Result<Option<&Hold>, Broken> {
        let slot = self.holds.get(&order_id).ok_or_else(|| Broken(format!("the hold of {order_id} was not loaded")))?;
        Ok(slot.as_ref().map(|loaded| &loaded.row))
    }

    pub fn settled(&self, cause: Cause, reference: Uuid) -> Result<Option<Settled>, Broken> {
        self.causes.get(&(cause, reference)).copied().ok_or_else(|| Broken(format!("{} {reference} was not loaded", cause.as_str())))
    }

    /// What has to be written, each kind in the order of its keys: neighbours share pages.
    pub fn into_changes(self) -> Changes {
        let mut changes = Changes { transactions: self.transactions, entries: self.entries, ..Changes::default() };
        for loaded in self.accounts.into_values().filter(|loaded| loaded.changed) {
            if loaded.stored { &mut changes.changed_accounts } else { &mut changes.new_accounts }.push(loaded.row);
        }
        for loaded in self.holds.into_values().flatten().filter(|loaded| loaded.changed) {
            if loaded.stored { &mut changes.changed_holds } else { &mut changes.new_holds }.push(loaded.row);
        }
        changes.new_accounts.sort_unstable_by_key(|account| account.key);
        changes.changed_accounts.sort_unstable_by_key(|account| account.key);
        changes.new_holds.sort_unstable_by_key(|hold| hold.order_id);
        changes.changed_holds.sort_unstable_by_key(|hold| hold.order_id);
        changes.transactions.sort_unstable_by_key(|transaction| transaction.id);
        changes.entries.sort_unstable_by_key(|entry| (entry.tx_id, entry.account.owner));
        changes
    }

    /// Money from outside reaches a member. `id` is a fresh one.
    pub fn charge(&mut self, id: Uuid, member_id: MemberId, amount: Won, at: Timestamp) -> Result<Result<Received, Refusal>, Broken> {
        self.receive(Transaction::of(Cause::Charge, id, amount, at), CASH_IN, AccountKey::cash(member_id))
    }

    /// An operator gives a member points. `id` is a fresh one.
    pub fn grant(
        &mut self,
        id: Uuid,
        member_id: MemberId,
        amount: Won,
        note: Note,
        at: Timestamp,
    ) -> Result<Result<Received, Refusal>, Broken> {
        let grant = Transaction { note, ..Transaction::of(Cause::Grant, id, amount, at) };
        self.receive(grant, POINTS_GRANTED, AccountKey::reward(member_id))
    }

    fn receive(&mut self, transaction: Transaction, from: AccountKey, to: AccountKey) -> Result<Result<Received, Refusal>, Broken> {
        let tx_id = transaction.id;
        Ok(match self.transfer(transaction, from, to)? {
            Ok(()) => Ok(Received { tx_id, available: self.account(to)?.available() }),
            Err(_) => Err(Code::AmountOutOfRange.into()),
        })
    }

    /// Saga step: an order holds points.
    pub fn hold_points(&mut self, ask: &PointsHold, at: Timestamp) -> Result<Decision, Broken> {
        if let Some(hold) = self.hold(ask.order_id)? {
            return Ok(hold.answer_again());
        }
        let refused = if ask.amount.is_negative() {
            Some(Code::AmountOutOfRange)
        } else {
            self.account_mut(AccountKey::reward(ask.member_id))?.hold(ask.amount).err().map(|_| Code::InsufficientPoints)
        };
        let state = if refused.is_some() { HoldState::Refused } else { HoldState::Held };
        let (member_id, amount) = (Some(ask.member_id), ask.amount.max(Won::ZERO));
        let expires_at = Some(ask.expires_at);
        self.put_hold(Hold { order_id: ask.order_id, member_id, amount, state, refused, expires_at, at });
        Ok(refused.map_or(Ok(()), |code| Err(hold::refusal(code))))
    }

    /// Undo of [`Ledger::hold_points`], before or after the points were spent. Always succeeds; without a hold it leaves a tombstone.
    pub fn unhold_points(&mut self, order_id: OrderId, at: Timestamp) -> Result<(), Broken> {
        let Some(hold) = self.hold(order_id)?.cloned() else {
            self.put_hold(Hold::tombstone(order_id, at));
            return Ok(());
        };
        let Some(member_id) = hold.member_id else { return Ok(()) };
        let reward = AccountKey::reward(member_id);
        match hold.state {
            HoldState::Held => {
                self.account_mut(reward)?.unhold(hold.amount);
                self.put_hold(Hold { state: HoldState::Released, at, ..hold });
            }
            HoldState::Used => {
                let back = Transaction { order_id: Some(order_id), ..Transaction::of(Cause::Return, order_id.0, hold.amount, at) };
                self.transfer_all(back, POINTS_SPENT, reward)?;
                self.put_hold(Hold { state: HoldState::Returned, at, ..hold });
            }
            HoldState::Released | HoldState::Returned | HoldState::Refused | HoldState::Tombstone => {}
        }
        Ok(())
    }

    /// The order is paid: its held points are spent.
    pub fn use_points(&mut self, order_id: OrderId, at: Timestamp) -> Result<(), Broken> {
        let hold = self.hold(order_id)?.cloned().ok_or_else(|| Broken(format!("order {order_id} is paid but never held points")))?;
        match (hold.state, hold.member_id) {
            // A repeat, or one that comes after the order was undone: a paid order's slip back may overtake this in another stream.
            (HoldState::Used | HoldState::Returned | HoldState::Released, _) => Ok(()),
            (HoldState::Held, Some(member_id)) => {
                let reward = AccountKey::reward(member_id);
                self.account_mut(reward)?.unhold(hold.amount);
                let spend = Transaction { order_id: Some(order_id), ..Transaction::of(Cause::Use, order_id.0, hold.amount, at) };
                self.transfer_all(spend, reward, POINTS_SPENT)?;
                self.put_hold(Hold { state: HoldState::Used, at, ..hold });
                Ok(())
            }
            (state, _) => Err(Broken(format!("order {order_id} is paid but its points are {}", state.as_str()))),
        }
    }

    /// Cash moves from the member to the mall, once per payment. A refusal is kept: a repeat gets it again.
    pub fn debit(&mut self, ask: &WalletTransfer, at: Timestamp) -> Result<Decision, Broken> {
        if let Some(settled) = self.settled(Cause::Pay, ask.payment_id.0)? {
            return Ok(settled.refused.map_or(Ok(()), |code| Err(refused_payment(code))));
        }
        let pay = Transaction { order_id: Some(ask.order_id), ..Transaction::of(Cause::Pay, ask.payment_id.0, ask.amount, at) };
        let refused = if ask.amount.0 <= 0 {
            Code::AmountOutOfRange
        } else {
            match self.transfer(pay.clone(), AccountKey::cash(ask.member_id), SALES)? {
                Ok(()) => return Ok(Ok(())),
                Err(Denied::Short) => Code::InsufficientFunds,
                Err(Denied::OutOfRange) => Code::AmountOutOfRange,
            }
        };
        self.put_transaction(Transaction { refused: Some(refused), ..pay });
        Ok(Err(refused_payment(refused)))
    }

    /// Cash moves back, once per payment. Without a debit nothing moves, and a debit that comes later is refused.
    pub fn credit(&mut self, ask: &WalletTransfer, at: Timestamp) -> Result<(), Broken> {
        let back = |cause| Transaction { order_id: Some(ask.order_id), ..Transaction::of(cause, ask.payment_id.0, ask.amount, at) };
        let Some(paid) = self.settled(Cause::Pay, ask.payment_id.0)? else {
            self.put_transaction(Transaction { refused: Some(Code::StepTimedOut), ..back(Cause::Pay) });
            return Ok(());
        };
        if paid.refused.is_some() || self.settled(Cause::Refund, ask.payment_id.0)?.is_some() {
            return Ok(());
        }
        if ask.amount > paid.amount || ask.amount.0 <= 0 {
            return Err(Broken(format!("{} is to go back of payment {}, which took {}", ask.amount, ask.payment_id, paid.amount)));
        }
        self.transfer_all(back(Cause::Refund), SALES, AccountKey::cash(ask.member_id))
    }

    /// A confirmed purchase earns its share of what was paid in cash, rounded down.
    pub fn earn(&mut self, confirmed: &OrderConfirmed, basis_points: u32, at: Timestamp) -> Result<(), Broken> {
        let order_id = confirmed.order_id;
        let amount = confirmed.cash_paid.basis_points(basis_points);
        if amount.0 <= 0 || self.settled(Cause::Earn, order_id.0)?.is_some() {
            return Ok(());
        }
        let earn = Transaction { order_id: Some(order_id), ..Transaction::of(Cause::Earn, order_id.0, amount, at) };
        self.transfer_all(earn, POINTS_GRANTED, AccountKey::reward(confirmed.member_id))
    }

    /// An order was undone: what it earned goes back, as far as it is still there. Points already spent or held stay with the buyer;
    /// a balance never goes below 0 and nobody owes points.
    pub fn take_back_earned(&mut self, order_id: OrderId, member_id: MemberId, at: Timestamp) -> Result<(), Broken> {
        let Some(earned) = self.settled(Cause::Earn, order_id.0)? else { return Ok(()) };
        if self.settled(Cause::EarnBack, order_id.0)?.is_some() {
            return Ok(());
        }
        let reward = AccountKey::reward(member_id);
        let amount = earned.amount.min(self.account(reward)?.available());
        let back = Transaction { order_id: Some(order_id), ..Transaction::of(Cause::EarnBack, order_id.0, amount, at) };
        if amount.0 <= 0 {
            self.put_transaction(Transaction { amount: Won::ZERO, refused: Some(Code::InsufficientPoints), ..back });
            return Ok(());
        }
        self.transfer_all(back, reward, POINTS_GRANTED)
    }

    fn account_mut(&mut self, key: AccountKey) -> Result<&mut Account, Broken> {
        let loaded = self.accounts.get_mut(&key).ok_or_else(|| Broken(format!("account {key:?} was not loaded")))?;
        loaded.changed = true;
        Ok(&mut loaded.row)
    }

    fn put_hold(&mut self, row: Hold) {
        let slot = self.holds.entry(row.order_id).or_insert(None);
        let stored = slot.as_ref().is_some_and(|loaded| loaded.stored);
        *slot = Some(Loaded { row, stored, changed: true });
    }

    fn put_transaction(&mut self, transaction: Transaction) {
        let settled = Settled { amount: transaction.amount, refused: transaction.refused };
        self.causes.insert((transaction.cause, transaction.reference), Some(settled));
        self.transactions.push(transaction);
    }

    /// Both entries or none.
    fn transfer(&mut self, transaction: Transaction, from: AccountKey, to: AccountKey) -> Result<Result<(), Denied>, Broken> {
        let (id, amount, at) = (transaction.id, transaction.amount, transaction.at);
        if amount.0 <= 0 || from == to || from.kind.is_points() != to.kind.is_points() {
            return Err(Broken(format!("no transfer: {amount} from {from:?} to {to:?}")));
        }
        let (left, arrived) = match (self.account(from)?.after(Won(-amount.0)), self.account(to)?.after(amount)) {
            (Ok(left), Ok(arrived)) => (left, arrived),
            (Err(denied), _) | (_, Err(denied)) => return Ok(Err(denied)),
        };
        let out = self.account_mut(from)?.post(id, Won(-amount.0), left, at);
        let into = self.account_mut(to)?.post(id, amount, arrived, at);
        self.entries.extend([out, into]);
        self.put_transaction(transaction);
        Ok(Ok(()))
    }

    /// A transfer that was secured before: only broken books can deny it. Nothing moves for an amount of 0.
    fn transfer_all(&mut self, transaction: Transaction, from: AccountKey, to: AccountKey) -> Result<(), Broken> {
        if transaction.amount == Won::ZERO {
            return Ok(());
        }
        let what = format!("{} {}", transaction.cause.as_str(), transaction.reference);
        self.transfer(transaction, from, to)?.map_err(|denied| Broken(format!("{what} was secured but is {denied:?}")))
    }
}

/// The same words at every repeat.
fn refused_payment(code: Code) -> Refusal {
    match code {
        Code::InsufficientFunds => Refusal::new(code, "Your wallet's cash balance does not cover the payment"),
        Code::StepTimedOut => Refusal::new(code, "The payment was given up before it could be made"),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests;
