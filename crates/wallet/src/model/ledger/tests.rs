use super::*;
use crate::model::{
    account::{GENESIS, Kind, ledger_hash},
    cause::transaction_id,
};
use contracts::PaymentId;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// What a database would hold.
#[derive(Clone, Default)]
struct Books {
    accounts: BTreeMap<AccountKey, Account>,
    holds: BTreeMap<OrderId, Hold>,
    transactions: Vec<Transaction>,
    entries: Vec<Entry>,
    next_id: u128,
}

#[derive(Clone, Debug)]
enum Op {
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

impl Books {
    /// A ledger with everything of these books loaded, and the absence of the rest.
    fn open(&self) -> Ledger {
        let mut ledger = Ledger::default();
        let members = (0..4).flat_map(|n| [AccountKey::cash(member(n)), AccountKey::reward(member(n))]);
        for key in members.chain([CASH_IN, SALES, POINTS_GRANTED, POINTS_SPENT]) {
            ledger.load_account(key, self.accounts.get(&key).cloned());
        }
        for n in 0..6 {
            ledger.load_hold(order(n), self.holds.get(&order(n)).cloned());
            for (cause, reference) in
                [(Cause::Earn, order(n).0), (Cause::EarnBack, order(n).0), (Cause::Pay, payment(n).0), (Cause::Refund, payment(n).0)]
            {
                let found = self.transactions.iter().find(|tx| tx.cause == cause && tx.reference == reference);
                ledger.load_cause(cause, reference, found.map(|tx| Settled { amount: tx.amount, refused: tx.refused }));
            }
        }
        ledger
    }

    fn save(&mut self, ledger: Ledger) {
        let changes = ledger.into_changes();
        for account in changes.new_accounts.into_iter().chain(changes.changed_accounts) {
            self.accounts.insert(account.key, Account { version: account.version + 1, ..account });
        }
        for hold in changes.new_holds.into_iter().chain(changes.changed_holds) {
            self.holds.insert(hold.order_id, hold);
        }
        self.transactions.extend(changes.transactions);
        self.entries.extend(changes.entries);
        self.entries.sort_by_key(|entry| (entry.account, entry.n));
    }

    /// One database transaction: all of it, or nothing when the books would break.
    fn settle(&mut self, ops: &[Op]) {
        let mut ledger = self.open();
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
            let own: Vec<&Entry> = self.entries.iter().filter(|entry| entry.account == *key).collect();
            let mut running = 0;
            let mut hash = GENESIS;
            for (n, entry) in (1..).zip(&own) {
                running += entry.amount.0;
                assert_eq!((entry.n, entry.balance_after.0), (n, running), "I-L2 {key:?}");
                assert!(!key.kind.is_members() || running >= 0, "I-L3 {key:?}");
                hash = ledger_hash(&hash, entry.tx_id, n, entry.amount, entry.at);
                assert_eq!(entry.hash, hash, "I-L4 {key:?}");
            }
            assert_eq!((account.balance.0, account.head), (running, hash), "I-L2, I-L4 {key:?}");
            let held: i64 = self
                .holds
                .values()
                .filter(|hold| hold.state == HoldState::Held)
                .map(|hold| if hold.member_id.map(AccountKey::reward) == Some(*key) { hold.amount.0 } else { 0 })
                .sum();
            assert_eq!(account.held.0, held, "held {key:?}");
            assert!(!key.kind.is_members() || account.held <= account.balance);
        }
        let causes: HashSet<_> = self.transactions.iter().map(|tx| (tx.cause, tx.reference)).collect();
        assert_eq!(causes.len(), self.transactions.len(), "I-L5");
        let ids: HashSet<Uuid> = self.transactions.iter().map(|tx| tx.id).collect();
        assert_eq!(ids.len(), self.transactions.len(), "an id names its cause");
        for points in [true, false] {
            let total: i64 = Kind::ALL
                .into_iter()
                .filter(|kind| kind.is_points() == points)
                .map(|kind| self.accounts.values().filter(|account| account.key.kind == kind).map(|account| account.balance.0).sum::<i64>())
                .sum();
            assert_eq!(total, 0, "nothing comes from nowhere");
        }
    }
}

