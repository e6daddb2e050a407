//! F15: whatever happens to Redis while three processes give coupons out through its gate, each unit is given out once, nobody gets two,
//! the gate never offers what the database does not have, and claims go on.

use crate::{replicas::malls_at, support::*};
use contracts::{CouponId, MemberId};
use coupons::{Strategy, redis_gate::GateTimes};
use futures::future::join_all;
use kit::{
    db::params,
    redis::{Redis, RedisSettings, cmd},
    testing::{TestRedis, TestResponse},
};
use serde_json::json;
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};
use tokio::sync::Semaphore;

const UNITS: i64 = 800;
const WORKERS: usize = 8;

/// What is given out, and what the world looks like meanwhile.
struct Rush {
    malls: Vec<Mall>,
    coupon: CouponId,
    /// While there is trouble: how many may still claim, so that units are left when it is over.
    turns: Semaphore,
    over: AtomicBool,
    issued: AtomicI64,
    sampled: AtomicI64,
}

impl Rush {
    async fn on(server: &TestRedis) -> Rush {
        let redis = Some((server.url(), RedisSettings::default()));
        let setup = Setup { redis, gate: GateTimes::default(), ..Setup::of(Strategy::Redis) };
        let malls = malls_at(3, setup).await;
        let coupon = malls[0].announce(json!({"quantity": UNITS})).await;
        Rush {
            malls,
            coupon,
            turns: Semaphore::new(0),
            over: AtomicBool::new(false),
            issued: AtomicI64::new(0),
            sampled: AtomicI64::new(0),
        }
    }

    fn issued(&self) -> i64 {
        self.issued.load(Ordering::SeqCst)
    }

    /// Gives out so many more.
    async fn some_more(&self, units: u16) {
        let wanted = self.issued() + i64::from(units);
        self.turns.add_permits(usize::from(units));
        self.eventually("claims go on", async |rush| rush.issued() >= wanted).await;
    }

    /// Returns when the gate knows what is on offer; meanwhile claims go on.
    async fn built(&self) {
        let gate = self.malls[1].gate().expect("there is one");
        self.eventually("the gate is built", async |rush| {
            rush.some_more(1).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            gate.on_offer(rush.coupon).await.is_ok_and(|offer| offer.is_some())
        })
        .await;
    }

