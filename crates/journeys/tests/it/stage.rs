//! A whole mall inside the test process, and what a story on it needs: goods, coupons, shoppers, orders, the audit.

use contracts::MemberId;
use kit::{
    auth::Role,
    ports::new_id,
    testing::{App, TestResponse},
};
use onrush::{
    audit::{self, Report},
    documents::readings,
    mall,
    settings::{Given, SagaMode, Settings},
};
use serde_json::{Value, json};
use std::time::Duration;

pub struct Stage {
    pub app: App,
    pub settings: Settings,
    operator: String,
    nobody: MemberId,
}

pub struct Shopper {
    pub id: MemberId,
    pub token: String,
}

impl Stage {
    pub async fn open(fold: bool) -> Stage {
        Self::led(fold, SagaMode::Orchestrated).await
    }

    /// The same, with checkouts led like this.
    pub async fn led(fold: bool, saga: SagaMode) -> Stage {
        let builder = App::builder().fold(fold);
        let given = Given { data_dir: Some(builder.folder()), test_provider: Some(true), ..Given::default() };
        let mut settings = Settings::load(&given).expect("the settings are good");
        settings.saga = saga;
        let app = builder.start(|kit| mall::services(kit, &settings)).await;
        settings.postgres = app.postgres();
        let operator = app.token(MemberId(new_id()), Role::Operator);
        Stage { app, settings, operator, nobody: MemberId(new_id()) }
    }

    async fn make(&self, path: &str, body: &Value) -> Value {
        self.app.post(path).bearer(&self.operator).key(&new_id().to_string()).json(body).send().await.expect(201).body
    }

    /// One SKU for sale, of the mall's own store.
    pub async fn product(&self, price: i64, stock: i64, policy: &str) -> String {
        let body = json!({"name": "Umbrella", "price": price, "stock": stock, "stock_policy": policy});
        let made = self.make("/v1/products", &body).await;
        let sku = made["options"][0]["sku"].as_str().expect("a product has an option").to_owned();
        // Unfolded, stock hears of it a moment later.
        self.app.eventually(&format!("select count(*) from stock_items where sku={}", blob(&sku)), 1).await;
        sku
    }

    /// A coupon of so many won off an order; without a limit, or first come with a waitlist.
    pub async fn coupon(&self, won: i64, quantity: Option<i64>) -> String {
        let now = self.app.clock_now();
        let mut body = json!({
            "name": "Autumn", "kind": "unlimited", "scope": "order", "discount": {"type": "amount", "won": won},
            "issue_from": now, "issue_until": now.after(days(7)), "valid_until": now.after(days(30)),
        });
        if let Some(quantity) = quantity {
            body["kind"] = json!("first_come");
            body["quantity"] = json!(quantity);
            body["waitlist"] = json!(true);
        }
        self.make("/v1/coupons", &body).await["id"].as_str().expect("a coupon has an id").to_owned()
    }

    pub async fn shopper(&self, cash: i64, points: i64) -> Shopper {
        let id = MemberId(new_id());
        let shopper = Shopper { id, token: self.app.token(id, Role::Customer) };
        self.furnish(&shopper, cash, points).await;
        shopper
    }

    pub async fn furnish(&self, shopper: &Shopper, cash: i64, points: i64) {
        if cash > 0 {
            let _ = self.post(shopper, "/v1/wallet/charges", &new_id().to_string(), &json!({"amount": cash})).await.expect(201);
        }
        if points > 0 {
            self.make("/v1/wallet/grants", &json!({"member_id": shopper.id, "amount": points, "reason": "welcome"})).await;
        }
    }

    pub async fn claim(&self, shopper: &Shopper, coupon: &str) -> TestResponse {
        self.app.post(format!("/v1/coupons/{coupon}/claims")).bearer(&shopper.token).send().await
    }

    /// Claims, and gets one.
    pub async fn issued(&self, shopper: &Shopper, coupon: &str) -> String {
        let claimed = self.claim(shopper, coupon).await.expect(201);
        claimed.body["issued_coupon_id"].as_str().expect("it was issued").to_owned()
    }

    pub async fn post(&self, shopper: &Shopper, path: &str, key: &str, body: &Value) -> TestResponse {
        self.app.post(path).bearer(&shopper.token).key(key).json(body).send().await
    }

    /// The same, and waits until the order rests.
    pub async fn post_and_wait(&self, shopper: &Shopper, path: &str, key: &str, body: &Value) -> TestResponse {
        self.app.post(path).bearer(&shopper.token).key(key).header("prefer", "wait=20").json(body).send().await
    }

    pub async fn order(&self, shopper: &Shopper, body: &Value) -> TestResponse {
        self.post_and_wait(shopper, "/v1/orders", &new_id().to_string(), body).await
    }

    /// A seller's, or operator's, step on the way to the buyer.
    pub async fn advance(&self, order: &str, state: &str) -> TestResponse {
        let path = format!("/v1/orders/{order}/fulfilment");
        self.app.post(path).bearer(&self.operator).json(&json!({"state": state})).send().await
    }

    pub async fn cancel(&self, shopper: &Shopper, order: &str) -> TestResponse {
        let path = format!("/v1/orders/{order}/cancellation");
        self.post_and_wait(shopper, &path, &new_id().to_string(), &json!({})).await
    }

    /// Waits until nothing is under way: no message, no saga that runs.
    pub async fn settle(&self) {
        for _ in 0..2_000 {
            if self.is_quiet().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it does not come to rest: {:#?}", self.audit().await);
    }

    /// Gives the writer something to do, so that readers which were held go on at once and not at its next tick.
    pub async fn wake(&self) {
        let sleeper = Shopper { id: self.nobody, token: self.app.token(self.nobody, Role::Customer) };
        self.furnish(&sleeper, 1_000, 0).await;
    }

    pub async fn is_quiet(&self) -> bool {
        let running = "(select count(*) from orders_orders where saga_state in ('RUNNING','UNDOING'))";
        if self.app.is_postgres() {
            self.app.rest().await;
            return self.app.sql_i64(&format!("select {running}")).await == 0;
        }
        let lags = readings().into_iter().map(|(reader, source, _)| {
            format!(
                "(select coalesce(max(seq),0) from {source}_outbox)-(select coalesce(max(seq),0) from {reader}_positions where source='{source}')"
            )
        });
        let lag = lags.collect::<Vec<_>>().join("+");
        self.app.sql_i64(&format!("select {lag}+{running}")).await == 0
    }

    pub async fn audit(&self) -> Report {
        audit::run_any(&self.settings, self.app.clock_now()).await.expect("the audit runs")
    }

    /// Everything is at rest and every invariant holds.
    pub async fn assert_clean(&self, story: &str) {
        let report = self.audit().await;
        assert!(report.clean, "{story}: {report:#?}");
    }
}

/// A UUID as SQL.
pub fn blob(id: &str) -> String {
    format!("x'{}'", id.replace('-', ""))
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}
