//! A mall with nothing but coupons: the service, a stub of orders, and a stub of stores that knows their sellers.

use contracts::{
    CouponId, IssuedCouponId, MemberId, Message, OrderId, StoreId, Timestamp, Won,
    calls::{GetStore, StoreCard},
    messages::{CouponApplication, CouponHold, StepCommand, StepRefused},
};
use coupons::{
    Coupons, CouponsSettings, Strategy,
    admission::redis::{DatabaseSource, GateTimes, GateVerdict, SharedGate},
};
use futures::future::join_all;
use kit::{
    Kit, Module,
    auth::Role,
    breaker::BreakerSettings,
    kafka::RequestLogs,
    ports::{SystemClock, new_id},
    redis::{Redis, RedisSettings},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use testkit::{App, StubService, TcpProxy, TestResponse};
use uuid::Uuid;

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// The store whose seller is [`SELLER`], and one of another seller.
pub const STORE: StoreId = StoreId(Uuid::from_u128(0x51));
pub const OTHER_STORE: StoreId = StoreId(Uuid::from_u128(0x52));
pub const SELLER: MemberId = MemberId(Uuid::from_u128(0x61));

pub struct Mall {
    pub app: App,
    pub setup: Setup,
}

/// The common setup of a mall's processes, besides their database.
#[derive(Clone)]
pub struct Setup {
    pub strategy: Strategy,
    /// Under the strategy `Redis`: address and settings. Each test has its own key prefix.
    pub redis: Option<(String, RedisSettings)>,
    pub gate: GateTimes,
    /// Claims may be refused before they reach the database.
    pub refuses_early: bool,
    /// `announce` waits until the gate is built.
    pub waits_for_gate: bool,
    /// Replaces the process's own log.
    pub requests: Option<RequestLogs>,
}

impl Setup {
    /// On the Redis of all tests: no reply is too late, and the gate is built at once.
    pub fn of(strategy: Strategy) -> Setup {
        let address = || {
            std::env::var("ONRUSH_TEST_REDIS").expect("ONRUSH_TEST_REDIS is not set: start the test services with ./scripts/services up")
        };
        let breaker = BreakerSettings { window: usize::MAX, min_calls: usize::MAX, ..BreakerSettings::default() };
        let asked = RedisSettings { call_timeout: Duration::from_secs(10), prefix: format!("test-{}:", new_id()), breaker };
        let redis = (strategy == Strategy::Redis).then(|| (address(), asked));
        let gate = GateTimes { barrier: Duration::from_millis(20), permit_ttl: Duration::from_secs(600), ..GateTimes::default() };
        Setup { strategy, redis, gate, refuses_early: true, waits_for_gate: true, requests: None }
    }

    /// The same Redis behind a proxy.
    pub async fn behind_proxy(&self) -> (Setup, TcpProxy) {
        let (url, settings) = self.redis.clone().expect("it has a Redis");
        let proxy = TcpProxy::to(url.trim_start_matches("redis://").to_owned()).await;
        let redis = Some((format!("redis://127.0.0.1:{}", proxy.port()), settings));
        (Setup { redis, ..self.clone() }, proxy)
    }

    pub fn redis(&self) -> Option<Redis> {
        let (url, settings) = self.redis.as_ref()?;
        Some(Redis::connect(url, settings.clone(), Arc::new(SystemClock)).expect("the address is one"))
    }
}

pub fn services(kit: &Kit, setup: &Setup) -> Vec<Arc<dyn Module>> {
    let mut kit = kit.clone();
    kit.redis = setup.redis();
    kit.requests = setup.requests.clone().or(kit.requests);
    let settings = CouponsSettings { strategy: setup.strategy, refuses_early: setup.refuses_early, gate: setup.gate };
    let coupons = Coupons::new(kit.clone(), settings);
    let kit = &kit;
    let stubs = ["orders", "accounts"].map(|name| Arc::new(StubService::new(kit, name)) as Arc<dyn Module>);
    [vec![Arc::new(coupons) as Arc<dyn Module>, Arc::new(stores_stub(kit))], stubs.into()].concat()
}

/// A stub that knows the sellers of stores.
fn stores_stub(kit: &Kit) -> StubService {
    StubService::new(kit, "stores").answers::<GetStore>(|call| {
        let seller_id = match call.store_id {
            STORE => Some(SELLER),
            OTHER_STORE => Some(MemberId(Uuid::from_u128(0x62))),
            _ => return Ok(None),
        };
        Ok(Some(StoreCard { store_id: call.store_id, name: "a store".into(), seller_id }))
    })
}

impl Mall {
    pub async fn open() -> Mall {
        Self::open_with(Strategy::default()).await
    }

    pub async fn open_with(strategy: Strategy) -> Mall {
        Self::open_at(Setup::of(strategy)).await
    }

    pub async fn open_at(setup: Setup) -> Mall {
        // The queue holds the largest crowd of these tests, so no claim is refused for overload.
        let app = App::builder().queue(16_384).start(|kit| services(kit, &setup)).await;
        Mall { app, setup }
    }

    /// Every hop in a transaction of its own.
    pub async fn open_unfolded() -> Mall {
        let setup = Setup::of(Strategy::default());
        Mall { app: App::builder().fold(false).start(|kit| services(kit, &setup)).await, setup }
    }

    /// On PostgreSQL, also if the other tests run on SQLite.
    pub async fn open_on_postgres() -> Mall {
        let setup = Setup::of(Strategy::default());
        Mall { app: App::builder().on_postgres().start(|kit| services(kit, &setup)).await, setup }
    }

    /// Stops, and starts again on the same data.
    pub async fn restart(self) -> Mall {
        let Mall { app, setup } = self;
        Mall { app: app.restart(|kit| services(kit, &setup)).await, setup }
    }

    /// One more process of the same mall.
    pub async fn add_process(&self) -> Mall {
        self.add_process_with(self.setup.clone()).await
    }

    /// The same with another setup.
    pub async fn add_process_with(&self, setup: Setup) -> Mall {
        Mall { app: self.app.start_another_process(|kit| services(kit, &setup)).await, setup }
    }

    /// The gate in Redis, as seen by a process that settles nothing.
    pub fn gate(&self) -> Option<SharedGate> {
        Some(SharedGate::new(self.setup.redis()?, Arc::new(DatabaseSource(self.app.kit().db.clone())), self.setup.gate))
    }

    /// Waits until the gate is built, if there is one.
    pub async fn wait_for_gate(&self, coupon: CouponId) {
        let Some(gate) = self.gate() else { return };
        for _ in 0..3_000 {
            // A claim during the rebuild counts in the new gate until its slot is freed.
            let built = !matches!(gate.admit(coupon, member(), self.now()).await, GateVerdict::Undecided(_));
            gate.flushed().await;
            if built || gate.available_units(coupon).await.expect("Redis answers").is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the gate is not built");
    }

    pub fn now(&self) -> Timestamp {
        self.app.clock_now()
    }

    pub fn operator(&self) -> String {
        self.app.token(MemberId(Uuid::from_u128(0x1)), Role::Operator)
    }

    pub fn seller(&self) -> String {
        self.app.token(SELLER, Role::Seller)
    }

    pub fn shopper(&self, member: MemberId) -> String {
        self.app.token(member, Role::Customer)
    }

    /// A coupon of 1,000 won for whole orders, open and valid for ten days, with these fields changed.
    pub fn coupon(&self, fields: Value) -> Value {
        let mut coupon = json!({
            "name": "Autumn", "kind": "first_come", "discount": {"type": "amount", "won": 1_000}, "scope": "order", "quantity": 1,
            "issue_from": self.now(), "issue_until": self.now().after(10 * DAY), "valid_until": self.now().after(10 * DAY),
        });
        let (coupon_fields, fields) = (coupon.as_object_mut().unwrap(), fields.as_object().unwrap().clone());
        for (name, value) in fields {
            if value.is_null() {
                coupon_fields.remove(&name);
            } else {
                coupon_fields.insert(name, value);
            }
        }
        coupon
    }

    /// Announces a coupon, and waits until its gate is built, if there is one.
    pub async fn announce(&self, fields: Value) -> CouponId {
        let coupon = self.announce_without_gate(fields).await;
        if self.setup.waits_for_gate {
            self.wait_for_gate(coupon).await;
        }
        coupon
    }

    pub async fn announce_without_gate(&self, fields: Value) -> CouponId {
        let coupon = self.coupon(fields);
        let made = self.app.post("/v1/coupons").bearer(&self.operator()).json(&coupon).send().await.expect(201);
        id(&made.body["id"]).into()
    }

    pub async fn change(&self, coupon: CouponId, fields: Value) -> TestResponse {
        self.app.patch(format!("/v1/coupons/{coupon}")).bearer(&self.operator()).json(&fields).send().await
    }

    pub async fn coupon_now(&self, coupon: CouponId) -> Value {
        self.app.get(format!("/v1/coupons/{coupon}")).send().await.expect(200).body
    }

    pub async fn claim(&self, coupon: CouponId, member: MemberId) -> TestResponse {
        self.app.post(format!("/v1/coupons/{coupon}/claims")).bearer(&self.shopper(member)).send().await
    }

    /// Claims for all members at once. Returns the answers in the order of the members.
    pub async fn claim_all(&self, coupon: CouponId, members: &[MemberId]) -> Vec<TestResponse> {
        join_all(members.iter().map(|member| self.claim(coupon, *member))).await
    }

    pub async fn standing(&self, coupon: CouponId, member: MemberId) -> TestResponse {
        self.app.get(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&self.shopper(member)).send().await
    }

    /// With a key, as a member with several coupons needs.
    pub async fn give_back(&self, coupon: CouponId, member: MemberId) -> TestResponse {
        let request = self.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&self.shopper(member));
        request.key(&new_id().to_string()).send().await
    }

    /// Without a key. `named` is the query that names the thing to give back.
    pub async fn give_back_named(&self, coupon: CouponId, member: MemberId, named: &str) -> TestResponse {
        self.app.delete(format!("/v1/coupons/{coupon}/claims/mine{named}")).bearer(&self.shopper(member)).send().await
    }

    pub async fn my_coupons(&self, member: MemberId, query: &str) -> Value {
        self.app.get(format!("/v1/me/coupons{query}")).bearer(&self.shopper(member)).send().await.expect(200).body
    }

    /// Claims a coupon that is available.
    pub async fn get_one(&self, coupon: CouponId, member: MemberId) -> IssuedCouponId {
        id(&self.claim(coupon, member).await.expect(201).body["issued_coupon_id"]).into()
    }

    pub async fn hold(&self, order: OrderId, member: MemberId, coupons: &[(IssuedCouponId, i64, i64)]) {
        let coupons = coupons
            .iter()
            .map(|(id, base, discount)| CouponApplication {
                issued_coupon_id: *id,
                base: Won(*base),
                discount: Won(*discount),
                store_id: None,
            })
            .collect();
        self.hold_with(order, member, coupons).await;
    }

    pub async fn hold_with(&self, order: OrderId, member: MemberId, coupons: Vec<CouponApplication>) {
        let expires_at = self.now().after(Duration::from_secs(600));
        let hold = CouponHold { order_id: order, member_id: member, coupons, expires_at };
        self.app.emit("orders", order, Message::CouponHold(hold)).await;
    }

    pub async fn unhold(&self, order: OrderId) {
        self.app.emit("orders", order, Message::CouponUnhold(StepCommand { order_id: order })).await;
    }

    pub async fn use_up(&self, order: OrderId) {
        self.app.emit("orders", order, Message::CouponUse(StepCommand { order_id: order })).await;
    }

    /// The answers of coupons to an order, in short: `held`, `released`, or the code of the refusal.
    pub async fn answers(&self, order: OrderId) -> Vec<&'static str> {
        let messages = self.app.messages("coupons").await;
        messages
            .into_iter()
            .filter(|(key, _)| *key == order.0)
            .map(|(_, message)| match message {
                Message::CouponHeld(_) => "held",
                Message::CouponReleased(_) => "released",
                Message::CouponRefused(StepRefused { code, .. }) => code.slug(),
                other => panic!("{} is not keyed by an order", other.kind()),
            })
            .collect()
    }

    pub async fn state(&self, coupon: IssuedCouponId) -> String {
        let rows: Vec<(Uuid, String)> = self.app.rows("select id, state from coupons_issued").await;
        rows.into_iter().find(|(id, _)| *id == coupon.0).expect("it was issued").1
    }

    /// Checks I-C1, I-C2, I-C3, I-C7 and I-W1, and the counters against the rows.
    pub async fn audit(&self) {
        for (what, sql) in [
            (
                "I-C1: more units issued than the quantity",
                "select count(*) from coupons_definitions d where quantity < (select count(*) from coupons_issued i \
                 where i.coupon_id = d.id and state <> 'CANCELLED' and not slot_returned)",
            ),
            (
                "I-C2: a member has more than the limit",
                "select count(*) from (select 1 from coupons_issued i join coupons_definitions d on d.id = i.coupon_id \
                 where state <> 'CANCELLED' group by i.coupon_id, i.member_id, d.per_member having count(*) > d.per_member) greedy",
            ),
            (
                "I-C3: numbers have a gap or a repeat",
                "select count(*) from (select 1 from coupons_issued group by coupon_id \
                 having min(number) <> 1 or max(number) <> count(*) or count(distinct number) <> count(*)) broken",
            ),
            ("I-C7: used after its end", "select count(*) from coupons_issued where used_at >= expires_at"),
            (
                "I-W1: a later ticket was served before an earlier one",
                "select count(*) from coupons_waiting a join coupons_waiting b on b.coupon_id = a.coupon_id and a.ticket < b.ticket \
                 where a.state = 'WAITING' and b.state = 'ADMITTED'",
            ),
            (
                "the counter of issued units is wrong",
                "select count(*) from coupons_definitions d where issued <> (select count(*) from coupons_issued i \
                 where i.coupon_id = d.id and state <> 'CANCELLED' and not slot_returned)",
            ),
            (
                "the counter of waiting members is wrong",
                "select count(*) from coupons_definitions d where waiting <> (select count(*) from coupons_waiting w \
                 where w.coupon_id = d.id and state = 'WAITING')",
            ),
            (
                "a ticket waits below the head",
                "select count(*) from coupons_waiting w join coupons_definitions d on d.id = w.coupon_id \
                 where w.state = 'WAITING' and w.ticket < d.head_ticket",
            ),
        ] {
            assert_eq!(self.app.sql_i64(sql).await, 0, "{what}");
        }
    }
}

/// Retries until the status is as expected, because other processes learn of a change a moment later.
pub async fn eventually<F: Future<Output = TestResponse>>(status: u16, attempt: impl Fn() -> F) -> TestResponse {
    for _ in 0..300 {
        let answer = attempt().await;
        if answer.status == status {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    attempt().await.expect(status)
}

pub fn member() -> MemberId {
    new_id().into()
}

pub fn members(count: usize) -> Vec<MemberId> {
    (0..count).map(|_| member()).collect()
}

pub fn order() -> OrderId {
    new_id().into()
}

pub fn id(value: &Value) -> Uuid {
    value.as_str().expect("an id").parse().expect("an id")
}

/// The sorted numbers of the issued coupons.
pub fn numbers(answers: &[TestResponse]) -> Vec<i64> {
    let mut numbers: Vec<i64> =
        answers.iter().filter(|answer| answer.status == 201).map(|answer| answer.body["number"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

pub fn count(answers: &[TestResponse], slug: &str) -> usize {
    answers.iter().filter(|answer| answer.problem() == slug).count()
}
