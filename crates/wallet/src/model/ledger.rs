//! The ledger in one database transaction: the loaded rows, the decisions, and the rows to write.
//!
//! Every movement is a transfer between two accounts, so its entries sum to zero by construction (I-L1). Every movement has a cause
//! that is settled once (I-L5). The store loads the rows before the decisions and writes the changes before the commit.

use super::{
    account::{Account, AccountKey, CASH_IN, Denied, LedgerEntry, POINTS_GRANTED, POINTS_SPENT, SALES},
    cause::{Cause, CauseOutcome, LedgerTransaction, Note},
    hold::{self, WalletHold, WalletHoldState},
};
use contracts::{
    Code, MemberId, OrderId, Refusal, Timestamp, Won,
    messages::{OrderConfirmed, PointsHold, WalletTransfer},
};
use kit::rows::Rows;
use std::{collections::HashMap, mem};
use uuid::Uuid;

/// A charge or grant: its transaction, and the balance available afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub tx_id: Uuid,
    pub available: Won,
}

/// A violated invariant, from a bug or corrupt data. The transaction must be rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerViolation(pub String);

type Decision = Result<(), Refusal>;

/// The rows that a transaction has loaded, and its unsaved transactions and entries.
#[derive(Default)]
pub struct Ledger {
    /// An account without a row is empty, and new once it changes.
    pub accounts: Rows<AccountKey, Account>,
    pub holds: Rows<OrderId, WalletHold>,
    /// `None`: loaded, but not settled.
    causes: HashMap<(Cause, Uuid), Option<CauseOutcome>>,
    transactions: Vec<LedgerTransaction>,
    entries: Vec<LedgerEntry>,
    /// Members with a closed account, whose points are to be forfeited before the end of the transaction.
    forfeits: Vec<MemberId>,
}

impl Ledger {
    pub fn has_cause(&self, cause: Cause, reference: Uuid) -> bool {
        self.causes.contains_key(&(cause, reference))
    }

    /// Adds the accounts found for these keys. The others are new and empty.
    pub fn load_accounts(&mut self, keys: Vec<AccountKey>, found: Vec<Account>) {
        self.accounts.add_found([], found.into_iter().map(|account| (account.key, account)));
        for key in keys {
            self.accounts.get_or_add(key, || Account::empty(key));
        }
    }

    pub fn load_cause(&mut self, cause: Cause, reference: Uuid, settled: Option<CauseOutcome>) {
        self.causes.entry((cause, reference)).or_insert(settled);
    }

    pub fn account(&self, key: AccountKey) -> Result<&Account, LedgerViolation> {
        self.accounts.get(key).ok_or_else(|| LedgerViolation(format!("account {key:?} was not loaded")))
    }

    pub fn hold(&self, order_id: OrderId) -> Result<Option<&WalletHold>, LedgerViolation> {
        self.holds.get_loaded(order_id, || LedgerViolation(format!("the hold of {order_id} was not loaded")))
    }

    pub fn outcome_of(&self, cause: Cause, reference: Uuid) -> Result<Option<CauseOutcome>, LedgerViolation> {
        self.causes
            .get(&(cause, reference))
            .copied()
            .ok_or_else(|| LedgerViolation(format!("{} {reference} was not loaded", cause.as_str())))
    }

    /// Takes the unsaved transactions and entries, each sorted by key because neighbours share database pages.
    pub fn take_appended(&mut self) -> (Vec<LedgerTransaction>, Vec<LedgerEntry>) {
        let (mut transactions, mut entries) = (mem::take(&mut self.transactions), mem::take(&mut self.entries));
        transactions.sort_unstable_by_key(|transaction| transaction.id);
        entries.sort_unstable_by_key(|entry| (entry.tx_id, entry.account.owner));
        (transactions, entries)
    }

    /// Adds money from outside to a member. `id` is new.
    pub fn charge(
        &mut self,
        id: Uuid,
        member_id: MemberId,
        amount: Won,
        at: Timestamp,
    ) -> Result<Result<Received, Refusal>, LedgerViolation> {
        self.receive(LedgerTransaction::of(Cause::Charge, id, amount, at), CASH_IN, AccountKey::cash(member_id))
    }

