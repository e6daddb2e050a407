//! A whole mall inside the test process: every service behind the real router, and its users. Each test ends with an audit of all data.

mod requests;

pub use requests::{count_answers, expect_all, number, paid_order, send_all, sql_uuid, tally, text, unpaid_order, with_field};

use accounts::{Accounts, AccountsSettings, NewMember};
use contracts::{MemberId, Timestamp};
use coupons::Strategy;
use kit::{
    Kit,
    auth::Role,
    ports::new_id,
    process::RedisServer,
    redis::{Redis, RedisSettings},
};
use onrush::{
    audit,
    mall::services,
    settings::{RawSettings, SagaMode, Settings},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use testkit::{App, AppBuilder, Shape, TestRequest};

/// Long enough for a hop-by-hop checkout on a busy machine. The server allows 25 seconds.
pub const WAIT_SECONDS: &str = "wait=25";
/// Rounds of ten milliseconds until a mall must be quiet.
pub const QUIET_ROUNDS: u32 = 3_000;

/// Folded or hop by hop, and the saga mode.
pub type CheckoutMode = (bool, SagaMode);

/// All checkout modes. Outcomes are the same in each (G3).
pub fn checkout_modes() -> Vec<CheckoutMode> {
    [SagaMode::Orchestrated, SagaMode::Choreographed]
        .into_iter()
        .flat_map(|saga| fold_settings().iter().map(move |fold| (*fold, saga)))
        .collect()
}

/// Folded and hop by hop. On PostgreSQL every hop has its own transaction, regardless of the setting.
pub fn fold_settings() -> &'static [bool] {
    match Shape::of_environment() {
        Shape::Solo => &[true, false],
        Shape::Replicas | Shape::Split => &[false],
    }
}

pub struct Mall {
    pub app: App,
    pub settings: Settings,
    pub operator: Person,
}

/// A signed-in user.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: MemberId,
    pub token: String,
}

/// A store and its seller.
#[derive(Clone, Debug)]
pub struct Shop {
    pub id: String,
    pub seller: Person,
}

/// Connects the Redis of the settings, with a separate key prefix for each test.
fn kit_with_redis(kit: &Kit, settings: &Settings) -> Kit {
    let mut kit = kit.clone();
    if let Some(RedisServer { url, prefix }) = &settings.redis {
        let redis = Redis::connect(url, RedisSettings { prefix: prefix.clone(), ..RedisSettings::default() }, Arc::clone(&kit.clock));
        kit.redis = Some(redis.expect("the address is one"));
    }
    kit
}

impl Mall {
    pub async fn open() -> Mall {
        Self::with_fold(true).await
    }

    /// Folded: messages are handled in the writing transaction. Otherwise each hop has its own.
    pub async fn with_fold(fold: bool) -> Mall {
        Self::with(|settings| settings.fold = fold).await
    }

    /// With this checkout mode.
    pub async fn with_checkouts((fold, saga): CheckoutMode) -> Mall {
        Self::with(|settings| (settings.fold, settings.saga) = (fold, saga)).await
    }

    /// With this claim strategy (C25), and the tests' Redis if the strategy needs it.
    pub async fn with_claim_strategy(strategy: Strategy) -> Mall {
        let redis = || std::env::var("ONRUSH_TEST_REDIS").expect("set ONRUSH_TEST_REDIS, or run ./scripts/services run -- <command>");
        Self::with(|settings| {
            settings.claim_strategy = strategy;
            let prefix = format!("test-{}:", settings.data_dir.display());
            settings.redis = (strategy == Strategy::Redis).then(|| RedisServer { url: redis(), prefix });
        })
        .await
    }

