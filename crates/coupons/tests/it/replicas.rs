//! Several processes on one database: together they issue no unit more than one process would, and no member gets more.

use crate::support::*;
use contracts::{CouponId, MemberId};
use coupons::Strategy;
use futures::future::join_all;
use serde_json::json;
use std::collections::HashSet;
use testkit::{App, TestResponse};

/// Processes on one database, which share its partitions.
pub async fn malls_at(count: usize, setup: Setup) -> Vec<Mall> {
    let app = App::builder().on_postgres().partitions(4).queue(16_384).start(|kit| services(kit, &setup)).await;
    let mut malls = vec![Mall { app, setup }];
    for _ in 1..count {
        malls.push(malls[0].add_process().await);
    }
    malls
}

async fn malls(count: usize) -> Vec<Mall> {
    malls_at(count, Setup::of(Strategy::default())).await
}

// C6, C8, I-C1 to I-C3: 200 members ask two of three processes at once for 100 units
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_for_a_hundred_over_three_processes() {
    two_hundred_for_a_hundred(Strategy::GroupCommit).await;
}

// C6, C25, I-C1 to I-C3: the same through the gate in Redis
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_for_a_hundred_over_three_and_redis() {
    two_hundred_for_a_hundred(Strategy::Redis).await;
}

async fn two_hundred_for_a_hundred(strategy: Strategy) {
    let malls = malls_at(3, Setup::of(strategy)).await;
    let coupon = malls[0].announce(json!({"quantity": 100})).await;
    let crowd = members(200);
    let claims = crowd.iter().enumerate().flat_map(|(n, member)| [(n % 3, *member), ((n + 1) % 3, *member)]);
    let answers: Vec<(MemberId, TestResponse)> = join_all(claims.map(|(mall, member)| {
        let mall = &malls[mall];
        async move { (member, mall.claim(coupon, member).await) }
    }))
    .await;
    let winners: Vec<MemberId> = answers.iter().filter(|(_, answer)| answer.status == 201).map(|(member, _)| *member).collect();
    assert_eq!((winners.len(), winners.iter().collect::<HashSet<_>>().len()), (100, 100), "one each");
    let others = answers.iter().filter(|(_, answer)| answer.status != 201);
    assert!(others.clone().all(|(_, answer)| ["sold-out", "already-issued"].contains(&answer.problem())));
    let answers: Vec<TestResponse> = answers.into_iter().map(|(_, answer)| answer).collect();
    assert_eq!(numbers(&answers), (1..=100).collect::<Vec<i64>>());
    malls[0].audit().await;
    // Every process knows the winners.
    for mall in &malls {
        let _ = mall.claim(coupon, winners[0]).await.expect_problem(409, "already-issued");
        let _ = mall.claim(coupon, member()).await.expect_problem(409, "sold-out");
    }
}

// C25, I-C1 to I-C3: 1,500 members ask three processes for 100 units through one gate, built or not
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifteen_hundred_for_a_hundred_through_one_gate() {
    let malls = malls_at(3, Setup::of(Strategy::Redis)).await;
    for is_built in [true, false] {
        let coupon = match is_built {
            true => malls[0].announce(json!({"quantity": 100})).await,
            false => malls[0].announce_without_gate(json!({"quantity": 100})).await,
        };
        let crowd = members(1_500);
        let answers = join_all(crowd.iter().enumerate().map(|(n, member)| malls[n % 3].claim(coupon, *member))).await;
        assert_eq!(numbers(&answers), (1..=100).collect::<Vec<i64>>());
        assert_eq!(count(&answers, "sold-out"), 1_400);
        malls[0].audit().await;
    }
}

// C25: early refusals end soon after a change by another process
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_another_process_are_noticed() {
    let malls = malls(2).await;
    let coupon = malls[0].announce(json!({"quantity": 1})).await;
    let owner = member();
    malls[0].get_one(coupon, owner).await;
    for mall in &malls {
        let _ = mall.claim(coupon, member()).await.expect_problem(409, "sold-out");
    }
    let _ = malls[0].change(coupon, json!({"quantity": 2})).await.expect(200);
    let second = eventually(201, || malls[1].claim(coupon, member())).await;
    assert_eq!(second.body["number"], 2);
    let withdrawn = malls[1].app.delete(format!("/v1/coupons/{coupon}")).bearer(&malls[1].operator()).send().await;
    let _ = withdrawn.expect(204);
    let deleted = eventually(404, || malls[0].claim(coupon, member())).await;
    assert_eq!(deleted.problem(), "not-found");
    malls[0].audit().await;
}

