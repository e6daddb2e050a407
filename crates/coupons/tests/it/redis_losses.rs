//! F15, F16: whatever happens to Redis while three processes give coupons out through its gate, each unit is given out once, nobody gets
//! two, the gate never offers what the database does not have, and claims go on.

use crate::redis_rush::{Rush, UNTOLD, through, through_behind};
use kit::{
    ports::Stopwatch,
    redis::{Redis, cmd},
    testing::TestRedis,
};
use std::{fs, path::Path, sync::atomic::Ordering, time::Duration};

/// A figure of `INFO`; 0 if it is not there.
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
    through_behind(UNTOLD, TestRedis::start().await, async |rush, server| {
        let redis = server.patient();
        run(&redis, &["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
        for round in 1..=3 {
            run(&redis, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
            rush.some_more(15).await;
            assert!(figure(&redis, "stats", "evicted_keys").await >= round, "nothing was evicted");
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
        assert!(figure(&server.patient(), "errorstats", "errorstat_READONLY").await > 0, "nobody wrote");
        run(&server.patient(), &["REPLICAOF", "NO", "ONE"]).await;
    })
    .await;
}

// F15, I-C1, I-C2, I-C8: one process alone does not reach it, and settles claims of which the gate hears nothing
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_one_of_three_processes_is_cut_off() {
    through_behind(UNTOLD, TestRedis::start().await, async |rush, _| {
        let owner = rush.get_one(1).await;
        rush.wires[0].cut();
        // It alone gives out: nobody tells the gate of a later version, however often it is asked.
        for _ in 0..50 {
            rush.get_one(0).await;
            assert_eq!(rush.claim(1, owner).await.problem(), "already-issued");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let since = Stopwatch::start();
        // Longer than news are waited for: the gate is also built while claims go past it.
        while since.elapsed() < Duration::from_secs(9) {
            rush.some_more(4).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        rush.wires[0].mend();
    })
    .await;
}

/// No claim waits for an answer of Redis that takes so long.
const HANGS: Duration = Duration::from_secs(5);

async fn claims_go_on_while_it_hangs(rush: &Rush) {
    rush.slowest.store(0, Ordering::SeqCst);
    let since = Stopwatch::start();
    while since.elapsed() < HANGS {
        rush.some_more(4).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let slowest = rush.slowest.load(Ordering::SeqCst);
    assert!(u128::from(slowest) < HANGS.as_millis() / 2, "a claim took {slowest} ms");
}

// F16, I-C1, I-C2, I-C8: what it is told takes effect, and every answer comes after five seconds
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_answers_after_five_seconds() {
    through_behind(UNTOLD, TestRedis::start().await, async |rush, _| {
        for wire in &rush.wires {
            wire.lengthen(HANGS);
        }
        claims_go_on_while_it_hangs(rush).await;
        for wire in &rush.wires {
            wire.mend();
        }
    })
    .await;
}

// F16, I-C1, I-C2, I-C8: it takes what it is told, and does nothing for five seconds
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_stands_still_for_five_seconds() {
    through_behind(UNTOLD, TestRedis::start().await, async |rush, server| {
        run(&server.patient(), &["CLIENT", "PAUSE", "5000", "ALL"]).await;
        claims_go_on_while_it_hangs(rush).await;
    })
    .await;
}
