//! The rules of the ledger: random operations, then single cases.

use super::*;
use crate::model::{
    account::{AccountKind, GENESIS, ledger_hash},
    cause::transaction_id,
};
use contracts::PaymentId;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// The tables of the wallet, in memory.
#[derive(Clone, Default)]
struct StoredLedger {
    accounts: BTreeMap<AccountKey, Account>,
    holds: BTreeMap<OrderId, WalletHold>,
    transactions: Vec<LedgerTransaction>,
    entries: Vec<LedgerEntry>,
    next_id: u128,
}

#[derive(Clone, Debug)]
enum LedgerOp {
    Charge { member: u8, amount: i64 },
    Grant { member: u8, amount: i64 },
    Hold { order: u8, member: u8, amount: i64 },
    Unhold { order: u8 },
    Use { order: u8 },
    Debit { payment: u8, member: u8, amount: i64 },
    Credit { payment: u8, member: u8, amount: i64 },
    Earn { order: u8, member: u8, paid: i64 },
    TakeBack { order: u8, member: u8 },
}

fn member(n: u8) -> MemberId {
    MemberId(Uuid::from_u128(0x100 + u128::from(n)))
}
fn order(n: u8) -> OrderId {
    OrderId(Uuid::from_u128(0x200 + u128::from(n)))
}
fn payment(n: u8) -> PaymentId {
    PaymentId(Uuid::from_u128(0x300 + u128::from(n)))
}

impl StoredLedger {
    /// A ledger with all stored rows loaded.
    fn load(&self) -> Ledger {
        let mut ledger = Ledger::default();
        let members = (0..4).flat_map(|n| [AccountKey::cash(member(n)), AccountKey::reward(member(n))]);
        for key in members.chain([CASH_IN, SALES, POINTS_GRANTED, POINTS_SPENT]) {
            ledger.load_accounts(vec![key], self.accounts.get(&key).cloned().into_iter().collect());
        }
        for n in 0..6 {
            ledger.holds.add_found([order(n)], self.holds.get(&order(n)).map(|hold| (order(n), hold.clone())));
            for (cause, reference) in
                [(Cause::Earn, order(n).0), (Cause::EarnBack, order(n).0), (Cause::Pay, payment(n).0), (Cause::Refund, payment(n).0)]
            {
                let found = self.transactions.iter().find(|tx| tx.cause == cause && tx.reference == reference);
                ledger.load_cause(cause, reference, found.map(|tx| CauseOutcome { amount: tx.amount, refused: tx.refused }));
            }
        }
        ledger
    }

    fn save(&mut self, mut ledger: Ledger) {
        let accounts = ledger.accounts.take_changed();
        for account in accounts.new.into_iter().chain(accounts.existing) {
            self.accounts.insert(account.key, Account { version: account.version + 1, ..account.clone() });
        }
        let holds = ledger.holds.take_changed();
        for hold in holds.new.into_iter().chain(holds.existing) {
            self.holds.insert(hold.order_id, hold.clone());
        }
        let (transactions, entries) = ledger.take_appended();
        self.transactions.extend(transactions);
        self.entries.extend(entries);
        self.entries.sort_by_key(|entry| (entry.account, entry.n));
    }

    /// One database transaction: all operations, or none if one violates an invariant.
    fn run_transaction(&mut self, ops: &[LedgerOp]) {
        let mut ledger = self.load();
        let at = Timestamp(1_000);
        for op in ops {
            self.next_id += 1;
            if apply(&mut ledger, op, Uuid::from_u128(self.next_id), at).is_err() {
                return;
            }
        }
        self.save(ledger);
    }

    fn balance(&self, key: AccountKey) -> i64 {
        self.accounts.get(&key).map_or(0, |account| account.balance.0)
    }

