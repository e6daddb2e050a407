//! A whole mall inside the test: every service behind the real router, and people to act in it. Ends with an audit of all data.

use accounts::{Accounts, AccountsSettings, NewMember};
use contracts::{MemberId, Timestamp};
use kit::{
    auth::Role,
    ports::new_id,
    testing::{App, TestRequest, TestResponse},
};
use onrush::{
    audit,
    mall::services,
    settings::{Given, SagaMode, Settings},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::JoinSet;

/// Long enough for a checkout in hops on a busy machine; the server allows 25.
pub const PATIENCE: &str = "wait=25";
/// Rounds of ten milliseconds until a mall must be quiet.
const ROUNDS: u32 = 3_000;

/// Folded or hop by hop, and how checkouts are led.
pub type Way = (bool, SagaMode);

/// Every way a checkout can go: its stories end the same in all of them (G3).
pub const WAYS: [Way; 4] =
    [(true, SagaMode::Orchestrated), (false, SagaMode::Orchestrated), (true, SagaMode::Choreographed), (false, SagaMode::Choreographed)];

pub struct Mall {
    pub app: App,
    pub settings: Settings,
    pub operator: Person,
}

/// Someone who is signed in.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: MemberId,
    pub token: String,
}

/// A store and who runs it.
#[derive(Clone, Debug)]
pub struct Shop {
    pub id: String,
    pub seller: Person,
}

impl Mall {
    pub async fn open() -> Mall {
        Self::folding(true).await
    }

    /// With messages handed over inside the writing transaction, or each hop in one of its own.
    pub async fn folding(fold: bool) -> Mall {
        Self::with(|settings| settings.fold = fold).await
    }