// C9, C10, I-W1: claims and returns of one coupon on two processes at the same time
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_returns_on_two_processes() {
    let malls = malls(2).await;
    let coupon = malls[0].announce(json!({"quantity": 10, "waitlist": true, "reissue_after_cancel": true})).await;
    let crowd = members(60);
    for _ in 0..3 {
        let returns = join_all(crowd.iter().map(|member| malls[0].give_back(coupon, *member)));
        let (claims, returns) = tokio::join!(malls[1].claim_all(coupon, &crowd), returns);
        assert!(claims.iter().all(|answer| matches!(answer.status, 201 | 202 | 409)));
        assert!(returns.iter().all(|answer| matches!(answer.status, 204 | 404)));
        malls[0].audit().await;
    }
}

// C17: one order holds a coupon, whichever process handles it
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coupon_is_held_once() {
    let malls = malls(2).await;
    let coupon = malls[0].announce(json!({"quantity": 40})).await;
    let crowd = members(40);
    let mut held = Vec::new();
    for member in &crowd {
        held.push(malls[0].get_one(coupon, *member).await);
    }
    // One order of each process wants each coupon.
    let orders: Vec<_> = crowd.iter().map(|_| (order(), order())).collect();
    join_all(orders.iter().zip(crowd.iter().zip(&held)).map(|((one, other), (member, issued))| {
        let malls = &malls;
        let wanted = [(*issued, 5_000, 1_000)];
        async move { tokio::join!(malls[0].hold(*one, *member, &wanted), malls[1].hold(*other, *member, &wanted)) }
    }))
    .await;
    let messages: Vec<(_, _)> = malls[0].app.messages("coupons").await;
    let of =
        |order: &contracts::OrderId| messages.iter().filter(|(key, message)| *key == order.0 && message.kind() == "coupon.held").count();
    for (one, other) in &orders {
        assert_eq!(of(one) + of(other), 1, "held by exactly one of the two");
    }
    assert_eq!(malls[0].app.sql_i64("select count(*) from coupons_issued where state='HELD'").await, 40);
    // The other process undoes each order. The undo of a refused order changes nothing.
    join_all(orders.iter().map(|(one, other)| {
        let malls = &malls;
        async move { tokio::join!(malls[1].unhold(*one), malls[0].unhold(*other)) }
    }))
    .await;
    malls[0].app.eventually("select count(*) from coupons_issued where state='ISSUED'", 40).await;
    assert_eq!(malls[0].app.sql_i64("select count(*) from coupons_dead_letters").await, 0);
    malls[0].audit().await;
}

// C19, C10: both processes expire, promote and close at the same time
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_on_two_processes_do_their_work_once() {
    let malls = malls(2).await;
    let fields = json!({"quantity": 50, "waitlist": true, "valid_days": 1});
    let coupon: CouponId = malls[0].announce(fields).await;
    let (first, waiting) = (members(50), members(30));
    assert_eq!(numbers(&malls[0].claim_all(coupon, &first).await).len(), 50);
    assert!(malls[1].claim_all(coupon, &waiting).await.iter().all(|answer| answer.status == 202));
    malls[0].app.clock.advance(DAY);
    for job in ["coupons.expire", "coupons.promote", "coupons.close"] {
        tokio::join!(malls[0].app.job(job), malls[1].app.job(job));
    }
    malls[0].audit().await;
    let messages = malls[0].app.messages("coupons").await;
    let count = |kind: &str| messages.iter().filter(|(_, message)| message.kind() == kind).count();
    assert_eq!((count("coupon.expired"), count("coupon.issued")), (50, 80));
    let shown = malls[1].coupon_now(coupon).await;
    assert_eq!((&shown["issued"], &shown["waiting"]), (&json!(30), &json!(0)));
}
