//! Claims that prefer a deferred answer, where the gate, the log or the broker is missing (C25).

use crate::{
    outcome::{header, mall_at},
    support::*,
};
use contracts::ClaimId;
use coupons::Strategy;
use kit::{
    kafka::{Cluster, RequestLogs, Topics},
    ports::SystemClock,
};
use serde_json::json;
use std::sync::Arc;

// C25, RFC 7240: a preference that the server cannot honour is ignored
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_gate_or_log_the_answer_comes_at_once() {
    let without_gate = mall_at(1, Setup::of(Strategy::GroupCommit)).await;
    let without_log = Mall::open_with(Strategy::Redis).await;
    for mall in [without_gate, without_log] {
        let coupon = mall.announce(json!({"quantity": 1})).await;
        let answer = mall.claim_later(coupon, member(), None).await.expect(201);
        assert_eq!((&answer.body["number"], header(&answer, "preference-applied")), (&json!(1), None));
        let _ = mall.claim_later(coupon, member(), None).await.expect_problem(409, "sold-out");
        assert_eq!(mall.app.sql_i64("select count(*) from coupons_claims").await, 0);
    }
}

// C25, I-O14: without a broker claims are settled at once, each under its id; with a key the answer is the same as for a repeat after the
// broker is back
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_claims_are_settled_at_once() {
    let cluster = Cluster::new("127.0.0.1:1", "nobody").unwrap();
    let requests = RequestLogs::new(&cluster, 1, &Topics::ready(), Arc::new(SystemClock));
    let mall = Mall::open_at(Setup { requests: Some(requests), ..Setup::of(Strategy::Redis) }).await;
    let coupon = mall.announce(json!({"quantity": 3, "per_member": 2})).await;
    let owner = member();
    let taken = mall.claim_later(coupon, owner, Some("k")).await.expect(202);
    let again = mall.claim_later(coupon, owner, Some("k")).await.expect(202);
    assert_eq!((&taken.body, header(&taken, "location")), (&again.body, header(&again, "location")));
    let outcome = mall.outcome(coupon, owner, &taken.body["claim_id"]).await.expect(200).body;
    assert_eq!((&outcome["state"], &outcome["answer"]["number"]), (&json!("issued"), &json!(1)));
    let kept: Vec<(ClaimId, i64)> = mall.app.rows("select id, status from coupons_claims").await;
    assert_eq!((kept.len(), kept[0].1), (1, 201));
    // A claim without a key has no repeats, so it gets its answer at once.
    assert_eq!(mall.claim_later(coupon, member(), None).await.expect(201).body["number"], 2);
    // A key with an answer settles nothing, and that answer counts.
    let path = format!("/v1/coupons/{coupon}/claims");
    let now = mall.app.post(path).bearer(&mall.shopper(owner)).key("now").send().await.expect(201);
    assert_eq!(mall.claim_later(coupon, owner, Some("now")).await.expect(201).body, now.body);
    mall.audit().await;
}