    /// Grants points to a member. `id` is new.
    pub fn grant(
        &mut self,
        id: Uuid,
        member_id: MemberId,
        amount: Won,
        note: Note,
        at: Timestamp,
    ) -> Result<Result<Received, Refusal>, LedgerViolation> {
        let grant = LedgerTransaction { note, ..LedgerTransaction::of(Cause::Grant, id, amount, at) };
        self.receive(grant, POINTS_GRANTED, AccountKey::reward(member_id))
    }

    fn receive(
        &mut self,
        transaction: LedgerTransaction,
        from: AccountKey,
        to: AccountKey,
    ) -> Result<Result<Received, Refusal>, LedgerViolation> {
        let tx_id = transaction.id;
        if self.account(to)?.closed_at.is_some() {
            return Ok(Err(Refusal::new(Code::InvalidField, "The member has closed the account.")));
        }
        Ok(match self.transfer(transaction, from, to)? {
            Ok(()) => Ok(Received { tx_id, available: self.account(to)?.available() }),
            Err(_) => Err(Code::AmountOutOfRange.into()),
        })
    }

    /// Ends the accounts of a member who closed the account: its points are forfeited, cash stays. A repeat changes nothing.
    pub fn close_member(&mut self, member_id: MemberId, at: Timestamp) -> Result<(), LedgerViolation> {
        for key in [AccountKey::cash(member_id), AccountKey::reward(member_id)] {
            if self.account(key)?.closed_at.is_none() {
                self.account_mut(key)?.closed_at = Some(at);
            }
        }
        self.forfeits.push(member_id);
        Ok(())
    }

    /// True while [`Ledger::forfeit_points`] has work. It needs the account [`POINTS_GRANTED`].
    pub fn has_forfeits(&self) -> bool {
        !self.forfeits.is_empty()
    }

    /// Takes the available points of closed accounts back. Held points follow when their order ends. `new_id` names each transaction.
    pub fn forfeit_points(&mut self, at: Timestamp, new_id: impl Fn() -> Uuid) -> Result<(), LedgerViolation> {
        for member_id in mem::take(&mut self.forfeits) {
            let reward = AccountKey::reward(member_id);
            let available = self.account(reward)?.available();
            let note = Note { reason: Some("account closed".into()), ..Note::default() };
            // Not assigned to an order: the entries of an order that was undone sum to zero.
            let forfeit = LedgerTransaction { note, ..LedgerTransaction::of(Cause::Forfeit, new_id(), available, at) };
            self.transfer_secured(forfeit, reward, POINTS_GRANTED)?;
        }
        Ok(())
    }

    /// Notes that an order gave points back. A closed account forfeits them.
    fn note_return(&mut self, member_id: MemberId) -> Result<(), LedgerViolation> {
        if self.account(AccountKey::reward(member_id))?.closed_at.is_some() {
            self.forfeits.push(member_id);
        }
        Ok(())
    }

    /// Saga step: holds points for an order.
    pub fn hold_points(&mut self, request: &PointsHold, at: Timestamp) -> Result<Decision, LedgerViolation> {
        if let Some(hold) = self.hold(request.order_id)? {
            return Ok(hold.repeated_answer());
        }
        let refused = if request.amount.is_negative() {
            Some(Code::AmountOutOfRange)
        } else {
            self.account_mut(AccountKey::reward(request.member_id))?.hold(request.amount).err().map(|_| Code::InsufficientPoints)
        };
        let state = if refused.is_some() { WalletHoldState::Refused } else { WalletHoldState::Held };
        let (member_id, amount) = (Some(request.member_id), request.amount.max(Won::ZERO));
        let expires_at = Some(request.expires_at);
        self.set_hold(WalletHold { order_id: request.order_id, member_id, amount, state, refused, expires_at, at });
        Ok(refused.map_or(Ok(()), |code| Err(hold::refusal(code))))
    }

    /// Undoes [`Ledger::hold_points`], before or after the points were spent. Without a hold it leaves a tombstone.
    pub fn unhold_points(&mut self, order_id: OrderId, at: Timestamp) -> Result<(), LedgerViolation> {
        let Some(hold) = self.hold(order_id)?.cloned() else {
            self.set_hold(WalletHold::tombstone(order_id, at));
            return Ok(());
        };
        let Some(member_id) = hold.member_id else { return Ok(()) };
        let reward = AccountKey::reward(member_id);
        match hold.state {
            WalletHoldState::Held => {
                self.account_mut(reward)?.unhold(hold.amount);
                self.set_hold(WalletHold { state: WalletHoldState::Released, at, ..hold });
                self.note_return(member_id)?;
            }
            WalletHoldState::Used => {
                let back =
                    LedgerTransaction { order_id: Some(order_id), ..LedgerTransaction::of(Cause::Return, order_id.0, hold.amount, at) };
                self.transfer_secured(back, POINTS_SPENT, reward)?;
                self.set_hold(WalletHold { state: WalletHoldState::Returned, at, ..hold });
                self.note_return(member_id)?;
            }
            WalletHoldState::Released | WalletHoldState::Returned | WalletHoldState::Refused | WalletHoldState::Tombstone => {}
        }
        Ok(())
    }