    fn check(&self) {
        let mut sums: BTreeMap<Uuid, i64> = BTreeMap::new();
        for entry in &self.entries {
            *sums.entry(entry.tx_id).or_default() += entry.amount.0;
        }
        assert!(sums.values().all(|sum| *sum == 0), "I-L1");
        for (key, account) in &self.accounts {
            let own: Vec<&LedgerEntry> = self.entries.iter().filter(|entry| entry.account == *key).collect();
            let mut running = 0;
            let mut hash = GENESIS;
            for (n, entry) in (1..).zip(&own) {
                running += entry.amount.0;
                assert_eq!((entry.n, entry.balance_after.0), (n, running), "I-L2 {key:?}");
                assert!(!key.kind.is_member_account() || running >= 0, "I-L3 {key:?}");
                hash = ledger_hash(&hash, entry.tx_id, n, entry.amount, entry.at);
                assert_eq!(entry.hash, hash, "I-L4 {key:?}");
            }
            assert_eq!((account.balance.0, account.head), (running, hash), "I-L2, I-L4 {key:?}");
            let held: i64 = self
                .holds
                .values()
                .filter(|hold| hold.state == WalletHoldState::Held)
                .map(|hold| if hold.member_id.map(AccountKey::reward) == Some(*key) { hold.amount.0 } else { 0 })
                .sum();
            assert_eq!(account.held.0, held, "held {key:?}");
            assert!(!key.kind.is_member_account() || account.held <= account.balance);
        }
        let causes: HashSet<_> = self.transactions.iter().map(|tx| (tx.cause, tx.reference)).collect();
        assert_eq!(causes.len(), self.transactions.len(), "I-L5");
        let ids: HashSet<Uuid> = self.transactions.iter().map(|tx| tx.id).collect();
        assert_eq!(ids.len(), self.transactions.len(), "an id identifies its cause");
        for points in [true, false] {
            let total: i64 = AccountKind::ALL
                .into_iter()
                .filter(|kind| kind.is_points() == points)
                .map(|kind| self.accounts.values().filter(|account| account.key.kind == kind).map(|account| account.balance.0).sum::<i64>())
                .sum();
            assert_eq!(total, 0, "all balances sum to zero");
        }
    }
}

fn apply(ledger: &mut Ledger, op: &LedgerOp, id: Uuid, at: Timestamp) -> Result<bool, LedgerViolation> {
    let transfer = |n: u8, m: u8, amount: i64| WalletTransfer {
        payment_id: payment(n),
        order_id: order(n),
        member_id: member(m),
        amount: Won(amount),
    };
    Ok(match *op {
        LedgerOp::Charge { member: m, amount } => ledger.charge(id, member(m), Won(amount), at)?.is_ok(),
        LedgerOp::Grant { member: m, amount } => ledger.grant(id, member(m), Won(amount), Note::default(), at)?.is_ok(),
        LedgerOp::Hold { order: o, member: m, amount } => {
            let request = PointsHold { order_id: order(o), member_id: member(m), amount: Won(amount), expires_at: Timestamp(9_000) };
            ledger.hold_points(&request, at)?.is_ok()
        }
        LedgerOp::Unhold { order: o } => ledger.unhold_points(order(o), at).map(|()| true)?,
        LedgerOp::Use { order: o } => ledger.use_points(order(o), at).map(|()| true)?,
        LedgerOp::Debit { payment: p, member: m, amount } => ledger.debit(&transfer(p, m, amount), at)?.is_ok(),
        LedgerOp::Credit { payment: p, member: m, amount } => ledger.credit(&transfer(p, m, amount), at).map(|()| true)?,
        LedgerOp::Earn { order: o, member: m, paid } => {
            let confirmed = OrderConfirmed { order_id: order(o), member_id: member(m), cash_paid: Won(paid) };
            ledger.earn(&confirmed, 100, at).map(|()| true)?
        }
        LedgerOp::TakeBack { order: o, member: m } => ledger.take_back_earned(order(o), member(m), at).map(|()| true)?,
    })
}

