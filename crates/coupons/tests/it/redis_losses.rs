//! F15, F16: faults of Redis while three processes issue coupons through its gate. Each unit is issued once, and no member gets two. The
//! gate never offers more units than the database has, and claims go on.

use crate::redis_rush::{MAX_UNSENT_AGE, Rush, rush_during, rush_during_with_staleness};
use kit::{
    ports::Stopwatch,
    redis::{Redis, cmd},
};
use std::{fs, path::Path, sync::atomic::Ordering, time::Duration};
use testkit::TestRedis;

/// A figure of `INFO`. 0: it is not there.
async fn figure(redis: &Redis, section: &str, name: &str) -> u64 {
    let text: String = redis.call(cmd("INFO").arg(section)).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map_or(0, |value| value.trim_start_matches("count=").trim().parse().unwrap())
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
    rush_during(TestRedis::start().await, async |rush, server| {
        for _ in 0..2 {
            run(&server.patient_client(), &["FLUSHALL"]).await;
            rush.issue_more(20).await;
            rush.built().await;
        }
    })
    .await;
}

// F15, I-C1, I-C2, I-C8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_restarted_empty() {
    rush_during(TestRedis::start().await, async |rush, server| {
        server.restart().await;
        rush.issue_more(20).await;
    })
    .await;
}

// F15, I-C1, I-C2, I-C8: claims go on while Redis is down
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_stopped_for_a_while() {
    rush_during(TestRedis::start().await, async |rush, server| {
        server.kill();
        rush.issue_more(60).await;
        server.restart().await;
    })
    .await;
}

// F15, I-C1, I-C2, I-C8: the last updates are lost
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_restarted_with_an_old_file() {
    let server = TestRedis::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    rush_during(server, async |rush, server| {
        // The state on disk by now …
        let marked: Redis = server.patient_client();
        run(&marked, &["SET", "marker", "old"]).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let (now, old) = (server.folder().join("appendonlydir"), server.folder().join("old"));
        copy(&now, &old);
        // … lacks the updates from now on.
        run(&marked, &["SET", "marker", "new"]).await;
        rush.issue_more(50).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.kill();
        fs::remove_dir_all(&now).unwrap();
        fs::rename(&old, &now).unwrap();
        server.restart().await;
        let found: String = server.patient_client().call(cmd("GET").arg("marker")).await.unwrap();
        assert_eq!(found, "old", "it believes to be a second younger");
        rush.issue_more(20).await;
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

// F15, I-C1, I-C2, I-C8: keys are evicted one by one
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_short_of_memory() {
    rush_during_with_staleness(MAX_UNSENT_AGE, TestRedis::start().await, async |rush, server| {
        let redis = server.patient_client();
        run(&redis, &["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
        for round in 1..=3 {
            run(&redis, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
            rush.issue_more(15).await;
            assert!(figure(&redis, "stats", "evicted_keys").await >= round, "nothing was evicted");
            run(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
            rush.issue_more(15).await;
        }
    })
    .await;
}

// F15, I-C1, I-C2, I-C8: it accepts no writes, like the replica of a lost primary
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_read_only() {
    rush_during(TestRedis::start().await, async |rush, server| {
        let redis = server.patient_client();
        run(&redis, &["REPLICAOF", "127.0.0.1", "1"]).await;
        rush.issue_more(60).await;
        assert!(figure(&server.patient_client(), "errorstats", "errorstat_READONLY").await > 0, "no process wrote");
        run(&server.patient_client(), &["REPLICAOF", "NO", "ONE"]).await;
    })
    .await;
}

// F15, I-C1, I-C2, I-C8: one process does not reach Redis, and settles claims without updates
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_one_of_three_processes_is_cut_off() {
    rush_during_with_staleness(MAX_UNSENT_AGE, TestRedis::start().await, async |rush, _| {
        let owner = rush.get_one(1).await;
        rush.proxies[0].cut();
        // Only this process issues, so the gate gets no update of a later version.
        for _ in 0..50 {
            rush.get_one(0).await;
            assert_eq!(rush.claim(1, owner).await.problem(), "already-issued");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let since = Stopwatch::start();
        // Longer than the gap timeout, so that the gate is also rebuilt while claims bypass it.
        while since.elapsed() < Duration::from_secs(9) {
            rush.issue_more(4).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        rush.proxies[0].restore();
    })
    .await;
}

/// No claim waits this long for Redis.
const HANGS: Duration = Duration::from_secs(5);

async fn claims_go_on_while_it_hangs(rush: &Rush) {
    rush.slowest.store(0, Ordering::SeqCst);
    let since = Stopwatch::start();
    while since.elapsed() < HANGS {
        rush.issue_more(4).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let slowest = rush.slowest.load(Ordering::SeqCst);
    assert!(u128::from(slowest) < HANGS.as_millis() / 2, "a claim took {slowest} ms");
}

// F16, I-C1, I-C2, I-C8: commands take effect, and every reply comes five seconds later
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_answers_after_five_seconds() {
    rush_during_with_staleness(MAX_UNSENT_AGE, TestRedis::start().await, async |rush, _| {
        for proxy in &rush.proxies {
            proxy.delay_answers(HANGS);
        }
        claims_go_on_while_it_hangs(rush).await;
        for proxy in &rush.proxies {
            proxy.restore();
        }
    })
    .await;
}

// F16, I-C1, I-C2, I-C8: it accepts commands, and executes none for five seconds
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_stands_still_for_five_seconds() {
    rush_during_with_staleness(MAX_UNSENT_AGE, TestRedis::start().await, async |rush, server| {
        run(&server.patient_client(), &["CLIENT", "PAUSE", "5000", "ALL"]).await;
        claims_go_on_while_it_hangs(rush).await;
    })
    .await;
}
