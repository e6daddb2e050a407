//! Three processes give coupons out through the gate in Redis while something happens to it. Each unit is given out once, nobody gets two,
//! and at no moment is more on offer than there is.

use crate::{replicas::malls_at, support::*};
use contracts::{CouponId, MemberId};
use coupons::{Strategy, redis_gate::GateTimes};
use futures::future::join_all;
use kit::{
    db::params,
    ports::Stopwatch,
    redis::{Redis, RedisSettings, Script},
    testing::{TestRedis, TestResponse, Wire},
};
use serde_json::json;
use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

const UNITS: i64 = 800;
const WORKERS: usize = 8;
/// While Redis answers some and not others, those may settle claims of which the gate hears nothing: it is that old at most
/// ([`GateTimes::believed`]). The rest is for two clocks.
pub const UNTOLD: Duration = Duration::from_millis(1_100);

/// What the gate would let the next applicant have, from its keys alone: whatever any process thinks of it. While it is built, is not
/// believed any more, is another server's or lacks a part, nobody gets in through it: claims go to the database, and that is 0 on offer.
static LETS_IN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local s = redis.call('HMGET', KEYS[1], 'state', 'limit', 'issued', 'queue', 'gone', 'server', 'confirmed')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local copies = redis.call('INFO', 'replication')
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. string.match(copies, 'role:(%a+)')
  .. string.match(copies, 'master_replid:(%x+)')
if s[1] ~= 'ready' or s[4] == '1' or s[5] == '1' or s[6] ~= server or tonumber(s[7]) + tonumber(ARGV[1]) <= now
    or redis.call('HEXISTS', KEYS[2], '') == 0 or not redis.call('ZSCORE', KEYS[3], '')
    or redis.call('ZCOUNT', KEYS[3], '-inf', string.format('%.0f', now)) > 0 then
  return 0
end
return math.max(0, tonumber(s[2]) - tonumber(s[3]) - redis.call('ZCARD', KEYS[3]) + 1)",
    )
});

/// What is given out, and what the world looks like meanwhile.
pub struct Rush {
    malls: Vec<Mall>,
    coupon: CouponId,
    /// While there is trouble: how many may still claim, so that units are left when it is over.
    turns: Semaphore,
    over: AtomicBool,
    issued: AtomicI64,
    sampled: AtomicI64,
    /// What was given out beside the workers.
    beside: Mutex<Vec<TestResponse>>,
    /// Milliseconds of the slowest claim.
    pub slowest: AtomicU64,
    /// How long the gate may offer what others have taken meanwhile.
    behind: Duration,
    /// Of each process, to Redis.
    pub wires: Vec<Wire>,
    /// Past the wires.
    redis: Redis,
}

impl Rush {
    async fn on(server: &TestRedis, behind: Duration) -> Rush {
        let redis = Some((server.url(), RedisSettings::default()));
        let setup = Setup { redis, gate: GateTimes::default(), ..Setup::of(Strategy::Redis) };
        let (first, wire) = setup.wired().await;
        let (mut malls, mut wires) = (malls_at(1, first).await, vec![wire]);
        for _ in 0..2 {
            let (wired, wire) = setup.wired().await;
            malls.push(malls[0].beside_at(wired).await);
            wires.push(wire);
        }
        let coupon = malls[0].announce(json!({"quantity": UNITS})).await;
        Rush {
            malls,
            coupon,
            turns: Semaphore::new(0),
            over: AtomicBool::new(false),
            issued: AtomicI64::new(0),
            sampled: AtomicI64::new(0),
            beside: Mutex::default(),
            slowest: AtomicU64::new(0),
            behind,
            wires,
            redis: setup.redis().expect("it has a Redis"),
        }
    }

    fn issued(&self) -> i64 {
        self.issued.load(Ordering::SeqCst)
    }

    /// Gives out so many more.
    pub async fn some_more(&self, units: u16) {
        let wanted = self.issued() + i64::from(units);
        self.turns.add_permits(usize::from(units));
        self.eventually("claims go on", async |rush| rush.issued() >= wanted).await;
    }

    /// Returns when the gate knows what is on offer; meanwhile claims go on.
    pub async fn built(&self) {
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
            let ask = |mall: usize, member: MemberId| self.claim(mall % 3, member);
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

    /// A new member gets a unit at this process.
    pub async fn get_one(&self, mall: usize) -> MemberId {
        let member = member();
        let got = self.claim(mall, member).await.expect(201);
        self.beside.lock().unwrap().push(got);
        self.issued.fetch_add(1, Ordering::SeqCst);
        member
    }

    pub async fn claim(&self, mall: usize, member: MemberId) -> TestResponse {
        let took = Stopwatch::start();
        let answer = self.malls[mall].claim(self.coupon, member).await;
        self.slowest.fetch_max(u64::try_from(took.elapsed().as_millis()).unwrap(), Ordering::SeqCst);
        answer
    }

    /// Claims may go faster than anybody looks.
    async fn looked_at(&self) {
        while self.sampled.load(Ordering::SeqCst) <= 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// I-C8, at moments at which no commit comes between the two figures.
    async fn sample(&self, done: &AtomicBool) {
        let mut tx = self.malls[2].app.kit().db.open_writer().await.unwrap();
        let (since, mut was_left) = (Stopwatch::start(), vec![(Duration::ZERO, UNITS)]);
        while !done.load(Ordering::SeqCst) {
            tx.begin().await.unwrap();
            let sql = "select quantity - issued from coupons_definitions where id=$1 for update";
            let (left,): (i64,) = tx.query_one(sql, &params![self.coupon]).await.unwrap();
            let at = since.elapsed();
            was_left.push((at, left));
            if let Some(offer) = self.lets_in().await {
                let left = was_left.iter().rev().find(|(then, _)| *then + self.behind <= at).map_or(UNITS, |(_, left)| *left);
                assert!(offer <= left, "I-C8: {offer} on offer, {left} left");
                self.sampled.fetch_add(i64::from(offer > 0), Ordering::SeqCst);
            }
            tx.rollback().await.unwrap();
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// `None`: Redis does not answer.
    async fn lets_in(&self) -> Option<i64> {
        let name = self.coupon.to_string();
        let mut call = LETS_IN.prepare_invoke();
        for kind in ["gate", "gate-shares", "gate-places"] {
            call.key(self.redis.key(kind, &name));
        }
        let believed = u64::try_from(GateTimes::default().believed.as_micros()).unwrap();
        self.redis.run(call.arg(believed)).await.ok()
    }
}

/// Everybody claims while `trouble` happens; then what is left goes, and all is exact. At no moment is more on offer than there is.
pub async fn through(server: TestRedis, trouble: impl AsyncFnOnce(&Rush, &mut TestRedis)) {
    through_behind(Duration::ZERO, server, trouble).await;
}

/// The same where the gate may not hear of everything: for so long it may offer what is gone.
pub async fn through_behind(behind: Duration, mut server: TestRedis, trouble: impl AsyncFnOnce(&Rush, &mut TestRedis)) {
    let rush = Rush::on(&server, behind).await;
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
        let beside = std::mem::take(&mut *rush.beside.lock().unwrap());
        answers.into_iter().flatten().chain(beside).collect::<Vec<TestResponse>>()
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