fn op() -> impl Strategy<Value = LedgerOp> {
    let (m, k, amount) = (0..4u8, 0..6u8, 1..5_000i64);
    prop_oneof![
        2 => (m.clone(), amount.clone()).prop_map(|(member, amount)| LedgerOp::Charge { member, amount }),
        2 => (m.clone(), amount.clone()).prop_map(|(member, amount)| LedgerOp::Grant { member, amount }),
        3 => (k.clone(), m.clone(), -5..3_000i64).prop_map(|(order, member, amount)| LedgerOp::Hold { order, member, amount }),
        2 => k.clone().prop_map(|order| LedgerOp::Unhold { order }),
        1 => k.clone().prop_map(|order| LedgerOp::Use { order }),
        3 => (k.clone(), m.clone(), -5..3_000i64).prop_map(|(payment, member, amount)| LedgerOp::Debit { payment, member, amount }),
        2 => (k.clone(), m.clone(), amount.clone()).prop_map(|(payment, member, amount)| LedgerOp::Credit { payment, member, amount }),
        1 => (k.clone(), m.clone(), 0..500_000i64).prop_map(|(order, member, paid)| LedgerOp::Earn { order, member, paid }),
        1 => (k, m).prop_map(|(order, member)| LedgerOp::TakeBack { order, member }),
    ]
}

proptest! {
    // B1, B3, B4, B5; I-L1 to I-L5: any operations in any transactions, with repeats.
    #[test]
    fn the_ledger_balances_after_any_operations(batches in prop::collection::vec(prop::collection::vec(op(), 1..6), 1..40)) {
        let mut stored = StoredLedger::default();
        for batch in &batches {
            stored.run_transaction(batch);
            stored.check();
        }
    }

    // The grouping of operations into transactions does not change the balances.
    #[test]
    fn one_transaction_or_many_give_the_same_balances(ops in prop::collection::vec(op(), 1..40)) {
        let mut single = StoredLedger::default();
        for op in &ops {
            single.run_transaction(std::slice::from_ref(op));
        }
        // Only operations that succeed alone share a transaction, because a violation rolls back its neighbours.
        let mut probe = StoredLedger::default();
        let valid: Vec<LedgerOp> = ops.iter().filter(|op| {
            let before = probe.next_id;
            let mut ledger = probe.load();
            let valid = apply(&mut ledger, op, Uuid::from_u128(before + 1), Timestamp(1_000)).is_ok();
            probe.run_transaction(std::slice::from_ref(op));
            valid
        }).cloned().collect();
        let mut grouped = StoredLedger::default();
        grouped.run_transaction(&valid);
        for key in single.accounts.keys() {
            prop_assert_eq!(single.balance(*key), grouped.balance(*key));
        }
    }
}

fn funded_ledger() -> StoredLedger {
    let mut stored = StoredLedger::default();
    stored.run_transaction(&[LedgerOp::Charge { member: 0, amount: 10_000 }, LedgerOp::Grant { member: 0, amount: 1_000 }]);
    stored
}

// B4: the points of a failed order leave no entries; those of an undone paid order are returned.
#[test]
fn points_are_returned_before_and_after_use() {
    let mut stored = funded_ledger();
    let entries = stored.entries.len();
    stored.run_transaction(&[LedgerOp::Hold { order: 1, member: 0, amount: 400 }, LedgerOp::Unhold { order: 1 }]);
    assert_eq!((stored.entries.len(), stored.holds[&order(1)].state), (entries, WalletHoldState::Released));
    stored.run_transaction(&[LedgerOp::Hold { order: 2, member: 0, amount: 400 }, LedgerOp::Use { order: 2 }]);
    assert_eq!(stored.balance(AccountKey::reward(member(0))), 600);
    stored.run_transaction(&[LedgerOp::Unhold { order: 2 }, LedgerOp::Unhold { order: 2 }, LedgerOp::Use { order: 2 }]);
    assert_eq!((stored.balance(AccountKey::reward(member(0))), stored.holds[&order(2)].state), (1_000, WalletHoldState::Returned));
    stored.check();
}

// G4: a step that comes after its undo is refused permanently.
#[test]
fn a_tombstone_refuses_the_late_hold_and_the_late_debit() {
    let mut stored = funded_ledger();
    stored.run_transaction(&[LedgerOp::Unhold { order: 1 }, LedgerOp::Credit { payment: 1, member: 0, amount: 100 }]);
    let mut ledger = stored.load();
    let hold = PointsHold { order_id: order(1), member_id: member(0), amount: Won(1), expires_at: Timestamp(9_000) };
    assert_eq!(ledger.hold_points(&hold, Timestamp(2)).map(|d| d.map_err(|r| r.code)), Ok(Err(Code::StepTimedOut)));
    let debit = WalletTransfer { payment_id: payment(1), order_id: order(1), member_id: member(0), amount: Won(100) };
    let decision = ledger.debit(&debit, Timestamp(2));
    assert_eq!(decision.map(|d| d.map_err(|r| r.code)), Ok(Err(Code::StepTimedOut)));
    assert!(ledger.take_appended().1.is_empty());
}

