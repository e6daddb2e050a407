//! Test world: a real orders service, stubs of the other services, and one buyer.

use crate::participants_stub::{ParticipantsStub, Reaction};
use contracts::{IssuedCouponId, MemberId, Message, OrderId, PaymentId, Sku, StoreId, calls::CouponScope, messages::StockPolicy};
use kit::{auth::Role, ports::new_id};
use orders::{Orders, OrdersSettings, SagaMode, UnpaidLimits};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use testkit::{App, TestRequest, TestResponse};
use uuid::Uuid;

pub use contracts::Code;

/// Longer than the deadline of a step (30 seconds).
pub const PAST_STEP_DEADLINE: Duration = Duration::from_secs(31);
/// Longer than an order may stay unpaid (10 minutes).
pub const PAST_UNPAID_TIMEOUT: Duration = Duration::from_secs(601);

pub struct World {
    pub app: App,
    pub participants: ParticipantsStub,
    pub buyer: MemberId,
    pub token: String,
    /// The store of `seller`.
    pub store: StoreId,
    pub seller: MemberId,
    /// Saga mode of new orders.
    pub saga: SagaMode,
}

/// Messages of a paid order to its participants, in the order of sending.
const FINALS: [&str; 3] = ["stock.commit", "coupon.use", "points.use"];

/// With or without folding, and the saga mode.
pub type RunMode = (bool, SagaMode);

/// Settings of most tests: their one buyer orders more without payment than a real one may.
pub fn settings(saga: SagaMode) -> OrdersSettings {
    let unpaid = UnpaidLimits { orders: 10_000, units: 10_000, pause: Duration::ZERO };
    OrdersSettings { saga, unpaid, ..OrdersSettings::default() }
}