    /// Spends the held points of a paid order.
    pub fn use_points(&mut self, order_id: OrderId, at: Timestamp) -> Result<(), LedgerViolation> {
        let hold =
            self.hold(order_id)?.cloned().ok_or_else(|| LedgerViolation(format!("order {order_id} is paid but never held points")))?;
        match (hold.state, hold.member_id) {
            // A repeat, or a message after the undo of the order: the slip back of a paid order may overtake this one in another stream.
            (WalletHoldState::Used | WalletHoldState::Returned | WalletHoldState::Released, _) => Ok(()),
            (WalletHoldState::Held, Some(member_id)) => {
                let reward = AccountKey::reward(member_id);
                self.account_mut(reward)?.unhold(hold.amount);
                let spend =
                    LedgerTransaction { order_id: Some(order_id), ..LedgerTransaction::of(Cause::Use, order_id.0, hold.amount, at) };
                self.transfer_secured(spend, reward, POINTS_SPENT)?;
                self.set_hold(WalletHold { state: WalletHoldState::Used, at, ..hold });
                Ok(())
            }
            (state, _) => Err(LedgerViolation(format!("order {order_id} is paid but its points are {}", state.as_str()))),
        }
    }

    /// Moves cash from the member to the mall, once per payment. A refusal is recorded, and a repeat gets it again.
    pub fn debit(&mut self, request: &WalletTransfer, at: Timestamp) -> Result<Decision, LedgerViolation> {
        if let Some(settled) = self.outcome_of(Cause::Pay, request.payment_id.0)? {
            return Ok(settled.refused.map_or(Ok(()), |code| Err(refused_payment(code))));
        }
        let pay = LedgerTransaction {
            order_id: Some(request.order_id),
            ..LedgerTransaction::of(Cause::Pay, request.payment_id.0, request.amount, at)
        };
        let refused = if request.amount.0 <= 0 {
            Code::AmountOutOfRange
        } else {
            match self.transfer(pay.clone(), AccountKey::cash(request.member_id), SALES)? {
                Ok(()) => return Ok(Ok(())),
                Err(Denied::Insufficient) => Code::InsufficientFunds,
                Err(Denied::OutOfRange) => Code::AmountOutOfRange,
            }
        };
        self.record_transaction(LedgerTransaction { refused: Some(refused), ..pay });
        Ok(Err(refused_payment(refused)))
    }

    /// Moves cash back, once per payment. Without a debit nothing moves, and a later debit is refused.
    pub fn credit(&mut self, request: &WalletTransfer, at: Timestamp) -> Result<(), LedgerViolation> {
        let back = |cause| LedgerTransaction {
            order_id: Some(request.order_id),
            ..LedgerTransaction::of(cause, request.payment_id.0, request.amount, at)
        };
        let Some(paid) = self.outcome_of(Cause::Pay, request.payment_id.0)? else {
            self.record_transaction(LedgerTransaction { refused: Some(Code::StepTimedOut), ..back(Cause::Pay) });
            return Ok(());
        };
        if paid.refused.is_some() || self.outcome_of(Cause::Refund, request.payment_id.0)?.is_some() {
            return Ok(());
        }
        if request.amount > paid.amount || request.amount.0 <= 0 {
            return Err(LedgerViolation(format!(
                "{} is to go back of payment {}, which took {}",
                request.amount, request.payment_id, paid.amount
            )));
        }
        self.transfer_secured(back(Cause::Refund), SALES, AccountKey::cash(request.member_id))
    }