    /// One process on PostgreSQL, in any environment.
    pub async fn on_postgres() -> Mall {
        Self::build(App::builder().on_postgres(), Shape::Solo, |_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Mall {
        Self::build(App::builder(), Shape::of_environment(), change).await
    }

    async fn build(builder: AppBuilder, shape: Shape, change: impl FnOnce(&mut Settings)) -> Mall {
        let mut settings = Settings::load(&RawSettings::default()).expect("the defaults are usable");
        settings.data_dir = builder.folder();
        change(&mut settings);
        let app = builder
            .fold(settings.fold)
            .max_batch(settings.max_batch)
            .start_in(shape, |kit| services(&kit_with_redis(kit, &settings), &settings))
            .await;
        settings.postgres = app.postgres();
        let operator = person(&app, Role::Operator);
        Mall { app, settings, operator }
    }

    /// Restarts on the same data. The restarted mall folds messages.
    pub async fn restart(self) -> Mall {
        let Mall { app, settings, operator } = self;
        let app = app.restart_mall(|kit| services(&kit_with_redis(kit, &settings), &settings)).await;
        Mall { app, settings, operator }
    }

    /// Waits until the mall is quiet, then audits all data.
    pub async fn finish(self) {
        self.wait_until_quiet().await;
        self.assert_clean("at the end").await;
        self.app.stop().await;
    }

    /// Waits until no message is unread and no saga runs. Hop by hop, work continues after an answer.
    pub async fn wait_until_quiet(&self) {
        for _ in 0..QUIET_ROUNDS {
            if self.is_quiet().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the mall does not rest: {:#?}", self.audit().await);
    }

    pub async fn is_quiet(&self) -> bool {
        const RUNNING: &str = "select count(*) from orders_orders where saga_state in ('RUNNING','UNDOING')";
        // A saga may end between the two checks and leave messages.
        self.app.is_quiescent().await && self.app.sql_i64(RUNNING).await == 0 && self.app.is_quiescent().await
    }

    /// Runs every check. Fails on any violated invariant. The mall must be quiet.
    pub async fn assert_clean(&self, context: &str) {
        let report = self.audit().await;
        assert!(report.clean, "{context}, the audit found {report:#?}");
        assert_eq!(report.checked, audit::checks().len(), "{context}: every check was made");
    }

    pub async fn audit(&self) -> audit::AuditReport {
        audit::run_any(&self.settings, self.app.clock_now()).await.expect("the data can be read")
    }

    /// Makes the writers commit, so that released readers resume at once and not at their next tick.
    pub async fn wake(&self) {
        let _ = self.post(&self.operator, "/v1/wallet/charges", &json!({"amount": 1_000})).send().await.expect(201);
    }

    /// An instant `seconds` from now, as RFC 3339.
    pub fn at(&self, seconds: i64) -> String {
        Timestamp(self.app.clock_now().0 + seconds * 1_000_000).to_string()
    }

    /// A user with a token but without an account.
    pub fn stranger(&self, role: Role) -> Person {
        person(&self.app, role)
    }

    /// Members with empty wallets.
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
        self.fill_wallets(&shoppers.iter().collect::<Vec<_>>(), cash, points).await;
        shoppers
    }

    pub async fn fill_wallets(&self, shoppers: &[&Person], cash: i64, points: i64) {
        if cash > 0 {
            let charge = |shopper: &&Person| self.post(shopper, "/v1/wallet/charges", &json!({"amount": cash}));
            expect_all(201, send_all(64, shoppers.iter().map(charge).collect()).await);
        }
        if points > 0 {
            let grant = |shopper: &&Person| {
                self.post(&self.operator, "/v1/wallet/grants", &json!({"member_id": shopper.id, "amount": points, "reason": "welcome"}))
            };
            expect_all(201, send_all(64, shoppers.iter().map(grant).collect()).await);
        }
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

    /// SKU of a new product of the mall's own store.
    pub async fn product(&self, price: i64, stock: i64) -> String {
        self.product_of(&json!({"name": "Scarf", "price": price, "stock": stock})).await
    }

    /// SKU of a product with this description, created by the operator. Returns once stock knows the SKU.
    pub async fn product_of(&self, body: &Value) -> String {
        text(&self.put_on_sale(&self.operator, body).await["options"][0]["sku"])
    }

    /// The created product. Returns once stock knows its SKU.
    pub async fn put_on_sale(&self, seller: &Person, body: &Value) -> Value {
        let product = self.post(seller, "/v1/products", body).send().await.expect(201).body;
        let sku = text(&product["options"][0]["sku"]);
        for _ in 0..QUIET_ROUNDS {
            if self.get(seller, &format!("/v1/stock/{sku}")).send().await.status == 200 {
                return product;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("stock does not know {sku}");
    }

    /// Id of a coupon that is open now: 1,000 won off the order. `changes` replace fields.
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

    /// Claims an available coupon. Returns the id of the issued coupon.
    pub async fn claim_issued(&self, person: &Person, coupon: &str) -> String {
        text(&self.claim(person, coupon).send().await.expect(201).body["issued_coupon_id"])
    }

    /// A mutating request with a new key.
    pub fn post(&self, person: &Person, path: &str, body: &Value) -> TestRequest {
        self.app.post(path).bearer(&person.token).key(&new_id().to_string()).json(body)
    }

    pub fn get(&self, person: &Person, path: &str) -> TestRequest {
        self.app.get(path).bearer(&person.token)
    }

    /// An order that is answered when it rests.
    pub fn order(&self, person: &Person, body: &Value) -> TestRequest {
        self.post(person, "/v1/orders", body).header("prefer", WAIT_SECONDS)
    }

    /// Places an order and expects this state. Returns the answer.
    pub async fn order_in_state(&self, person: &Person, body: &Value, state: &str) -> Value {
        let made = self.order(person, body).send().await.expect(201);
        assert_eq!(made.body["state"], state, "{}", made.body);
        made.body
    }

    pub fn pay(&self, person: &Person, order: &str) -> TestRequest {
        self.post(person, &format!("/v1/orders/{order}/payments"), &json!({"method": "wallet"})).header("prefer", WAIT_SECONDS)
    }

    pub fn cancel(&self, person: &Person, order: &str) -> TestRequest {
        self.post(person, &format!("/v1/orders/{order}/cancellation"), &json!({})).header("prefer", WAIT_SECONDS)
    }

    /// (cash, points). May still change while messages are unread.
    pub async fn wallet(&self, person: &Person) -> (i64, i64) {
        let wallet = self.get(person, "/v1/wallet").send().await.expect(200).body;
        (number(&wallet["cash"]), number(&wallet["points"]))
    }

    /// (on hand, reserved, sold), once the mall is quiet.
    pub async fn stock(&self, sku: &str) -> (i64, i64, i64) {
        self.wait_until_quiet().await;
        let stock = self.get(&self.operator, &format!("/v1/stock/{sku}")).send().await.expect(200).body;
        (number(&stock["on_hand"]), number(&stock["reserved"]), number(&stock["sold"]))
    }

    pub async fn state_of(&self, person: &Person, order: &str) -> String {
        text(&self.get(person, &format!("/v1/orders/{order}")).send().await.expect(200).body["state"])
    }

    /// Expects that every process refuses the token of an ended session, on every path. A single process refuses at once, others within
    /// moments (A4).
    pub async fn assert_token_refused(&self, token: &str) {
        // Paths of services in different processes.
        const LOCKED: [&str; 4] = ["/v1/me", "/v1/orders", "/v1/me/coupons", "/v1/wallet"];
        let rounds = if self.app.instances() == 1 { 1 } else { QUIET_ROUNDS / 2 };
        let mut still_good = Vec::new();
        for _ in 0..rounds {
            still_good.clear();
            for path in LOCKED {
                let answers = self.app.get(path).bearer(token).send_to_each().await;
                let good = answers.iter().filter(|answer| (answer.status, answer.problem()) != (401, "unauthenticated"));
                still_good.extend(good.map(|answer| (path, answer.status, answer.body.clone())));
            }
            if still_good.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the token of an ended session is accepted: {still_good:?}");
    }

    /// Expects that no stock, no coupon and no points are held.
    pub async fn assert_nothing_held(&self) {
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
