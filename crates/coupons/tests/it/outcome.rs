//! Outcomes of deferred claims (C25): through the gate in Redis, the log on Kafka and PostgreSQL, exactly once.

use crate::support::*;
use contracts::{CouponId, MemberId};
use coupons::{Strategy, admission::redis::GateTimes};
use futures::future::join_all;
use kit::{engine::request_redrive, kafka::LoggedRequest, ports::new_id};
use serde_json::{Value, json};
use std::{collections::HashSet, time::Duration};
use testkit::{App, TestResponse};
use uuid::Uuid;

const CLAIMS: (&str, &str) = ("coupons", "coupon.claim");

pub fn header<'a>(answer: &'a TestResponse, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().expect("plain text"))
}

pub async fn mall_at(partitions: i64, setup: Setup) -> Mall {
    let builder = App::builder().on_kafka().partitions(partitions).queue(16_384);
    Mall { app: builder.start(|kit| services(kit, &setup)).await, setup }
}

async fn mall() -> Mall {
    // Without a maximum staleness: on a busy machine a stale gate would defer a claim that it should refuse.
    let gate = GateTimes { max_staleness: Duration::from_secs(600), ..Setup::of(Strategy::Redis).gate };
    mall_at(1, Setup { gate, ..Setup::of(Strategy::Redis) }).await
}

impl Mall {
    fn hold_claims(&self) {
        self.app.faults.hold(CLAIMS.0, CLAIMS.1);
    }

    fn release_claims(&self) {
        self.app.faults.release(CLAIMS.0, CLAIMS.1);
    }

    pub async fn claim_later(&self, coupon: CouponId, member: MemberId, key: Option<&str>) -> TestResponse {
        let mut asked = self.app.post(format!("/v1/coupons/{coupon}/claims")).bearer(&self.shopper(member));
        asked = asked.header("prefer", "respond-async");
        if let Some(key) = key {
            asked = asked.key(key);
        }
        asked.send().await
    }

    pub async fn outcome(&self, coupon: CouponId, member: MemberId, claim: &Value) -> TestResponse {
        let claim = claim.as_str().expect("an id");
        self.app.get(format!("/v1/coupons/{coupon}/claims/{claim}")).bearer(&self.shopper(member)).send().await
    }

