//! A mall of which only orders are real, and one buyer.

use crate::others::{Others, Reaction};
use contracts::{IssuedCouponId, MemberId, Message, OrderId, PaymentId, Sku, StoreId, calls::CouponScope, messages::StockPolicy};
use kit::{
    auth::Role,
    ports::new_id,
    testing::{App, TestRequest, TestResponse},
};
use orders::{Orders, OrdersSettings, SagaMode};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

pub use contracts::Code;

/// Past the deadline of a step.
pub const STEP: Duration = Duration::from_secs(31);
/// Past the time an order may stay unpaid.
pub const UNPAID: Duration = Duration::from_secs(601);

pub struct World {
    pub app: App,
    pub others: Others,
    pub buyer: MemberId,
    pub token: String,
    /// Run by `seller`.
    pub store: StoreId,
    pub seller: MemberId,
    /// How new orders are led.
    pub saga: SagaMode,
}

/// What a paid order says to its participants, in the order in which it says it.
const FINALS: [&str; 3] = ["stock.commit", "coupon.use", "points.use"];

/// Folded or not, and how orders are led.
pub type Way = (bool, SagaMode);

/// All of them: whatever is told for one is told for each.
pub const WAYS: [Way; 4] =
    [(true, SagaMode::Orchestrated), (false, SagaMode::Orchestrated), (true, SagaMode::Choreographed), (false, SagaMode::Choreographed)];

impl World {
    pub async fn new() -> World {
        World::folding(true).await
    }

    /// With messages handed over inside the writing transaction, or each hop in one of its own.
    pub async fn folding(fold: bool) -> World {
        World::led((fold, SagaMode::Orchestrated)).await
    }

    pub async fn led((fold, saga): Way) -> World {
        let others = Others::default();
        let app = App::builder()
            .fold(fold)
            .start(|kit| {
                let mut services = others.services(kit);
                services.push(Arc::new(Orders::new(kit.clone(), OrdersSettings { saga, ..OrdersSettings::default() })));
                services
            })
            .await;
        let (buyer, seller) = (MemberId(new_id()), MemberId(new_id()));
        let token = app.token(buyer, Role::Customer);
        let store = others.open_store(seller);
        World { app, others, buyer, token, store, seller, saga }
    }

    /// Stops everything and starts it again on the same database.
    pub async fn restart(self) -> World {
        let saga = self.saga;
        self.restart_as(saga).await
    }

    /// The same, with new orders led like this.
    pub async fn restart_as(self, saga: SagaMode) -> World {
        let World { app, others, buyer, token, store, seller, .. } = self;
        let app = app
            .restart(|kit| {
                let mut services = others.services(kit);
                services.push(Arc::new(Orders::new(kit.clone(), OrdersSettings { saga, ..OrdersSettings::default() })));
                services
            })
            .await;
        World { app, others, buyer, token, store, seller, saga }
    }

    pub fn stranger(&self) -> String {
        self.app.token(MemberId(new_id()), Role::Customer)
    }
    pub fn seller_token(&self) -> String {
        self.app.token(self.seller, Role::Seller)
    }
    pub fn operator(&self) -> String {
        self.app.token(MemberId(new_id()), Role::Operator)
    }

    pub fn sell(&self, price: i64) -> Sku {
        self.others.sell_in(self.store, price, StockPolicy::ReserveOnOrder)
    }
    /// Taken at payment only.
    pub fn sell_late(&self, price: i64) -> Sku {
        self.others.sell_in(self.store, price, StockPolicy::DeductOnPayment)
    }
    pub fn coupon(&self, won: i64) -> IssuedCouponId {
        self.others.issue(self.buyer, CouponScope::Order, won)
    }
    pub fn meet(&self, kind: &'static str, reaction: Reaction) {
        self.others.meet(kind, reaction);
    }

    /// An order that takes every step: two kinds of stock, a coupon and points. It costs 12,500.
    pub fn full(&self) -> Value {
        let items = json!([{"sku": self.sell(5_000), "quantity": 2}, {"sku": self.sell_late(4_000), "quantity": 1}]);
        json!({"items": items, "coupons": [self.coupon(1_000)], "points": 500})
    }

    /// The same, paid at once.
    pub fn full_paid(&self) -> Value {
        with(self.full(), "payment", json!({"method": "wallet"}))
    }

    /// One thing for 5,000.
    pub fn plain(&self) -> Value {
        json!({"items": [{"sku": self.sell(5_000), "quantity": 1}]})
    }

    pub fn plain_paid(&self) -> Value {
        with(self.plain(), "payment", json!({"method": "wallet"}))
    }