    async fn eventually(&self, what: &str, holds: impl AsyncFn(&Rush) -> bool) {
        for _ in 0..3_000 {
            if holds(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("this never came about: {what}");
    }

    /// New members claim in their turns, each in two processes at once; when the trouble is over, until there is nothing left.
    async fn work(&self, worker: usize) -> Vec<TestResponse> {
        let (mut answers, mut won_any) = (Vec::new(), true);
        loop {
            if won_any && !self.over.load(Ordering::SeqCst) {
                self.turns.acquire().await.unwrap().forget();
            }
            let (one, member) = (worker % 3, member());
            let ask = |mall: usize, member: MemberId| self.malls[mall % 3].claim(self.coupon, member);
            let pair = tokio::join!(ask(one, member), ask(one + 1, member));
            let won = [&pair.0, &pair.1].into_iter().filter(|answer| answer.status == 201).count();
            assert!(won < 2, "I-C2: a member got two");
            self.issued.fetch_add(i64::try_from(won).unwrap(), Ordering::SeqCst);
            won_any = won > 0;
            let sold_out = pair.0.problem() == "sold-out" && pair.1.problem() == "sold-out";
            answers.extend([pair.0, pair.1]);
            if sold_out {
                assert!(self.over.load(Ordering::SeqCst), "sold out before the trouble was over");
                return answers;
            }
        }
    }

    /// Claims may go faster than anybody looks.
    async fn looked_at(&self) {
        while self.sampled.load(Ordering::SeqCst) <= 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// I-C8, at moments at which no commit comes between the two figures.
    async fn sample(&self, done: &AtomicBool) {
        let gate = self.malls[2].gate().expect("there is one");
        let mut tx = self.malls[2].app.kit().db.open_writer().await.unwrap();
        while !done.load(Ordering::SeqCst) {
            tx.begin().await.unwrap();
            let sql = "select quantity - issued from coupons_definitions where id=$1 for update";
            let (left,): (i64,) = tx.query_one(sql, &params![self.coupon]).await.unwrap();
            if let Ok(Some(offer)) = gate.on_offer(self.coupon).await {
                assert!(offer <= left, "I-C8: {offer} on offer, {left} left");
                self.sampled.fetch_add(i64::from(offer > 0), Ordering::SeqCst);
            }
            tx.rollback().await.unwrap();
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }
}

/// Everybody claims while `trouble` happens; then what is left goes, and all is exact.
async fn through(mut server: TestRedis, trouble: impl AsyncFnOnce(&Rush, &mut TestRedis)) {
    let rush = Rush::on(&server).await;
    let done = AtomicBool::new(false);
    let claims = async {
        let troubled = async {
            rush.some_more(30).await;
            trouble(&rush, &mut server).await;
            // Built anew, and in use.
            rush.built().await;
            rush.some_more(30).await;
            rush.looked_at().await;
            rush.over.store(true, Ordering::SeqCst);
            rush.turns.add_permits(WORKERS);
        };
        let (answers, ()) = tokio::join!(join_all((0..WORKERS).map(|worker| rush.work(worker))), troubled);
        done.store(true, Ordering::SeqCst);
        answers.into_iter().flatten().collect::<Vec<TestResponse>>()
    };
    let (answers, ()) = tokio::join!(claims, rush.sample(&done));
    assert_eq!(numbers(&answers), (1..=UNITS).collect::<Vec<i64>>());
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        let is_fair = ["sold-out", "already-issued"].contains(&answer.problem()) || answer.status == 503;
        assert!(is_fair, "{} {}", answer.status, answer.problem());
    }
    assert!(rush.sampled.load(Ordering::SeqCst) > 10, "the sampler saw nothing");
    rush.malls[0].audit().await;
}

async fn run(redis: &Redis, words: &[&str]) {
    let mut command = cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    redis.call::<()>(&command).await.unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

// F15, I-C1, I-C2, I-C8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_flushed() {
    through(TestRedis::start().await, async |rush, server| {
        for _ in 0..2 {
            run(&server.patient(), &["FLUSHALL"]).await;
            rush.some_more(20).await;
            rush.built().await;
        }
    })
    .await;
}

// F15, I-C1, I-C2, I-C8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_restarted_empty() {
    through(TestRedis::start().await, async |rush, server| {
        server.restart().await;
        rush.some_more(20).await;
    })
    .await;
}

// F15, I-C1, I-C2, I-C8: claims go on while it is away
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_stopped_for_a_while() {
    through(TestRedis::start().await, async |rush, server| {
        server.kill();
        rush.some_more(60).await;
        server.restart().await;
    })
    .await;
}

// F15, I-C1, I-C2, I-C8: what it was told last is forgotten
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_restarted_with_an_old_file() {
    let server = TestRedis::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    through(server, async |rush, server| {
        // What is on disk by now …
        let marked: Redis = server.patient();
        run(&marked, &["SET", "marker", "old"]).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let (now, old) = (server.folder().join("appendonlydir"), server.folder().join("old"));
        copy(&now, &old);
        // … lacks what happens from now on.
        run(&marked, &["SET", "marker", "new"]).await;
        rush.some_more(50).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.kill();
        fs::remove_dir_all(&now).unwrap();
        fs::rename(&old, &now).unwrap();
        server.restart().await;
        let found: String = server.patient().call(cmd("GET").arg("marker")).await.unwrap();
        assert_eq!(found, "old", "it believes to be a second younger");
        rush.some_more(20).await;
    })
    .await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

// F15, I-C1, I-C2, I-C8: keys go one by one
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_short_of_memory() {
    through(TestRedis::start().await, async |rush, server| {
        let redis = server.patient();
        run(&redis, &["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
        for _ in 0..3 {
            run(&redis, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
            rush.some_more(15).await;
            run(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
            rush.some_more(15).await;
        }
    })
    .await;
}

// F15, I-C1, I-C2, I-C8: it takes no writes, as the copy of a master that is gone
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_read_only() {
    through(TestRedis::start().await, async |rush, server| {
        let redis = server.patient();
        run(&redis, &["REPLICAOF", "127.0.0.1", "1"]).await;
        rush.some_more(60).await;
        run(&server.patient(), &["REPLICAOF", "NO", "ONE"]).await;
    })
    .await;
}
