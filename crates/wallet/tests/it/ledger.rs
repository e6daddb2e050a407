//! The ledger under parallel changes, its append-only tables, and random operations.

use super::{Member, answers, app, audit, new_order, new_payment, step};
use contracts::{Message, OrderId, PaymentId};
use kit::{Db, DbError, Service, db::migrate, params, ports::new_id, process::detached_kit};
use proptest::prelude::*;
use testkit::{App, TestDatabase};
use wallet::{Wallet, WalletSettings};

// B5, row 54: 20 simultaneous payments from a balance that covers 7 of them.
#[tokio::test]
async fn twenty_parallel_debits_never_overspend() {
    let app = app().await;
    let member = Member::with(&app, 7_500, 0).await;
    let orders: Vec<OrderId> = (0..20).map(|_| new_order()).collect();
    let debits =
        orders.iter().map(|order| app.emit("payments", *order, Message::WalletDebit(member.transfer(new_payment(), *order, 1_000))));
    futures::future::join_all(debits).await;
    let mut taken = 0;
    for order in &orders {
        match answers(&app, *order).await.as_slice() {
            [one] if one == "wallet.debited" => taken += 1,
            [one] if one == "wallet.refused insufficient-funds" => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((taken, member.balances(&app).await.0), (7, 500));
    audit(&app).await;
}

// B5: charges, holds and debits of one member interleave in arbitrary batches, and the sum is exact.
#[tokio::test]
async fn parallel_changes_of_one_account_are_exact() {
    let app = app().await;
    let member = Member::with(&app, 100_000, 1_000).await;
    let charges = |name: &'static str| {
        let (app, member) = (&app, &member);
        futures::future::join_all(
            (0..10).map(move |n| async move { member.charge(app, &format!("{name}{n}"), 1_000).await.expect(201).status }),
        )
    };
    let debits = futures::future::join_all((0..20).map(|_| {
        let order = new_order();
        app.emit("payments", order, Message::WalletDebit(member.transfer(new_payment(), order, 2_000)))
    }));
    let holds = futures::future::join_all((0..20).map(|_| {
        let order = new_order();
        app.emit("orders", order, member.hold(order, 100))
    }));
    futures::join!(charges("a"), debits);
    futures::join!(charges("b"), holds);
    assert_eq!(member.balances(&app).await, (80_000, 0, 1_000));
    audit(&app).await;
}

// I-L4: written rows cannot be changed or deleted, even by SQL.
#[tokio::test]
async fn the_ledger_is_append_only() {
    let app = app().await;
    let _ = Member::with(&app, 5_000, 10).await;
    let mut writer = app.kit().db.open_writer().await.expect("opens");
    for sql in [
        "update wallet_entries set amount=amount+1",
        "delete from wallet_entries",
        "update wallet_transactions set amount=0",
        "delete from wallet_transactions",
    ] {
        let refused = writer.execute(sql, &[]).await.expect_err("a trigger refuses it").to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
    audit(&app).await;
}

// I-L4: PostgreSQL has its own triggers for it.
#[tokio::test]
async fn the_ledger_is_append_only_on_postgres_too() {
    let database = TestDatabase::create().await;
    let mut tx = Db::postgres(&database.url(), &["wallet"]).unwrap().open_writer().await.unwrap();
    let wallet = Wallet::new(detached_kit(), WalletSettings::default());
    migrate(&mut tx, "wallet", wallet.migrations()).await.unwrap();
    let (id, owner) = (new_id(), new_id());
    let sql = "insert into wallet_transactions (id, kind, ref, amount, at) values ($1,'charge',$1,5,0)";
    tx.execute(sql, &params![id]).await.unwrap();
    let sql = "insert into wallet_entries (tx_id, owner_id, kind, n, amount, balance_after, at, hash) values ($1,$2,'CASH',1,5,5,0,$3)";
    tx.execute(sql, &params![id, owner, &[0_u8; 32]]).await.unwrap();
    for table in ["wallet_entries", "wallet_transactions"] {
        for sql in [format!("update {table} set amount=amount+1"), format!("delete from {table}"), format!("truncate {table}")] {
            let refused = tx.batch(&sql).await;
            assert!(matches!(&refused, Err(DbError::Constraint(text)) if text.contains("append-only")), "{sql}: {refused:?}");
        }
    }
    assert_eq!(tx.query_one::<(i64,)>("select amount from wallet_entries", &[]).await.unwrap(), (5,));
}

// I-L4: the hash of the audit detects a changed entry. The test drops the trigger first.
#[tokio::test]
async fn a_forged_entry_breaks_the_chain() {
    let app = app().await;
    let _ = Member::with(&app, 5_000, 0).await;
    let mut writer = app.kit().db.open_writer().await.expect("opens");
    let unguard = if writer.is_postgres() {
        "drop trigger wallet_entries_append_only on wallet_entries"
    } else {
        "drop trigger wallet_entries_no_update"
    };
    writer.execute(unguard, &[]).await.unwrap();
    writer.execute("update wallet_entries set amount=amount*2", &[]).await.unwrap();
    let rows: Vec<(uuid::Uuid, i64, contracts::Won, contracts::Timestamp, [u8; 32])> =
        app.rows("select tx_id, n, amount, at, hash from wallet_entries where kind='CASH'").await;
    let (tx_id, n, amount, at, hash) = rows[0];
    assert_ne!(wallet::ledger_hash(&wallet::GENESIS, tx_id, n, amount, at), hash);
}

// Last guards behind the rules: the database refuses an overdrawn account, a second settlement of a cause, and a hold above the balance.
#[tokio::test]
async fn constraints_back_up_the_rules() {
    let app = app().await;
    let _ = Member::with(&app, 5_000, 10).await;
    let mut writer = app.kit().db.open_writer().await.expect("opens");
    for sql in [
        "update wallet_accounts set balance=-1 where kind='CASH'",
        "update wallet_accounts set held=11 where kind='REWARD'",
        "update wallet_accounts set held=-1 where kind='CASH'",
        "insert into wallet_transactions (id, kind, ref, amount, at) select id, kind, ref, amount, at from wallet_transactions limit 1",
    ] {
        assert!(writer.execute(sql, &[]).await.is_err(), "{sql}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Charge { member: usize, amount: i64 },
    Hold { order: usize, member: usize, amount: i64 },
    Use { order: usize },
    Unhold { order: usize },
    Debit { payment: usize, member: usize, amount: i64 },
    Credit { payment: usize },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..3usize, 1_000..5_000i64).prop_map(|(member, amount)| Op::Charge { member, amount }),
        (0..8usize, 0..3usize, 0..900i64).prop_map(|(order, member, amount)| Op::Hold { order, member, amount }),
        (0..8usize).prop_map(|order| Op::Use { order }),
        (0..8usize).prop_map(|order| Op::Unhold { order }),
        (0..8usize, 0..3usize, 1..4_000i64).prop_map(|(payment, member, amount)| Op::Debit { payment, member, amount }),
        (0..8usize).prop_map(|payment| Op::Credit { payment }),
    ]
}

/// A payment, its order, and the member and amount of its first request.
type PaymentRun = (PaymentId, OrderId, Option<(usize, i64)>);

/// The orders and payments of a run. Repeats send the first request of a payment again.
struct Run {
    members: Vec<Member>,
    orders: Vec<OrderId>,
    payments: Vec<PaymentRun>,
}

impl Run {
    async fn step(&mut self, app: &App, n: usize, op: &Op) {
        match *op {
            Op::Charge { member, amount } => {
                let _ = self.members[member].charge(app, &format!("op{n}"), amount).await.expect(201);
            }
            Op::Hold { order, member, amount } => {
                app.emit("orders", self.orders[order], self.members[member].hold(self.orders[order], amount)).await;
            }
            // Only an order with held points is ever paid.
            Op::Use { order } if self.is_held(app, order).await => {
                app.emit("orders", self.orders[order], Message::PointsUse(step(self.orders[order]))).await;
            }
            Op::Use { .. } => {}
            Op::Unhold { order } => app.emit("orders", self.orders[order], Message::PointsUnhold(step(self.orders[order]))).await,
            Op::Debit { payment, member, amount } => {
                let (id, order, first_request) = &mut self.payments[payment];
                let (member, amount) = *first_request.get_or_insert((member, amount));
                app.emit("payments", *order, Message::WalletDebit(self.members[member].transfer(*id, *order, amount))).await;
            }
            Op::Credit { payment } => {
                let (id, order, first_request) = &mut self.payments[payment];
                let (member, amount) = *first_request.get_or_insert((0, 1_000));
                app.emit("payments", *order, Message::WalletCredit(self.members[member].transfer(*id, *order, amount))).await;
            }
        }
    }

    async fn is_held(&self, app: &App, order: usize) -> bool {
        let held: Vec<(OrderId,)> = app.rows("select order_id from wallet_holds where state in ('HELD', 'USED')").await;
        held.contains(&(self.orders[order],))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    // I-L1 to I-L5 on the real tables, after random operations with repeats and undos in any order.
    #[test]
    fn invariants_hold_after_random_operations(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let app = app().await;
            let mut members = Vec::new();
            for _ in 0..3 {
                members.push(Member::with(&app, 5_000, 1_000).await);
            }
            let orders = (0..8).map(|_| new_order()).collect();
            let payments = (0..8).map(|_| (new_payment(), new_order(), None)).collect();
            let mut run = Run { members, orders, payments };
            for (n, op) in ops.iter().enumerate() {
                run.step(&app, n, op).await;
            }
            assert_eq!(app.sql_i64("select count(*) from wallet_dead_letters").await, 0);
            audit(&app).await;
        });
    }
}