    /// The outcome of a claim, once it is settled.
    async fn settled(&self, coupon: CouponId, member: MemberId, claim: &Value) -> Value {
        for _ in 0..1_200 {
            let outcome = self.outcome(coupon, member, claim).await.expect(200).body;
            if outcome["state"] != "pending" {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the claim is not settled");
    }

    /// Waits for all these claims. Returns the sorted numbers of the issued coupons, and the count of refusals.
    async fn all_settled(&self, coupon: CouponId, taken: &[(MemberId, Value)]) -> (Vec<i64>, usize) {
        let mut numbers = Vec::new();
        for (member, claim) in taken {
            let outcome = self.settled(coupon, *member, claim).await;
            match outcome["status"].as_u64() {
                Some(201) => numbers.push(outcome["answer"]["number"].as_i64().unwrap()),
                Some(409) => assert_eq!(outcome["answer"]["type"], "/problems/sold-out"),
                other => panic!("{other:?}: {outcome}"),
            }
        }
        numbers.sort_unstable();
        let refused = taken.len() - numbers.len();
        (numbers, refused)
    }

    /// Claims for all members at once. Returns the members with their claim ids.
    async fn claim_all_later(&self, coupon: CouponId, crowd: &[MemberId]) -> Vec<(MemberId, Value)> {
        let answers = join_all(crowd.iter().map(|member| self.claim_later(coupon, *member, None))).await;
        crowd.iter().copied().zip(answers.into_iter().map(|answer| answer.expect(202).body["claim_id"].clone())).collect()
    }

    async fn assert_no_dead_letters(&self) {
        assert_eq!(self.app.sql_i64("select count(*) from coupons_dead_letters").await, 0);
    }
}

// C25
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_claim_is_settled_from_the_log() {
    let mall = mall().await;
    let coupon = mall.announce(json!({"quantity": 2})).await;
    mall.hold_claims();
    let owner = member();
    let taken = mall.claim_later(coupon, owner, None).await.expect(202);
    let claim = &taken.body["claim_id"];
    assert_eq!(taken.body["state"], "pending");
    let path = format!("/v1/coupons/{coupon}/claims/{}", claim.as_str().unwrap());
    assert_eq!((header(&taken, "location"), header(&taken, "preference-applied")), (Some(path.as_str()), Some("respond-async")));

    let pending = mall.outcome(coupon, owner, claim).await.expect(200);
    assert_eq!((&pending.body, header(&pending, "retry-after")), (&json!({"claim_id": claim, "state": "pending"}), Some("1")));
    // For another member, and for ids that the service did not make, there is no such claim.
    let _ = mall.outcome(coupon, member(), claim).await.expect_problem(404, "not-found");
    for stranger in [json!(new_id()), json!(Uuid::nil()), json!("mine-too")] {
        let _ = mall.outcome(coupon, owner, &stranger).await.expect_problem(404, "not-found");
    }
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued").await, 0, "nothing is issued before its turn");

    mall.release_claims();
    let outcome = mall.settled(coupon, owner, claim).await;
    assert_eq!((&outcome["state"], &outcome["status"], &outcome["answer"]["number"]), (&json!("issued"), &json!(201), &json!(1)));
    let standing = mall.standing(coupon, owner).await.expect(200).body;
    assert_eq!(standing["issued_coupon_id"], outcome["answer"]["issued_coupon_id"]);
    // The gate has the update, so it refuses at once.
    let _ = mall.claim_later(coupon, owner, None).await.expect_problem(409, "already-issued");
    mall.assert_no_dead_letters().await;
    mall.audit().await;
}

// C25, C6, I-C1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_claim_is_refused_later_and_then_at_once() {
    let mall = mall().await;
    let coupon = mall.announce(json!({"quantity": 1})).await;
    let queue = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    mall.hold_claims();
    let crowd = members(3);
    let mut taken = Vec::new();
    for member in &crowd {
        // The gate cannot refuse yet: a claim in progress holds the unit, and may free it.
        taken.push((*member, mall.claim_later(coupon, *member, None).await.expect(202).body["claim_id"].clone()));
    }
    let first = mall.claim_later(queue, crowd[0], None).await.expect(202).body["claim_id"].clone();
    let second = mall.claim_later(queue, crowd[1], None).await.expect(202).body["claim_id"].clone();
    mall.release_claims();
    assert_eq!(mall.settled(coupon, taken[0].0, &taken[0].1).await["answer"]["number"], 1, "who came first");
    assert_eq!(mall.all_settled(coupon, &taken).await, (vec![1], 2));
    assert_eq!(mall.settled(coupon, crowd[2], &taken[2].1).await["state"], "refused");
    let _ = mall.claim_later(coupon, member(), None).await.expect_problem(409, "sold-out");
    assert_eq!(mall.settled(queue, crowd[0], &first).await["state"], "issued");
    let waiting = mall.settled(queue, crowd[1], &second).await;
    assert_eq!(
        (&waiting["state"], &waiting["answer"]["ticket"], &waiting["answer"]["position"]),
        (&json!("waiting"), &json!(1), &json!(1))
    );
    mall.audit().await;
}

// C25, C5: with a key, a repeat is the same claim, by either way
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_the_same_claim() {
    let mall = mall().await;
    let coupon = mall.announce(json!({"quantity": 9, "per_member": 5})).await;
    let other = mall.announce(json!({"quantity": 9})).await;
    mall.hold_claims();
    let owner = member();
    let first = mall.claim_later(coupon, owner, Some("k")).await.expect(202);
    let again = mall.claim_later(coupon, owner, Some("k")).await.expect(202);
    assert_eq!((&first.body, header(&first, "location")), (&again.body, header(&again, "location")));
    let elsewhere = mall.claim_later(other, owner, Some("k")).await.expect(202).body["claim_id"].clone();
    mall.release_claims();
    let outcome = mall.settled(coupon, owner, &first.body["claim_id"]).await;
    assert_eq!(outcome["state"], "issued");
    let mismatch = mall.settled(other, owner, &elsewhere).await;
    assert_eq!((&mismatch["state"], &mismatch["answer"]["type"]), (&json!("refused"), &json!("/problems/idempotency-key-mismatch")));
    // Settled at once, the claim gets its recorded answer. Deferred again, it is still the same claim.
    let path = format!("/v1/coupons/{coupon}/claims");
    let now = mall.app.post(path.clone()).bearer(&mall.shopper(owner)).key("k").send().await.expect(201);
    assert_eq!((&now.body, header(&now, "idempotent-replayed")), (&outcome["answer"], Some("true")));
    let late = mall.claim_later(coupon, owner, Some("k")).await.expect(202);
    assert_eq!(late.body, first.body);
    // The other way round: settled at once, then deferred.
    let answered = mall.app.post(path).bearer(&mall.shopper(owner)).key("l").send().await.expect(201);
    let later = mall.claim_later(coupon, owner, Some("l")).await.expect(202);
    assert_eq!(mall.settled(coupon, owner, &later.body["claim_id"]).await["answer"], answered.body);
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued").await, 2);
    mall.assert_no_dead_letters().await;
    mall.audit().await;
}

// C25, C20, F15: another process settles the claims answered with 202, although their slots are too old by then
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_outlive_the_process_that_enqueued_them() {
    let gate = GateTimes { permit_ttl: Duration::from_secs(1), ..Setup::of(Strategy::Redis).gate };
    let mall = mall_at(1, Setup { gate, ..Setup::of(Strategy::Redis) }).await;
    let coupon = mall.announce(json!({"quantity": 20})).await;
    mall.hold_claims();
    let taken = mall.claim_all_later(coupon, &members(50)).await;
    tokio::time::sleep(gate.permit_ttl).await;
    let mall = mall.restart().await;
    assert_eq!(mall.all_settled(coupon, &taken).await, ((1..=20).collect(), 30));
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_claims").await, 50);
    let sold_out = eventually(409, || mall.claim_later(coupon, member(), None)).await;
    assert_eq!(sold_out.problem(), "sold-out");
    mall.assert_no_dead_letters().await;
    mall.audit().await;
}

// C25, I-C1 to I-C3: claims that are read twice, written twice, and whose transactions fail
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_claim_is_settled_once_despite_faults() {
    let mall = mall().await;
    let coupon = mall.announce(json!({"quantity": 40, "per_member": 3})).await;
    mall.app.faults.fail(CLAIMS.0, CLAIMS.1, 2);
    let taken = mall.claim_all_later(coupon, &members(10)).await;
    mall.all_settled(coupon, &taken).await;
    assert_eq!(mall.app.faults.times_applied(CLAIMS.0, CLAIMS.1), 2);
    mall.app.faults.repeat(CLAIMS.0, CLAIMS.1, 10);
    let more = mall.claim_all_later(coupon, &members(10)).await;
    mall.all_settled(coupon, &more).await;
    // Written again by a client that retries, with the same id.
    let owner = member();
    for _ in 0..3 {
        let _ = mall.claim_later(coupon, owner, Some("unsure")).await.expect(202);
    }
    let last = mall.claim_later(coupon, owner, Some("unsure")).await.expect(202).body["claim_id"].clone();
    assert_eq!(mall.settled(coupon, owner, &last).await["answer"]["number"], 21);
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_issued").await, 21);
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_claims").await, 21);
    mall.assert_no_dead_letters().await;
    mall.audit().await;
}

// C25, I-C1 to I-C3: three processes settle each other's claims, while partitions are reassigned and the former holders continue for a
// while
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reassigned_partitions_settle_each_claim_once() {
    let mut malls = vec![mall_at(4, Setup::of(Strategy::Redis)).await];
    for _ in 0..2 {
        malls.push(malls[0].add_process().await);
    }
    let coupons = join_all((0..6).map(|_| malls[0].announce(json!({"quantity": 50})))).await;
    let writer = malls[0].app.kit().db.open_writer().await;
    let mut writer = writer.unwrap();
    let mut taken: Vec<(CouponId, MemberId, Value)> = Vec::new();
    for _ in 0..8 {
        // The holders notice within a second. Other processes take over meanwhile.
        writer.execute("update coupons_leases set until=0 where name like 'lane:%'", &[]).await.unwrap();
        let claims = coupons.iter().flat_map(|coupon| (0..10).map(|_| (*coupon, member())));
        let answers = join_all(claims.enumerate().map(|(n, (coupon, member))| {
            let mall = &malls[n % 3];
            async move { (coupon, member, mall.claim_later(coupon, member, None).await) }
        }));
        for (coupon, member, answer) in answers.await {
            match answer.status {
                202 => taken.push((coupon, member, answer.body["claim_id"].clone())),
                _ => assert_eq!(answer.problem(), "sold-out"),
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for coupon in &coupons {
        let own: Vec<(MemberId, Value)> =
            taken.iter().filter(|(of, ..)| of == coupon).map(|(_, member, claim)| (*member, claim.clone())).collect();
        let (numbers, _) = malls[1].all_settled(*coupon, &own).await;
        assert_eq!(numbers, (1..=50).collect::<Vec<i64>>());
    }
    let ids: HashSet<String> = taken.iter().map(|(.., claim)| claim.to_string()).collect();
    assert_eq!(ids.len(), taken.len());
    assert_eq!(malls[0].app.sql_i64("select count(*) from coupons_claims").await, i64::try_from(taken.len()).unwrap());
    let overlaps = "select count(*) from coupons_deliveries a join coupons_deliveries b on a.source=b.source and a.partition=b.partition \
                    and a.epoch=b.epoch and a.from_seq<b.from_seq and b.from_seq<=a.to_seq";
    assert_eq!(malls[0].app.sql_i64(overlaps).await, 0, "no claim was passed by two deliveries");
    malls[0].assert_no_dead_letters().await;
    malls[0].audit().await;
}

// C25: unreadable records become dead letters, and block no claim
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_records_do_not_block_claims() {
    let mall = mall().await;
    let coupon = mall.announce(json!({"quantity": 9})).await;
    let log = mall.app.kit().requests.clone().expect("Kafka is set");
    let broken = |kind: &str, data: &str| {
        let (kind, data) = (kind.to_owned(), data.to_owned());
        LoggedRequest { id: new_id(), key: coupon.0, kind, data, at: mall.now(), trace: None }
    };
    for (kind, data) in [("coupon.claim", "{"), ("coupon.clam", "{}"), ("coupon.claim", "\u{0}\u{0}")] {
        log.write("coupons.claims", &broken(kind, data)).await.unwrap();
    }
    let taken = mall.claim_all_later(coupon, &members(5)).await;
    assert_eq!(mall.all_settled(coupon, &taken).await, ((1..=5).collect(), 0));
    let letters: Vec<(String, String)> = mall.app.rows("select state, kind from coupons_dead_letters order by seq").await;
    assert_eq!(letters, vec![("dead".to_owned(), "unreadable".to_owned()); 3]);
    mall.audit().await;
}

// C25, F23: a claim that fails repeatedly becomes a dead letter alone, and is settled by a redrive
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_claim_does_not_block_others() {
    let mall = mall().await;
    let coupon = mall.announce(json!({"quantity": 9})).await;
    mall.app.faults.fail(CLAIMS.0, CLAIMS.1, 3);
    let failing = mall.claim_all_later(coupon, &members(1)).await;
    mall.app.eventually("select count(*) from coupons_dead_letters where state='dead'", 1).await;
    let others = mall.claim_all_later(coupon, &members(5)).await;
    assert_eq!(mall.all_settled(coupon, &others).await, ((1..=5).collect(), 0));
    let mut writer = mall.app.kit().db.open_writer().await.unwrap();
    assert_eq!(request_redrive(&mut writer, "coupons", None).await.unwrap(), 1);
    assert_eq!(mall.all_settled(coupon, &failing).await, ([6].into(), 0));
    mall.audit().await;
}