    /// A request of the buyer that changes something.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> TestRequest {
        self.app.post(path).bearer(&self.token).key(key).json(body)
    }

    /// Orders, and waits until the order rests.
    pub async fn order(&self, key: &str, body: &Value) -> TestResponse {
        self.post("/v1/orders", key, body).header("prefer", "wait=20").send().await
    }

    /// An order that rests, in this state.
    pub async fn ordered(&self, body: &Value, state: &str) -> OrderId {
        let key = new_id().to_string();
        let made = self.order(&key, body).await.expect(201);
        assert_eq!(made.body["state"], state, "{}", made.body);
        id_of(&made)
    }

    /// An order whose saga does not rest: answered as it was created.
    pub async fn started(&self, body: &Value) -> OrderId {
        let key = new_id().to_string();
        id_of(&self.post("/v1/orders", &key, body).send().await.expect(201))
    }

    pub async fn pay(&self, id: OrderId, key: &str) -> TestResponse {
        self.post(&format!("/v1/orders/{id}/payments"), key, &json!({"method": "wallet"})).header("prefer", "wait=20").send().await
    }

    pub async fn cancel(&self, id: OrderId, key: &str) -> TestResponse {
        self.post(&format!("/v1/orders/{id}/cancellation"), key, &json!({})).header("prefer", "wait=20").send().await
    }

    /// A seller's step on the way to the buyer.
    pub async fn advance(&self, id: OrderId, state: &str) -> TestResponse {
        let body = json!({"state": state});
        self.app.post(format!("/v1/orders/{id}/fulfilment")).bearer(&self.seller_token()).json(&body).send().await
    }

    /// With a token of now: the clock may have moved past the first one's end.
    pub async fn get(&self, id: OrderId) -> Value {
        let token = self.app.token(self.buyer, Role::Customer);
        self.app.get(format!("/v1/orders/{id}")).bearer(&token).send().await.expect(200).body
    }

    /// Waits until an order is in this state; folded it is there already.
    pub async fn reaches(&self, id: OrderId, state: &str) {
        let sql = format!("select count(*) from orders_orders where id=x'{}' and state='{state}'", id.0.simple());
        self.app.eventually(&sql, 1).await;
    }

    /// Waits until the participants have heard this kind this often, about any order.
    pub async fn said(&self, kind: &str, times: i64) {
        self.app.eventually(&format!("select count(*) from orders_outbox where kind='{kind}'"), times).await;
    }

    /// Everything orders said about an order.
    pub async fn story(&self, id: OrderId) -> Vec<&'static str> {
        self.messages(id).await.iter().map(Message::kind).collect()
    }

    /// What was asked of the participants, and what orders said about the order itself, was exactly this, however it was led.
    pub async fn expect_story(&self, id: OrderId, wanted: &[&str]) {
        let own = |kind: &&str| kind.starts_with("order.");
        let (news, asked): (Vec<&str>, Vec<&str>) = wanted.iter().copied().partition(own);
        if self.saga == SagaMode::Orchestrated {
            assert_eq!(self.story(id).await, wanted);
        }
        assert_eq!(self.story(id).await.into_iter().filter(own).collect::<Vec<_>>(), news);
        self.hear(id, &asked).await;
    }

    pub async fn messages(&self, id: OrderId) -> Vec<Message> {
        self.app.messages("orders").await.into_iter().filter(|(key, _)| *key == id.0).map(|(_, message)| message).collect()
    }

    /// Waits until the participants have acted on exactly this, in this order.
    pub async fn hear(&self, id: OrderId, wanted: &[&str]) {
        // What makes a sale final is said at once to each, and they hear it when they come to it.
        let in_turn = |kinds: Vec<&'static str>| {
            let mut kinds = kinds;
            for run in kinds.chunk_by_mut(|a, b| FINALS.contains(a) && FINALS.contains(b)) {
                run.sort_by_key(|kind| FINALS.iter().position(|makes_final| makes_final == kind));
            }
            kinds
        };
        let heard = || in_turn(self.others.heard(id).iter().map(Message::kind).collect());
        for _ in 0..500 {
            if heard() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(heard(), wanted);
    }

    pub async fn payment_id(&self, id: OrderId) -> PaymentId {
        self.get(id).await["payment"]["id"].as_str().and_then(|id| id.parse().ok()).expect("it is being paid")
    }

    /// How many orders there are.
    pub async fn count(&self) -> i64 {
        self.app.sql_i64("select count(*) from orders_orders").await
    }

    /// The clock moves, and what is due happens.
    pub async fn pass(&self, time: Duration) {
        self.app.clock.advance(time);
        self.app.job("orders.due").await;
    }

    /// I-O1, I-O8, I-O10 to I-O13. Each query must find nothing.
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

pub fn with(mut body: Value, field: &str, value: Value) -> Value {
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

/// States an order has been in.
pub fn states(order: &Value) -> Vec<&str> {
    order["states"].as_array().expect("a history").iter().filter_map(|state| state["state"].as_str()).collect()
}

/// `step kind result` of a saga's history.
pub fn history(order: &Value) -> Vec<String> {
    let text = |step: &Value, name: &str| step[name].as_str().unwrap_or("?").to_owned();
    let history = order["saga"]["history"].as_array().expect("a history");
    history.iter().map(|step| format!("{} {} {}", text(step, "step"), text(step, "kind"), text(step, "result"))).collect()
}
