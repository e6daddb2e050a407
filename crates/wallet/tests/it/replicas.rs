//! Several processes on one database: no account is overdrawn, no cause is settled twice, and all balances are exact.

use super::{Member, accounts_stub, answers, audit, new_order, new_payment};
use contracts::{Message, OrderId};
use futures::future::join_all;
use kit::{Kit, Module};
use std::sync::Arc;
use testkit::{App, StubService};
use wallet::{Wallet, WalletSettings};

fn services(kit: &Kit) -> Vec<Arc<dyn Module>> {
    let wallet = Wallet::new(kit.clone(), WalletSettings::default());
    let stubs = ["orders", "payments"].map(|name| Arc::new(StubService::new(kit, name)) as Arc<dyn Module>);
    [vec![Arc::new(wallet) as Arc<dyn Module>, Arc::new(accounts_stub(kit))], stubs.into()].concat()
}

/// Two processes, each with some of the partitions.
async fn two_processes() -> (App, App) {
    let one = App::builder().on_postgres().partitions(4).start(services).await;
    let other = one.start_another_process(services).await;
    (one, other)
}

// B5, row 54: two processes get 30 simultaneous payments from a balance that covers 7 of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_debits_never_overspend() {
    let (one, other) = two_processes().await;
    let member = Member::with(&one, 7_500, 0).await;
    let orders: Vec<OrderId> = (0..30).map(|_| new_order()).collect();
    join_all(orders.iter().enumerate().map(|(n, order)| {
        let app = if n % 2 == 0 { &one } else { &other };
        app.emit("payments", *order, Message::WalletDebit(member.transfer(new_payment(), *order, 1_000)))
    }))
    .await;
    let mut taken = 0;
    for order in &orders {
        match answers(&one, *order).await.as_slice() {
            [one] if one == "wallet.debited" => taken += 1,
            [one] if one == "wallet.refused insufficient-funds" => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((taken, member.balances(&other).await.0), (7, 500));
    audit(&one).await;
}

// B4, B5: charges of one account on both processes while its points are held and its payments are returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_changes_of_one_account_are_exact() {
    let (one, other) = two_processes().await;
    let member = Member::with(&one, 100_000, 1_000).await;
    let charges = join_all((0..20).map(|n| {
        let (app, member) = (if n % 2 == 0 { &one } else { &other }, &member);
        async move { member.charge(app, &format!("c{n}"), 1_000).await.expect(201).status }
    }));
    let debits = join_all((0..10).map(|n| {
        let (order, payment) = (new_order(), new_payment());
        let transfer = member.transfer(payment, order, 2_000);
        let both = vec![Message::WalletDebit(transfer.clone()), Message::WalletCredit(transfer)];
        if n % 2 == 0 { one.emit_all("payments", order, both) } else { other.emit_all("payments", order, both) }
    }));
    let holds = join_all((0..20).map(|n| {
        let order = new_order();
        if n % 2 == 0 { one.emit("orders", order, member.hold(order, 100)) } else { other.emit("orders", order, member.hold(order, 100)) }
    }));
    futures::join!(charges, debits, holds);
    assert_eq!(member.balances(&one).await, (120_000, 0, 1_000));
    assert_eq!(one.sql_i64("select count(*) from wallet_dead_letters").await, 0);
    audit(&one).await;
}

// I-L5: simultaneous charges on two processes open one account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_opened_once() {
    let (one, other) = two_processes().await;
    let members: Vec<Member> = (0..20).map(|_| Member::new(&one)).collect();
    join_all(members.iter().map(|member| {
        let (one, other) = (&one, &other);
        async move {
            let (first, second) = tokio::join!(member.charge(one, "a", 1_000), member.charge(other, "b", 2_000));
            let _ = (first.expect(201), second.expect(201));
        }
    }))
    .await;
    for member in &members {
        assert_eq!(member.balances(&one).await.0, 3_000);
    }
    audit(&one).await;
}

// row 60: one key sent to two processes at once makes one charge, and both get the same answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_counts_once_on_all_processes() {
    let (one, other) = two_processes().await;
    let member = Member::new(&one);
    for n in 0..20 {
        let key = format!("k{n}");
        let (first, second) = tokio::join!(member.charge(&one, &key, 1_000), member.charge(&other, &key, 1_000));
        let (first, second) = (first.expect(201), second.expect(201));
        assert_eq!(first.bytes, second.bytes);
        let replayed = [&first, &second].map(|answer| answer.headers.contains_key("idempotent-replayed"));
        assert!(replayed[0] != replayed[1], "one of them is the repeat");
    }
    assert_eq!(member.balances(&one).await.0, 20_000);
    audit(&one).await;
}