    /// Grants the points that a confirmed purchase earns: a share of the cash paid, rounded down. A closed account earns none.
    pub fn earn(&mut self, confirmed: &OrderConfirmed, basis_points: u32, at: Timestamp) -> Result<(), LedgerViolation> {
        let order_id = confirmed.order_id;
        let amount = confirmed.cash_paid.basis_points(basis_points);
        let is_closed = self.account(AccountKey::reward(confirmed.member_id))?.closed_at.is_some();
        if amount.0 <= 0 || is_closed || self.outcome_of(Cause::Earn, order_id.0)?.is_some() {
            return Ok(());
        }
        let earn = LedgerTransaction { order_id: Some(order_id), ..LedgerTransaction::of(Cause::Earn, order_id.0, amount, at) };
        self.transfer_secured(earn, POINTS_GRANTED, AccountKey::reward(confirmed.member_id))
    }

    /// Takes back the points that an undone order earned, up to the available points. Points already spent or held stay with the
    /// buyer, because a balance never falls below 0.
    pub fn take_back_earned(&mut self, order_id: OrderId, member_id: MemberId, at: Timestamp) -> Result<(), LedgerViolation> {
        let Some(earned) = self.outcome_of(Cause::Earn, order_id.0)? else { return Ok(()) };
        if self.outcome_of(Cause::EarnBack, order_id.0)?.is_some() {
            return Ok(());
        }
        let reward = AccountKey::reward(member_id);
        let amount = earned.amount.min(self.account(reward)?.available());
        let back = LedgerTransaction { order_id: Some(order_id), ..LedgerTransaction::of(Cause::EarnBack, order_id.0, amount, at) };
        if amount.0 <= 0 {
            self.record_transaction(LedgerTransaction { amount: Won::ZERO, refused: Some(Code::InsufficientPoints), ..back });
            return Ok(());
        }
        self.transfer_secured(back, reward, POINTS_GRANTED)
    }

    fn account_mut(&mut self, key: AccountKey) -> Result<&mut Account, LedgerViolation> {
        let account = self.accounts.get_mut(key).ok_or_else(|| LedgerViolation(format!("account {key:?} was not loaded")))?;
        Ok(account)
    }

    fn set_hold(&mut self, hold: WalletHold) {
        self.holds.put(hold.order_id, hold);
    }

    fn record_transaction(&mut self, transaction: LedgerTransaction) {
        let settled = CauseOutcome { amount: transaction.amount, refused: transaction.refused };
        self.causes.insert((transaction.cause, transaction.reference), Some(settled));
        self.transactions.push(transaction);
    }

    /// Writes both entries, or none if the amount is denied.
    fn transfer(
        &mut self,
        transaction: LedgerTransaction,
        from: AccountKey,
        to: AccountKey,
    ) -> Result<Result<(), Denied>, LedgerViolation> {
        let (id, amount, at) = (transaction.id, transaction.amount, transaction.at);
        if amount.0 <= 0 || from == to || from.kind.is_points() != to.kind.is_points() {
            return Err(LedgerViolation(format!("no transfer: {amount} from {from:?} to {to:?}")));
        }
        let (left, arrived) = match (self.account(from)?.balance_after(Won(-amount.0)), self.account(to)?.balance_after(amount)) {
            (Ok(left), Ok(arrived)) => (left, arrived),
            (Err(denied), _) | (_, Err(denied)) => return Ok(Err(denied)),
        };
        let out = self.account_mut(from)?.append_entry(id, Won(-amount.0), left, at);
        let into = self.account_mut(to)?.append_entry(id, amount, arrived, at);
        self.entries.extend([out, into]);
        self.record_transaction(transaction);
        Ok(Ok(()))
    }

    /// A transfer whose amount was secured before, so that a denial is a violation. An amount of 0 moves nothing.
    fn transfer_secured(&mut self, transaction: LedgerTransaction, from: AccountKey, to: AccountKey) -> Result<(), LedgerViolation> {
        if transaction.amount == Won::ZERO {
            return Ok(());
        }
        let cause = format!("{} {}", transaction.cause.as_str(), transaction.reference);
        self.transfer(transaction, from, to)?.map_err(|denied| LedgerViolation(format!("{cause} was secured but is denied: {denied:?}")))
    }
}

/// The refusal of a payment, the same at every repeat.
fn refused_payment(code: Code) -> Refusal {
    match code {
        Code::InsufficientFunds => Refusal::new(code, "Your wallet's cash balance does not cover the payment"),
        Code::StepTimedOut => Refusal::new(code, "The payment was given up before it could be made"),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests;