fn apply(ledger: &mut Ledger, op: &Op, id: Uuid, at: Timestamp) -> Result<bool, Broken> {
    let transfer = |n: u8, m: u8, amount: i64| WalletTransfer {
        payment_id: payment(n),
        order_id: order(n),
        member_id: member(m),
        amount: Won(amount),
    };
    Ok(match *op {
        Op::Charge { member: m, amount } => ledger.charge(id, member(m), Won(amount), at)?.is_ok(),
        Op::Grant { member: m, amount } => ledger.grant(id, member(m), Won(amount), Note::default(), at)?.is_ok(),
        Op::Hold { order: o, member: m, amount } => {
            let ask = PointsHold { order_id: order(o), member_id: member(m), amount: Won(amount), expires_at: Timestamp(9_000) };
            ledger.hold_points(&ask, at)?.is_ok()
        }
        Op::Unhold { order: o } => ledger.unhold_points(order(o), at).map(|()| true)?,
        Op::Use { order: o } => ledger.use_points(order(o), at).map(|()| true)?,
        Op::Debit { payment: p, member: m, amount } => ledger.debit(&transfer(p, m, amount), at)?.is_ok(),
        Op::Credit { payment: p, member: m, amount } => ledger.credit(&transfer(p, m, amount), at).map(|()| true)?,
        Op::Earn { order: o, member: m, paid } => {
            let confirmed = OrderConfirmed { order_id: order(o), member_id: member(m), cash_paid: Won(paid) };
            ledger.earn(&confirmed, 100, at).map(|()| true)?
        }
        Op::TakeBack { order: o, member: m } => ledger.take_back_earned(order(o), member(m), at).map(|()| true)?,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let (m, k, amount) = (0..4u8, 0..6u8, 1..5_000i64);
    prop_oneof![
        2 => (m.clone(), amount.clone()).prop_map(|(member, amount)| Op::Charge { member, amount }),
        2 => (m.clone(), amount.clone()).prop_map(|(member, amount)| Op::Grant { member, amount }),
        3 => (k.clone(), m.clone(), -5..3_000i64).prop_map(|(order, member, amount)| Op::Hold { order, member, amount }),
        2 => k.clone().prop_map(|order| Op::Unhold { order }),
        1 => k.clone().prop_map(|order| Op::Use { order }),
        3 => (k.clone(), m.clone(), -5..3_000i64).prop_map(|(payment, member, amount)| Op::Debit { payment, member, amount }),
        2 => (k.clone(), m.clone(), amount.clone()).prop_map(|(payment, member, amount)| Op::Credit { payment, member, amount }),
        1 => (k.clone(), m.clone(), 0..500_000i64).prop_map(|(order, member, paid)| Op::Earn { order, member, paid }),
        1 => (k, m).prop_map(|(order, member)| Op::TakeBack { order, member }),
    ]
}

proptest! {
    // B1, B3, B4, B5; I-L1 to I-L5: any operations, any grouping into transactions, repeats included.
    #[test]
    fn the_books_balance_whatever_happens(batches in prop::collection::vec(prop::collection::vec(op(), 1..6), 1..40)) {
        let mut books = Books::default();
        for batch in &batches {
            books.settle(batch);
            books.check();
        }
    }

    // How operations are grouped into transactions changes nothing.
    #[test]
    fn one_transaction_or_many_come_to_the_same(ops in prop::collection::vec(op(), 1..40)) {
        let mut single = Books::default();
        for op in &ops {
            single.settle(std::slice::from_ref(op));
        }
        // Only operations that stand alone can share a transaction: a broken one takes its neighbours with it.
        let mut trial = Books::default();
        let sound: Vec<Op> = ops.iter().filter(|op| {
            let before = trial.next_id;
            let mut ledger = trial.open();
            let sound = apply(&mut ledger, op, Uuid::from_u128(before + 1), Timestamp(1_000)).is_ok();
            trial.settle(std::slice::from_ref(op));
            sound
        }).cloned().collect();
        let mut grouped = Books::default();
        grouped.settle(&sound);
        for key in single.accounts.keys() {
            prop_assert_eq!(single.balance(*key), grouped.balance(*key));
        }
    }
}

fn rich() -> Books {
    let mut books = Books::default();
    books.settle(&[Op::Charge { member: 0, amount: 10_000 }, Op::Grant { member: 0, amount: 1_000 }]);
    books
}

// B4: points of a failed order leave no trace in the ledger; those of an undone paid order come back.
#[test]
fn points_come_back_before_and_after_they_are_spent() {
    let mut books = rich();
    let entries = books.entries.len();
    books.settle(&[Op::Hold { order: 1, member: 0, amount: 400 }, Op::Unhold { order: 1 }]);
    assert_eq!((books.entries.len(), books.holds[&order(1)].state), (entries, HoldState::Released));
    books.settle(&[Op::Hold { order: 2, member: 0, amount: 400 }, Op::Use { order: 2 }]);
    assert_eq!(books.balance(AccountKey::reward(member(0))), 600);
    books.settle(&[Op::Unhold { order: 2 }, Op::Unhold { order: 2 }, Op::Use { order: 2 }]);
    assert_eq!((books.balance(AccountKey::reward(member(0))), books.holds[&order(2)].state), (1_000, HoldState::Returned));
    books.check();
}

// G4: an undo that comes first refuses its do for good.
#[test]
fn a_tombstone_refuses_the_late_hold_and_the_late_debit() {
    let mut books = rich();
    books.settle(&[Op::Unhold { order: 1 }, Op::Credit { payment: 1, member: 0, amount: 100 }]);
    let mut ledger = books.open();
    let hold = PointsHold { order_id: order(1), member_id: member(0), amount: Won(1), expires_at: Timestamp(9_000) };
    assert_eq!(ledger.hold_points(&hold, Timestamp(2)).map(|d| d.map_err(|r| r.code)), Ok(Err(Code::StepTimedOut)));
    let debit = WalletTransfer { payment_id: payment(1), order_id: order(1), member_id: member(0), amount: Won(100) };
    let decision = ledger.debit(&debit, Timestamp(2));
    assert_eq!(decision.map(|d| d.map_err(|r| r.code)), Ok(Err(Code::StepTimedOut)));
    assert!(ledger.into_changes().entries.is_empty());
}

// G4: a refusal is remembered, so that a repeat cannot succeed behind the back of an order that gave up.
#[test]
fn a_refusal_stays_a_refusal() {
    let mut books = Books::default();
    books.settle(&[Op::Hold { order: 1, member: 0, amount: 5 }, Op::Debit { payment: 1, member: 0, amount: 5 }]);
    books.settle(&[Op::Charge { member: 0, amount: 100 }, Op::Grant { member: 0, amount: 100 }]);
    books.settle(&[Op::Hold { order: 1, member: 0, amount: 5 }, Op::Debit { payment: 1, member: 0, amount: 5 }]);
    assert_eq!((books.balance(AccountKey::cash(member(0))), books.balance(AccountKey::reward(member(0)))), (100, 100));
    assert_eq!(books.accounts[&AccountKey::reward(member(0))].held, Won(0));
}

// B4: what an undone order earned is taken back as far as it is there, never below 0.
#[test]
fn earned_points_are_taken_back_as_far_as_they_are_there() {
    let mut books = Books::default();
    books.settle(&[Op::Earn { order: 1, member: 0, paid: 99_950 }]);
    assert_eq!(books.balance(AccountKey::reward(member(0))), 999, "1 %, rounded down");
    books.settle(&[Op::Hold { order: 2, member: 0, amount: 600 }, Op::Use { order: 2 }, Op::Hold { order: 3, member: 0, amount: 100 }]);
    books.settle(&[Op::TakeBack { order: 1, member: 0 }]);
    assert_eq!(books.balance(AccountKey::reward(member(0))), 100, "only the held points are left");
    books.settle(&[Op::Unhold { order: 3 }, Op::TakeBack { order: 1, member: 0 }, Op::Earn { order: 1, member: 0, paid: 99_950 }]);
    assert_eq!(books.balance(AccountKey::reward(member(0))), 100, "once");
    books.check();
}

#[test]
fn more_can_never_go_back_than_a_payment_took() {
    let mut books = rich();
    books.settle(&[Op::Debit { payment: 1, member: 0, amount: 3_000 }]);
    let mut ledger = books.open();
    let credit = Op::Credit { payment: 1, member: 0, amount: 3_001 };
    assert!(apply(&mut ledger, &credit, Uuid::from_u128(99), Timestamp(2)).is_err());
    books.settle(&[Op::Credit { payment: 1, member: 0, amount: 3_000 }, Op::Credit { payment: 1, member: 0, amount: 3_000 }]);
    assert_eq!(books.balance(AccountKey::cash(member(0))), 10_000);
}

#[test]
fn money_never_becomes_points() {
    let mut ledger = rich().open();
    let tx = Transaction::of(Cause::Use, Uuid::from_u128(9), Won(1), Timestamp(1));
    assert!(ledger.transfer(tx, AccountKey::cash(member(0)), POINTS_SPENT).is_err());
}

#[test]
fn a_transaction_id_tells_its_cause_and_keeps_its_time() {
    let order: Uuid = "0196e3a0-1111-7abc-8def-0123456789ab".parse().expect("a uuid");
    assert_eq!(transaction_id(Cause::Use, order).to_string(), "0196e3a0-1111-aabc-8def-0123456789ab");
    assert_ne!(transaction_id(Cause::Use, order), transaction_id(Cause::Return, order));
}