    /// The same, with checkouts led like this.
    pub async fn led((fold, saga): Way) -> Mall {
        Self::with(|settings| (settings.fold, settings.saga) = (fold, saga)).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Mall {
        let builder = App::builder();
        let mut settings = Settings::load(&Given::default()).expect("the defaults are usable");
        settings.data_dir = builder.folder();
        change(&mut settings);
        let app = builder.fold(settings.fold).max_batch(settings.max_batch).start_mall(|kit| services(kit, &settings)).await;
        settings.postgres = app.postgres();
        let operator = person(&app, Role::Operator);
        Mall { app, settings, operator }
    }

    /// Stops everything and starts it again on the same data; messages are folded from then on.
    pub async fn restart(self) -> Mall {
        let Mall { app, settings, operator } = self;
        let app = app.restart_mall(|kit| services(kit, &settings)).await;
        Mall { app, settings, operator }
    }

    /// Waits until nothing is under way, then audits everything.
    pub async fn finish(self) {
        let report = self.audited().await;
        assert!(report.clean, "the audit found {report:#?}");
        assert_eq!(report.checked, audit::checks().len(), "every check was made");
        self.app.stop().await;
    }

    /// Waits until no message is under way and no saga runs: in hops, what follows an answer takes a moment.
    pub async fn quiet(&self) {
        let report = self.audited().await;
        assert_eq!(report.not_quiet, None, "the mall does not come to rest");
    }

    async fn audited(&self) -> audit::Report {
        let mut report = self.audit().await;
        for _ in 0..ROUNDS {
            if report.not_quiet.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            report = self.audit().await;
        }
        report
    }

    async fn audit(&self) -> audit::Report {
        self.app.rest().await;
        audit::run_any(&self.settings, self.app.clock_now()).await.expect("the data can be read")
    }

    /// An instant so many seconds from now, as the API writes it.
    pub fn at(&self, seconds: i64) -> String {
        Timestamp(self.app.clock_now().0 + seconds * 1_000_000).to_string()
    }

    /// Somebody with a token, of whom accounts know nothing.
    pub fn stranger(&self, role: Role) -> Person {
        person(&self.app, role)
    }

    /// Members that exist, with empty wallets.
    pub async fn members(&self, count: usize) -> Vec<Person> {
        let accounts = Arc::new(Accounts::new(self.app.kit_of("accounts").clone(), AccountsSettings::default()));
        let new = |_| {
            let member_id = MemberId(new_id());
            NewMember { member_id, email: format!("{member_id}@example.com"), name: "Shopper".into() }
        };
        let imported = accounts.import((0..count).map(new).collect()).await.expect("the members are new");
        imported.into_iter().map(|member| Person { id: member.member_id, token: member.access_token }).collect()
    }

    pub async fn member(&self) -> Person {
        self.members(1).await.remove(0)
    }

    /// Members with cash and points.
    pub async fn shoppers(&self, count: usize, cash: i64, points: i64) -> Vec<Person> {
        let shoppers = self.members(count).await;
        if cash > 0 {
            let charge = |shopper: &Person| self.post(shopper, "/v1/wallet/charges", &json!({"amount": cash}));
            all(201, at_once(64, shoppers.iter().map(charge).collect()).await);
        }
        if points > 0 {
            let grant = |shopper: &Person| {
                self.post(&self.operator, "/v1/wallet/grants", &json!({"member_id": shopper.id, "amount": points, "reason": "welcome"}))
            };
            all(201, at_once(64, shoppers.iter().map(grant).collect()).await);
        }
        shoppers
    }

    pub async fn shopper(&self, cash: i64, points: i64) -> Person {
        self.shoppers(1, cash, points).await.remove(0)
    }

    pub async fn shop(&self) -> Shop {
        let member = self.member().await;
        let made =
            self.post(&self.operator, "/v1/stores", &json!({"name": "Corner Shop", "seller_id": member.id})).send().await.expect(201);
        let seller = Person { id: member.id, token: self.app.token(member.id, Role::Seller) };
        Shop { id: text(&made.body["id"]), seller }
    }

    /// Something of the mall's own store; its SKU.
    pub async fn product(&self, price: i64, stock: i64) -> String {
        self.product_of(&json!({"name": "Scarf", "price": price, "stock": stock})).await
    }

    /// Something described in full, put on sale by the operator; its SKU. Returns when its stock is known.
    pub async fn product_of(&self, body: &Value) -> String {
        let made = self.post(&self.operator, "/v1/products", body).send().await.expect(201);
        let sku = text(&made.body["options"][0]["sku"]);
        for _ in 0..ROUNDS {
            if self.get(&self.operator, &format!("/v1/stock/{sku}")).send().await.status == 200 {
                return sku;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("stock never heard of {sku}");
    }

    /// A coupon that is given out now, 1,000 won off the order; `changes` replace fields. Its id.
    pub async fn coupon(&self, changes: Value) -> String {
        let made = self.post(&self.operator, "/v1/coupons", &self.coupon_body(changes)).send().await.expect(201);
        text(&made.body["id"])
    }

    pub fn coupon_body(&self, changes: Value) -> Value {
        let mut body = json!({
            "name": "Rush", "kind": "first_come", "discount": {"type": "amount", "won": 1_000}, "scope": "order", "quantity": 100,
            "issue_from": self.at(-60), "issue_until": self.at(3_600), "valid_until": self.at(86_400)
        });
        for (name, value) in changes.as_object().expect("changes are an object") {
            match value {
                Value::Null => drop(body.as_object_mut().expect("an object").remove(name)),
                value => body[name] = value.clone(),
            }
        }
        body
    }

    pub fn claim(&self, person: &Person, coupon: &str) -> TestRequest {
        self.app.post(format!("/v1/coupons/{coupon}/claims")).bearer(&person.token)
    }

    /// Claims a coupon that is there to be had; the id of what was issued.
    pub async fn claimed(&self, person: &Person, coupon: &str) -> String {
        text(&self.claim(person, coupon).send().await.expect(201).body["issued_coupon_id"])
    }

    /// A mutating request, under a key of its own.
    pub fn post(&self, person: &Person, path: &str, body: &Value) -> TestRequest {
        self.app.post(path).bearer(&person.token).key(&new_id().to_string()).json(body)
    }

    pub fn get(&self, person: &Person, path: &str) -> TestRequest {
        self.app.get(path).bearer(&person.token)
    }

    /// An order that is answered when it rests.
    pub fn order(&self, person: &Person, body: &Value) -> TestRequest {
        self.post(person, "/v1/orders", body).header("prefer", PATIENCE)
    }

    /// An order that comes to this state; as it was answered.
    pub async fn ordered(&self, person: &Person, body: &Value, state: &str) -> Value {
        let made = self.order(person, body).send().await.expect(201);
        assert_eq!(made.body["state"], state, "{}", made.body);
        made.body
    }

    pub fn pay(&self, person: &Person, order: &str) -> TestRequest {
        self.post(person, &format!("/v1/orders/{order}/payments"), &json!({"method": "wallet"})).header("prefer", PATIENCE)
    }

    pub fn cancel(&self, person: &Person, order: &str) -> TestRequest {
        self.post(person, &format!("/v1/orders/{order}/cancellation"), &json!({})).header("prefer", PATIENCE)
    }

    /// (cash, points), which may still change when messages are under way.
    pub async fn wallet(&self, person: &Person) -> (i64, i64) {
        let wallet = self.get(person, "/v1/wallet").send().await.expect(200).body;
        (number(&wallet["cash"]), number(&wallet["points"]))
    }

    /// (on hand, reserved, sold), when all has come to rest.
    pub async fn stock(&self, sku: &str) -> (i64, i64, i64) {
        self.quiet().await;
        let stock = self.get(&self.operator, &format!("/v1/stock/{sku}")).send().await.expect(200).body;
        (number(&stock["on_hand"]), number(&stock["reserved"]), number(&stock["sold"]))
    }

    pub async fn state_of(&self, person: &Person, order: &str) -> String {
        text(&self.get(person, &format!("/v1/orders/{order}")).send().await.expect(200).body["state"])
    }

    /// Nothing is set aside for anybody: no stock, no coupon, no points.
    pub async fn expect_nothing_held(&self) {
        for held in [
            "select count(*) from stock_holds where state='ACTIVE'",
            "select count(*) from stock_items where reserved<>0",
            "select count(*) from coupons_issued where state='HELD'",
            "select count(*) from wallet_holds where state='HELD'",
        ] {
            self.app.eventually(held, 0).await;
        }
    }
}

fn person(app: &App, role: Role) -> Person {
    let id = MemberId(new_id());
    Person { id, token: app.token(id, role) }
}

/// One unit of a SKU, paid from the wallet in the same call.
pub fn paid(sku: &str) -> Value {
    json!({"items": [{"sku": sku, "quantity": 1}], "payment": {"method": "wallet"}})
}

/// One unit of a SKU, to be paid later.
pub fn unpaid(sku: &str) -> Value {
    json!({"items": [{"sku": sku, "quantity": 1}]})
}

#[must_use]
pub fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

#[track_caller]
pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Sends requests from many tasks, `limit` under way at a time; the answers are in the order of the requests.
pub async fn at_once(limit: usize, requests: Vec<TestRequest>) -> Vec<TestResponse> {
    let waiting = Arc::new(Mutex::new(requests.into_iter().enumerate()));
    let mut clients = JoinSet::new();
    for _ in 0..limit {
        let waiting = Arc::clone(&waiting);
        clients.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let next = waiting.lock().expect("no client panics with the lock").next();
                let Some((index, request)) = next else { return answers };
                answers.push((index, request.send().await));
            }
        });
    }
    let mut answers: Vec<(usize, TestResponse)> = clients.join_all().await.into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[track_caller]
pub fn all(status: u16, answers: Vec<TestResponse>) {
    for answer in answers {
        let _ = answer.expect(status);
    }
}

/// How many answers had this status and problem; "" is none.
pub fn count(answers: &[TestResponse], status: u16, problem: &str) -> usize {
    answers.iter().filter(|answer| (answer.status, answer.problem()) == (status, problem)).count()
}

/// (status, problem) of each, counted: for messages.
pub fn tally(answers: &[TestResponse]) -> Vec<(u16, String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for answer in answers {
        *counts.entry((answer.status, answer.problem().to_owned())).or_insert(0) += 1;
    }
    counts.into_iter().map(|((status, problem), count)| (status, problem, count)).collect()
}
