use crate::support::*;
use coupons::Strategy;
use futures::StreamExt;
use serde_json::json;
use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

// C6, C8: 10,000 claims for 100 units, late claims are refused
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_for_a_hundred() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 100})).await;
    let answers = mall.claim_all(coupon, &members(10_000)).await;
    assert_eq!(numbers(&answers), (1..=100).collect::<Vec<i64>>());
    assert_eq!(count(&answers, "sold-out"), 9_900);
    mall.audit().await;
}

// C8, C25, I-C4: after the first "sold out", no later claim is granted
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_claim_wins_after_sold_out() {
    for strategy in [Strategy::GroupCommit, Strategy::RowLock, Strategy::Redis] {
        sold_out_is_final(&Mall::open_with(strategy).await).await;
    }
}

async fn sold_out_is_final(mall: &Mall) {
    let coupon = mall.announce(json!({"quantity": 1_000})).await;
    let (clock, crowd) = (AtomicUsize::new(0), members(3_000));
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let asked = futures::stream::iter(&crowd).map(|member| async {
        let begin = tick();
        let status = mall.claim(coupon, *member).await.status;
        (begin, tick(), status)
    });
    let history: Vec<(usize, usize, u16)> = asked.buffer_unordered(64).collect().await;
    let first_refused = history.iter().filter(|(_, _, status)| *status == 409).map(|(_, end, _)| *end).min().unwrap();
    let last_served = history.iter().filter(|(_, _, status)| *status == 201).map(|(begin, _, _)| *begin).max().unwrap();
    assert!(last_served < first_refused, "a claim of {last_served} was granted after a refusal at {first_refused}");
    mall.audit().await;
}

// C6, C8, C9: 10,000 claims for 100 units, late claims wait, and all of it survives a restart
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_for_a_hundred_with_a_waitlist() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 100, "waitlist": true})).await;
    let crowd = members(10_000);
    let answers = mall.claim_all(coupon, &crowd).await;
    assert_eq!(numbers(&answers), (1..=100).collect::<Vec<i64>>());
    let tickets: HashSet<i64> =
        answers.iter().filter(|answer| answer.status == 202).map(|answer| answer.body["ticket"].as_i64().unwrap()).collect();
    assert_eq!(tickets, (1..=9_900).collect());
    mall.audit().await;

    let mall = mall.restart().await;
    let raised = mall.change(coupon, json!({"quantity": 3_100})).await.expect(200);
    assert_eq!(raised.body["remaining"], 1_000, "one transaction serves at most 2,000");
    let newcomer = mall.claim(coupon, member()).await.expect(202);
    assert_eq!(newcomer.body["position"], 7_901, "units are free, but others wait for them");
    mall.app.job("coupons.promote").await;
    let shown = mall.coupon_now(coupon).await;
    assert_eq!((&shown["remaining"], &shown["waiting"]), (&json!(0), &json!(6_901)));
    for (member, answer) in crowd.iter().zip(&answers).filter(|(_, answer)| answer.status == 202).step_by(97) {
        let ticket = answer.body["ticket"].as_i64().unwrap();
        let standing = mall.standing(coupon, *member).await.expect(200).body;
        let expected = if ticket <= 3_000 { ("issued", "number", 100 + ticket) } else { ("waiting", "position", ticket - 3_000) };
        assert_eq!((standing["state"].as_str().unwrap(), expected.1, standing[expected.1].as_i64().unwrap()), expected);
    }
    mall.audit().await;
}

// C10, C9: claims and returns at the same time
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_returns_at_once() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 10, "waitlist": true, "reissue_after_cancel": true})).await;
    let crowd = members(100);
    for _ in 0..5 {
        let give_back = futures::future::join_all(crowd.iter().map(|member| mall.give_back(coupon, *member)));
        let (claims, returns) = tokio::join!(mall.claim_all(coupon, &crowd), give_back);
        assert!(claims.iter().all(|answer| matches!(answer.status, 201 | 202 | 409)));
        assert!(returns.iter().all(|answer| matches!(answer.status, 204 | 404)));
        mall.audit().await;
    }
}