impl World {
    pub fn fold_settings() -> &'static [bool] {
        App::fold_settings()
    }

    /// All run modes that differ on this database. The outcomes are the same in each.
    pub fn run_modes() -> impl Iterator<Item = RunMode> {
        let sagas = [SagaMode::Orchestrated, SagaMode::Choreographed];
        sagas.into_iter().flat_map(|saga| World::fold_settings().iter().map(move |fold| (*fold, saga)))
    }

    pub async fn new() -> World {
        World::with_fold(true).await
    }

    /// `fold`: messages are handled in the transaction that emits them. Otherwise each hop has its own transaction.
    pub async fn with_fold(fold: bool) -> World {
        World::in_mode((fold, SagaMode::Orchestrated)).await
    }

    pub async fn in_mode((fold, saga): RunMode) -> World {
        World::with_settings(fold, settings(saga)).await
    }

    /// With the limits on unpaid orders that a mall has by default.
    pub async fn with_limits(fold: bool) -> World {
        World::with_settings(fold, OrdersSettings::default()).await
    }

    async fn with_settings(fold: bool, settings: OrdersSettings) -> World {
        let saga = settings.saga;
        let participants = ParticipantsStub::default();
        let app = App::builder()
            .fold(fold)
            .start(|kit| {
                let mut services = participants.services(kit);
                services.push(Arc::new(Orders::new(kit.clone(), settings)));
                services
            })
            .await;
        let (buyer, seller) = (MemberId(new_id()), MemberId(new_id()));
        let token = app.token(buyer, Role::Customer);
        let store = participants.open_store(seller);
        World { app, participants, buyer, token, store, seller, saga }
    }

    /// Restarts all services on the same database.
    pub async fn restart(self) -> World {
        let saga = self.saga;
        self.restart_as(saga).await
    }

    /// Restarts all services with this saga mode for new orders.
    pub async fn restart_as(self, saga: SagaMode) -> World {
        let World { app, participants, buyer, token, store, seller, .. } = self;
        let app = app
            .restart(|kit| {
                let mut services = participants.services(kit);
                services.push(Arc::new(Orders::new(kit.clone(), settings(saga))));
                services
            })
            .await;
        World { app, participants, buyer, token, store, seller, saga }
    }

    pub fn stranger_token(&self) -> String {
        self.app.token(MemberId(new_id()), Role::Customer)
    }
    pub fn seller_token(&self) -> String {
        self.app.token(self.seller, Role::Seller)
    }
    pub fn operator_token(&self) -> String {
        self.app.token(MemberId(new_id()), Role::Operator)
    }

    pub fn sell(&self, price: i64) -> Sku {
        self.participants.sell_in(self.store, price, StockPolicy::ReserveOnOrder)
    }
    /// An item whose stock is taken at payment.
    pub fn sell_deduct_on_payment(&self, price: i64) -> Sku {
        self.participants.sell_in(self.store, price, StockPolicy::DeductOnPayment)
    }
    pub fn coupon(&self, won: i64) -> IssuedCouponId {
        self.participants.issue(self.buyer, CouponScope::Order, won)
    }
    pub fn set_reaction(&self, kind: &'static str, reaction: Reaction) {
        self.participants.set_reaction(kind, reaction);
    }

    /// An order with all steps: both stock policies, a coupon and points. It costs 12,500.
    pub fn full(&self) -> Value {
        let items = json!([{"sku": self.sell(5_000), "quantity": 2}, {"sku": self.sell_deduct_on_payment(4_000), "quantity": 1}]);
        json!({"items": items, "coupons": [self.coupon(1_000)], "points": 500})
    }

    /// An order with all steps, paid in the same call.
    pub fn full_paid(&self) -> Value {
        with_field(self.full(), "payment", json!({"method": "wallet"}))
    }

    /// An order of one item for 5,000.
    pub fn plain(&self) -> Value {
        json!({"items": [{"sku": self.sell(5_000), "quantity": 1}]})
    }

    pub fn plain_paid(&self) -> Value {
        with_field(self.plain(), "payment", json!({"method": "wallet"}))
    }

    /// A POST request of the buyer.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> TestRequest {
        self.app.post(path).bearer(&self.token).key(key).json(body)
    }

    /// Places an order and waits until it comes to rest.
    pub async fn order(&self, key: &str, body: &Value) -> TestResponse {
        self.post("/v1/orders", key, body).header("prefer", "wait=20").send().await
    }

    /// Places an order, and asserts that it comes to rest in this state.
    pub async fn order_in_state(&self, body: &Value, state: &str) -> OrderId {
        let key = new_id().to_string();
        let made = self.order(&key, body).await.expect(201);
        assert_eq!(made.body["state"], state, "{}", made.body);
        id_of(&made)
    }

    /// Places an order without waiting for its saga.
    pub async fn start_order(&self, body: &Value) -> OrderId {
        let key = new_id().to_string();
        id_of(&self.post("/v1/orders", &key, body).send().await.expect(201))
    }

    pub async fn pay(&self, id: OrderId, key: &str) -> TestResponse {
        self.post(&format!("/v1/orders/{id}/payments"), key, &json!({"method": "wallet"})).header("prefer", "wait=20").send().await
    }

    pub async fn cancel(&self, id: OrderId, key: &str) -> TestResponse {
        self.post(&format!("/v1/orders/{id}/cancellation"), key, &json!({})).header("prefer", "wait=20").send().await
    }

    /// Advances an order as its seller.
    pub async fn advance(&self, id: OrderId, state: &str) -> TestResponse {
        let body = json!({"state": state});
        self.app.post(format!("/v1/orders/{id}/fulfilment")).bearer(&self.seller_token()).json(&body).send().await
    }

    /// Gets an order with a new token, because the clock may have passed the expiry of the first one.
    pub async fn get(&self, id: OrderId) -> Value {
        let token = self.app.token(self.buyer, Role::Customer);
        self.app.get(format!("/v1/orders/{id}")).bearer(&token).send().await.expect(200).body
    }

    /// Waits until an order is in this state. With folding it already is.
    pub async fn wait_for_state(&self, id: OrderId, state: &str) {
        let sql = format!("select count(*) from orders_orders where id=x'{}' and state='{state}'", id.0.simple());
        self.app.eventually(&sql, 1).await;
    }

    /// Waits until orders has emitted this many messages of a kind, for all orders together.
    pub async fn wait_for_emitted(&self, kind: &str, times: i64) {
        self.app.eventually(&format!("select count(*) from orders_outbox where kind='{kind}'"), times).await;
    }

    /// Kinds of all messages that orders emitted for an order.
    pub async fn emitted_kinds(&self, id: OrderId) -> Vec<&'static str> {
        self.messages(id).await.iter().map(Message::kind).collect()
    }

    /// Asserts the requests to the participants and the events of the order, in either saga mode.
    pub async fn expect_messages(&self, id: OrderId, wanted: &[&str]) {
        let own = |kind: &&str| kind.starts_with("order.");
        let (events, requests): (Vec<&str>, Vec<&str>) = wanted.iter().copied().partition(own);
        if self.saga == SagaMode::Orchestrated {
            assert_eq!(self.emitted_kinds(id).await, wanted);
        }
        assert_eq!(self.emitted_kinds(id).await.into_iter().filter(own).collect::<Vec<_>>(), events);
        self.expect_received(id, &requests).await;
    }

    pub async fn messages(&self, id: OrderId) -> Vec<Message> {
        self.app.messages("orders").await.into_iter().filter(|(key, _)| *key == id.0).map(|(_, message)| message).collect()
    }

    /// Waits until the participants have handled exactly these messages, in this order.
    pub async fn expect_received(&self, id: OrderId, wanted: &[&str]) {
        // The messages that make a sale final are sent together, so participants handle them in any order.
        let in_turn = |kinds: Vec<&'static str>| {
            let mut kinds = kinds;
            for run in kinds.chunk_by_mut(|a, b| FINALS.contains(a) && FINALS.contains(b)) {
                run.sort_by_key(|kind| FINALS.iter().position(|makes_final| makes_final == kind));
            }
            kinds
        };
        let received = || in_turn(self.participants.received(id).iter().map(Message::kind).collect());
        for _ in 0..500 {
            if received() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(received(), wanted);
    }

    pub async fn payment_id(&self, id: OrderId) -> PaymentId {
        self.get(id).await["payment"]["id"].as_str().and_then(|id| id.parse().ok()).expect("the order has a payment")
    }

    /// Number of orders.
    pub async fn order_count(&self) -> i64 {
        self.app.sql_i64("select count(*) from orders_orders").await
    }

    /// Advances the clock and runs the job `orders.due`.
    pub async fn advance_clock(&self, time: Duration) {
        self.app.clock.advance(time);
        self.app.job("orders.due").await;
    }

    /// Checks I-O1, I-O8 and I-O10 to I-O13. Each query must count 0.
    pub async fn audit(&self) {
        let checks = [
            (
                "I-O1",
                "select count(*) from (select o.id from orders_orders o join orders_lines l on l.order_id=o.id \
                 group by o.id, o.subtotal, o.discount, o.points_used, o.shipping, o.total \
                 having sum(l.quantity*l.unit_price)<>o.subtotal or sum(l.line_discount)<>o.discount \
                 or o.total<>o.subtotal-o.discount-o.points_used+o.shipping) wrong",
            ),
            (
                "I-O1 coupons",
                "select count(*) from orders_orders o where o.discount<>(select coalesce(sum(c.discount),0) from orders_coupons c where c.order_id=o.id)",
            ),
            (
                "I-O8 numbers",
                "select count(*) from orders_orders o where o.events<>(select count(*) from orders_events e where e.order_id=o.id) \
                 or o.events<>(select max(n) from orders_events e where e.order_id=o.id) \
                 or o.state<>(select to_state from orders_events e where e.order_id=o.id and e.n=o.events)",
            ),
            (
                "I-O8 chain",
                "select count(*) from orders_events e left join orders_events b on b.order_id=e.order_id and b.n=e.n-1 \
                 where coalesce(e.from_state,'')<>coalesce(b.to_state,'')",
            ),
            (
                "I-O10",
                "select count(*) from (select 1 from orders_steps where state='OK' group by order_id, step, kind having count(*)>1) twice",
            ),
            (
                "I-O11",
                "select count(*) from orders_steps d join orders_steps u on u.order_id=d.order_id and u.step=d.step and u.kind='UNDO' \
                 and u.state='OK' where d.kind='DO' and d.state='OK' and d.n>u.n",
            ),
            (
                "I-O12",
                "select count(*) from orders_orders o join orders_steps d on d.order_id=o.id and d.kind='DO' and d.state='OK' \
                 where o.saga_state='UNDONE' and not exists (select 1 from orders_steps u where u.order_id=o.id and u.step=d.step \
                 and u.kind='UNDO' and u.state='OK')",
            ),
            ("I-O13", "select count(*) from (select 1 from orders_orders group by member_id, idempotency_key having count(*)>1) twice"),
            ("dead letters", "select count(*) from orders_dead_letters where state<>'resolved'"),
        ];
        for (name, sql) in checks {
            assert_eq!(self.app.sql_i64(sql).await, 0, "{name}");
        }
    }
}

pub fn with_field(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

pub fn id_of(made: &TestResponse) -> OrderId {
    let id: Uuid = made.body["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no order in {}", made.body));
    OrderId(id)
}

pub fn header<'a>(response: &'a TestResponse, name: &str) -> Option<&'a str> {
    response.headers.get(name).and_then(|value| value.to_str().ok())
}

/// All states of an order so far.
pub fn states(order: &Value) -> Vec<&str> {
    order["states"].as_array().expect("a history").iter().filter_map(|state| state["state"].as_str()).collect()
}

/// The saga's history as `step kind result`.
pub fn history(order: &Value) -> Vec<String> {
    let text = |step: &Value, name: &str| step[name].as_str().unwrap_or("?").to_owned();
    let history = order["saga"]["history"].as_array().expect("a history");
    history.iter().map(|step| format!("{} {} {}", text(step, "step"), text(step, "kind"), text(step, "result"))).collect()
}