// G4: a refusal is recorded, so that a repeat cannot succeed after the order gave up.
#[test]
fn a_refusal_stays_a_refusal() {
    let mut stored = StoredLedger::default();
    stored.run_transaction(&[LedgerOp::Hold { order: 1, member: 0, amount: 5 }, LedgerOp::Debit { payment: 1, member: 0, amount: 5 }]);
    stored.run_transaction(&[LedgerOp::Charge { member: 0, amount: 100 }, LedgerOp::Grant { member: 0, amount: 100 }]);
    stored.run_transaction(&[LedgerOp::Hold { order: 1, member: 0, amount: 5 }, LedgerOp::Debit { payment: 1, member: 0, amount: 5 }]);
    assert_eq!((stored.balance(AccountKey::cash(member(0))), stored.balance(AccountKey::reward(member(0)))), (100, 100));
    assert_eq!(stored.accounts[&AccountKey::reward(member(0))].held, Won(0));
}

// B4: the points that an undone order earned are taken back up to the available points, never below 0.
#[test]
fn earned_points_are_taken_back_up_to_the_available() {
    let mut stored = StoredLedger::default();
    stored.run_transaction(&[LedgerOp::Earn { order: 1, member: 0, paid: 99_950 }]);
    assert_eq!(stored.balance(AccountKey::reward(member(0))), 999, "1 %, rounded down");
    stored.run_transaction(&[
        LedgerOp::Hold { order: 2, member: 0, amount: 600 },
        LedgerOp::Use { order: 2 },
        LedgerOp::Hold { order: 3, member: 0, amount: 100 },
    ]);
    stored.run_transaction(&[LedgerOp::TakeBack { order: 1, member: 0 }]);
    assert_eq!(stored.balance(AccountKey::reward(member(0))), 100, "only the held points are left");
    stored.run_transaction(&[
        LedgerOp::Unhold { order: 3 },
        LedgerOp::TakeBack { order: 1, member: 0 },
        LedgerOp::Earn { order: 1, member: 0, paid: 99_950 },
    ]);
    assert_eq!(stored.balance(AccountKey::reward(member(0))), 100, "once");
    stored.check();
}

#[test]
fn a_refund_never_exceeds_its_payment() {
    let mut stored = funded_ledger();
    stored.run_transaction(&[LedgerOp::Debit { payment: 1, member: 0, amount: 3_000 }]);
    let mut ledger = stored.load();
    let credit = LedgerOp::Credit { payment: 1, member: 0, amount: 3_001 };
    assert!(apply(&mut ledger, &credit, Uuid::from_u128(99), Timestamp(2)).is_err());
    stored.run_transaction(&[
        LedgerOp::Credit { payment: 1, member: 0, amount: 3_000 },
        LedgerOp::Credit { payment: 1, member: 0, amount: 3_000 },
    ]);
    assert_eq!(stored.balance(AccountKey::cash(member(0))), 10_000);
}

#[test]
fn money_never_becomes_points() {
    let mut ledger = funded_ledger().load();
    let tx = LedgerTransaction::of(Cause::Use, Uuid::from_u128(9), Won(1), Timestamp(1));
    assert!(ledger.transfer(tx, AccountKey::cash(member(0)), POINTS_SPENT).is_err());
}

#[test]
fn a_transaction_id_has_the_cause_and_the_time() {
    let order: Uuid = "0196e3a0-1111-7abc-8def-0123456789ab".parse().expect("a uuid");
    assert_eq!(transaction_id(Cause::Use, order).to_string(), "0196e3a0-1111-aabc-8def-0123456789ab");
    assert_ne!(transaction_id(Cause::Use, order), transaction_id(Cause::Return, order));
}
