//! Three processes issue coupons through the gate in Redis during a fault. Each unit is issued once, no member gets two, and the gate
//! never offers too many units.

use crate::{replicas::malls_at, support::*};
use contracts::{CouponId, MemberId};
use coupons::{Strategy, admission::redis::GateTimes};
use futures::future::join_all;
use kit::{
    db::params,
    ports::Stopwatch,
    redis::{Redis, RedisSettings, Script},
};
use serde_json::json;
use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use testkit::{TcpProxy, TestRedis, TestResponse};
use tokio::sync::Semaphore;

const UNITS: i64 = 800;
const WORKERS: usize = 8;
/// Processes without Redis settle claims without updates. The gate's state is then at most this old ([`GateTimes::max_staleness`], and a
/// margin for two clocks).
pub const MAX_UNSENT_AGE: Duration = Duration::from_millis(1_100);

/// Units that the gate would give to new claims, computed from its keys alone. A gate in rebuild, stale, of another server, or damaged
/// gives none: claims go to the database.
static ADMITTABLE_UNITS: LazyLock<Script> = LazyLock::new(|| {
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

/// The processes, the coupon, and the state of the rush.
pub struct Rush {
    malls: Vec<Mall>,
    coupon: CouponId,
    /// Claims that the workers may still make during the fault, so that units are left after it.
    turns: Semaphore,
    over: AtomicBool,
    issued: AtomicI64,
    sampled: AtomicI64,
    /// Answers to claims outside the workers.
    extra: Mutex<Vec<TestResponse>>,
    /// Milliseconds of the slowest claim.
    pub slowest: AtomicU64,
    /// Age of the state on which the gate may offer units.
    behind: Duration,
    /// One proxy per process, to Redis.
    pub proxies: Vec<TcpProxy>,
    /// Bypasses the proxies.
    redis: Redis,
}

impl Rush {
    async fn on(server: &TestRedis, behind: Duration) -> Rush {
        let redis = Some((server.url(), RedisSettings::default()));
        let setup = Setup { redis, gate: GateTimes::default(), ..Setup::of(Strategy::Redis) };
        let (first, proxy) = setup.behind_proxy().await;
        let (mut malls, mut proxies) = (malls_at(1, first).await, vec![proxy]);
        for _ in 0..2 {
            let (proxied, proxy) = setup.behind_proxy().await;
            malls.push(malls[0].add_process_with(proxied).await);
            proxies.push(proxy);
        }
        let coupon = malls[0].announce(json!({"quantity": UNITS})).await;
        Rush {
            malls,
            coupon,
            turns: Semaphore::new(0),
            over: AtomicBool::new(false),
            issued: AtomicI64::new(0),
            sampled: AtomicI64::new(0),
            extra: Mutex::default(),
            slowest: AtomicU64::new(0),
            behind,
            proxies,
            redis: setup.redis().expect("it has a Redis"),
        }
    }

    fn issued(&self) -> i64 {
        self.issued.load(Ordering::SeqCst)
    }

    /// Issues this number of further units.
    pub async fn issue_more(&self, units: u16) {
        let wanted = self.issued() + i64::from(units);
        self.turns.add_permits(usize::from(units));
        self.eventually("claims go on", async |rush| rush.issued() >= wanted).await;
    }

    /// Waits until the gate is built. Claims go on meanwhile.
    pub async fn built(&self) {
        let gate = self.malls[1].gate().expect("there is one");
        self.eventually("the gate is built", async |rush| {
            rush.issue_more(1).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            gate.available_units(rush.coupon).await.is_ok_and(|offer| offer.is_some())
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

    /// Claims for new members, each in two processes at once. After the fault it goes on until the coupon is sold out.
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
                assert!(self.over.load(Ordering::SeqCst), "sold out before the fault was over");
                return answers;
            }
        }
    }

    /// Issues a unit to a new member at this process.
    pub async fn get_one(&self, mall: usize) -> MemberId {
        let member = member();
        let got = self.claim(mall, member).await.expect(201);
        self.extra.lock().unwrap().push(got);
        self.issued.fetch_add(1, Ordering::SeqCst);
        member
    }

    pub async fn claim(&self, mall: usize, member: MemberId) -> TestResponse {
        let took = Stopwatch::start();
        let answer = self.malls[mall].claim(self.coupon, member).await;
        self.slowest.fetch_max(u64::try_from(took.elapsed().as_millis()).unwrap(), Ordering::SeqCst);
        answer
    }

    /// Waits for some samples, because claims may be faster than the sampler.
    async fn sampled(&self) {
        while self.sampled.load(Ordering::SeqCst) <= 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Checks I-C8, under a lock that allows no commit between the two reads.
    async fn sample(&self, done: &AtomicBool) {
        let mut tx = self.malls[2].app.kit().db.open_writer().await.unwrap();
        let (since, mut was_left) = (Stopwatch::start(), vec![(Duration::ZERO, UNITS)]);
        while !done.load(Ordering::SeqCst) {
            tx.begin().await.unwrap();
            let sql = "select quantity - issued from coupons_definitions where id=$1 for update";
            let (left,): (i64,) = tx.query_one(sql, &params![self.coupon]).await.unwrap();
            let at = since.elapsed();
            was_left.push((at, left));
            if let Some(offer) = self.admittable_units().await {
                let left = was_left.iter().rev().find(|(then, _)| *then + self.behind <= at).map_or(UNITS, |(_, left)| *left);
                assert!(offer <= left, "I-C8: {offer} on offer, {left} left");
                self.sampled.fetch_add(i64::from(offer > 0), Ordering::SeqCst);
            }
            tx.rollback().await.unwrap();
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// `None`: Redis does not answer.
    async fn admittable_units(&self) -> Option<i64> {
        let name = self.coupon.to_string();
        let mut call = ADMITTABLE_UNITS.prepare_invoke();
        for kind in ["gate", "gate-shares", "gate-places"] {
            call.key(self.redis.key(kind, &name));
        }
        let max_staleness = u64::try_from(GateTimes::default().max_staleness.as_micros()).unwrap();
        self.redis.run(call.arg(max_staleness)).await.ok()
    }
}

/// Claims during a `fault` and until the coupon is sold out, then checks all answers. The gate never offers too many units.
pub async fn rush_during(server: TestRedis, fault: impl AsyncFnOnce(&Rush, &mut TestRedis)) {
    rush_during_with_staleness(Duration::ZERO, server, fault).await;
}

/// The same for faults that lose updates: the gate may offer units as of a state of this age.
pub async fn rush_during_with_staleness(behind: Duration, mut server: TestRedis, fault: impl AsyncFnOnce(&Rush, &mut TestRedis)) {
    let rush = Rush::on(&server, behind).await;
    let done = AtomicBool::new(false);
    let claims = async {
        let faulty = async {
            rush.issue_more(30).await;
            fault(&rush, &mut server).await;
            // Rebuilt, and in use.
            rush.built().await;
            rush.issue_more(30).await;
            rush.sampled().await;
            rush.over.store(true, Ordering::SeqCst);
            rush.turns.add_permits(WORKERS);
        };
        let (answers, ()) = tokio::join!(join_all((0..WORKERS).map(|worker| rush.work(worker))), faulty);
        done.store(true, Ordering::SeqCst);
        let extra = std::mem::take(&mut *rush.extra.lock().unwrap());
        answers.into_iter().flatten().chain(extra).collect::<Vec<TestResponse>>()
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
