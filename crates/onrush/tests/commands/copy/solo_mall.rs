//! A solo mall with paid, unpaid and cancelled orders, a waitlist and a dead letter, and the commands that copy it.

pub use crate::binary::{CommandOutput, onrush, run, run_command};
use contracts::MemberId;
use kit::{
    auth::Role,
    http::layers,
    ports::{SystemClock, new_id},
};
use onrush::{
    in_process::{InProcessClient, PostRequest},
    mall::Mall,
    settings::{RawSettings, Settings},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};
use testkit::{Faults, TempFolder, TestDatabase};
use tower::ServiceExt;

/// A mall that runs inside the test, and a client of it.
pub struct RunningMall {
    pub mall: Mall,
    router: axum::Router,
    pub client: InProcessClient,
}

impl RunningMall {
    pub async fn open(settings: &Settings, faults: Faults) -> RunningMall {
        let mall = Mall::open_with(settings, Arc::new(SystemClock), faults).await.expect("the mall opens");
        let router = layers(mall.process.router.clone());
        RunningMall { client: InProcessClient::new(router.clone()), mall, router }
    }

    pub fn token(&self, member: MemberId, role: Role) -> String {
        let kit = &self.mall.process.kit;
        kit.auth.issue(member, role, new_id(), kit.clock.now())
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Value {
        let token = Some(token).filter(|token| !token.is_empty());
        self.client.post(PostRequest::new(path, token, body).wait(20)).await.expect("it is accepted")
    }

    /// Sends a GET. Returns status and body.
    pub async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let request = http::Request::get(path).header("authorization", format!("Bearer {token}"));
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("it answers");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Orders one unit of a SKU, paid from the wallet. Returns the order.
    pub async fn order(&self, token: &str, sku: &str, coupons: &[&str]) -> Value {
        let body = json!({"items": [{"sku": sku, "quantity": 1}], "coupons": coupons, "points": 100, "payment": {"method": "wallet"}});
        self.post("/v1/orders", token, body).await
    }

    pub async fn stop(self) {
        self.mall.process.stop().await;
    }
}

/// The folder of a mall that has stopped.
pub struct SoloMall {
    pub folder: TempFolder,
    pub token: String,
    pub refresh_token: String,
    pub sku: String,
    pub paid: String,
    pub unpaid: String,
    /// A paid order whose message to coupons is a dead letter.
    pub dead_lettered: String,
}

impl SoloMall {
    pub async fn build() -> SoloMall {
        let folder = TempFolder::new();
        let faults = Faults::planned();
        let running = RunningMall::open(&settings_with_dead_letters(folder.path()), faults.clone()).await;
        let operator = running.token(MemberId(new_id()), Role::Operator);
        let product = running.post("/v1/products", &operator, json!({"name": "Umbrella", "price": 9_000, "stock": 50})).await;
        let sku = text(&product["options"][0]["sku"]);
        let (token, refresh_token, member) = sign_up(&running).await;
        running.post("/v1/wallet/charges", &token, json!({"amount": 1_000_000})).await;
        running.post("/v1/wallet/grants", &operator, json!({"member_id": member, "amount": 5_000, "reason": "welcome"})).await;

        let coupon = coupon(&running, &operator, 3).await;
        let used = claim(&running, &coupon, &token).await;
        let paid = running.order(&token, &sku, &[&text(&used["issued_coupon_id"])]).await;
        assert_eq!(paid["state"], "PAID");
        let second = coupon_of_two(&running, &operator).await;
        let third = claim(&running, &second, &token).await;
        // One member gets the second coupon, the other waits.
        let others = [MemberId(new_id()), MemberId(new_id())].map(|member| running.token(member, Role::Customer));
        for other in &others {
            claim(&running, &second, other).await;
        }
        let unpaid = running.post("/v1/orders", &token, json!({"items": [{"sku": sku, "quantity": 1}]})).await;
        let undone = running.post("/v1/orders", &token, json!({"items": [{"sku": sku, "quantity": 2}]})).await;
        running.post(&format!("/v1/orders/{}/cancellation", text(&undone["id"])), &token, json!({})).await;

        faults.fail("coupons", "coupon.use", 1_000);
        let dead_lettered = running.order(&token, &sku, &[&text(&third["issued_coupon_id"])]).await;
        let solo = SoloMall {
            token,
            refresh_token,
            sku,
            paid: text(&paid["id"]),
            unpaid: text(&unpaid["id"]),
            dead_lettered: text(&dead_lettered["id"]),
            folder,
        };
        eventually(|| count(&solo.open(), "coupons_dead_letters") > 0).await;
        running.stop().await;
        solo
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn name(&self) -> String {
        self.path().display().to_string()
    }

    pub fn database(&self) -> PathBuf {
        self.path().join("onrush.db")
    }

    pub fn open(&self) -> Connection {
        Connection::open(self.database()).expect("the database opens")
    }

    /// The secret in the form of `ONRUSH_SECRET`.
    pub fn secret(&self) -> String {
        let bytes = std::fs::read(self.path().join("secret.key")).expect("the key is there");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn on_postgres(&self, database: &TestDatabase) -> Settings {
        let raw = RawSettings {
            database_url: Some(database.url()),
            secret: Some(self.secret()),
            data_dir: Some(self.path().join("elsewhere")),
            ..RawSettings::default()
        };
        Settings::load(&raw).expect("the settings are good")
    }

    /// The command `onrush import` of this mall.
    pub fn import(&self, database: &TestDatabase) -> Command {
        let mut command = onrush(&["import", "--from", &self.name()]);
        command.env("ONRUSH_DATABASE_URL", database.url()).env("ONRUSH_DATA_DIR", self.path().join("elsewhere"));
        command
    }

    /// A command with the settings of that database.
    pub fn command(&self, args: &[&str], database: &TestDatabase) -> Command {
        let mut command = onrush(args);
        command.env("ONRUSH_DATABASE_URL", database.url()).env("ONRUSH_SECRET", self.secret());
        command.env("ONRUSH_DATA_DIR", self.path().join("elsewhere"));
        command
    }
}

pub fn settings(folder: &Path) -> Settings {
    let raw = RawSettings { data_dir: Some(folder.to_owned()), ..RawSettings::default() };
    Settings::load(&raw).expect("the settings are good")
}

/// A message that fails becomes a dead letter after three tries.
fn settings_with_dead_letters(folder: &Path) -> Settings {
    Settings { dead_letter_after: Duration::ZERO, ..settings(folder) }
}

async fn sign_up(running: &RunningMall) -> (String, String, String) {
    let (email, password) = ("minji@example.com", "maple-syrup-2026");
    let member = running.post("/v1/accounts", "", json!({"email": email, "password": password, "name": "Kim Minji"})).await;
    let session = running.post("/v1/sessions", "", json!({"email": email, "password": password})).await;
    (text(&session["access_token"]), text(&session["refresh_token"]), text(&member["id"]))
}

async fn coupon(running: &RunningMall, operator: &str, quantity: u32) -> String {
    let body = json!({
        "name": "Autumn", "kind": "first_come", "quantity": quantity, "waitlist": true, "scope": "order",
        "discount": {"type": "amount", "won": 500}, "issue_from": "2020-01-01T00:00:00Z", "issue_until": "2100-01-01T00:00:00Z",
        "valid_until": "2100-01-01T00:00:00Z",
    });
    text(&running.post("/v1/coupons", operator, body).await["id"])
}

async fn coupon_of_two(running: &RunningMall, operator: &str) -> String {
    coupon(running, operator, 2).await
}

async fn claim(running: &RunningMall, coupon: &str, token: &str) -> Value {
    running.post(&format!("/v1/coupons/{coupon}/claims"), token, json!({})).await
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

pub fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).expect("the table is there")
}

/// Row counts of all data tables of a file.
pub fn counts_of_file(path: &Path) -> BTreeMap<String, i64> {
    let connection = Connection::open(path).expect("the file opens");
    let mut statement =
        connection.prepare("select name from sqlite_master where type='table' and name not like 'sqlite_%'").expect("a query");
    let names: Vec<String> = statement.query_map([], |row| row.get(0)).expect("it runs").map(|name| name.expect("a name")).collect();
    names.into_iter().filter(|name| is_data(name)).map(|name| (name.clone(), count(&connection, &name))).collect()
}

/// Row counts of all data tables of a PostgreSQL database.
pub async fn counts_of_postgres(database: &TestDatabase) -> BTreeMap<String, i64> {
    let client = database.open_client().await;
    let sql = "select cast(schemaname as text), cast(tablename as text) from pg_tables where schemaname not in ('pg_catalog','information_schema')";
    let mut counts = BTreeMap::new();
    for row in client.query(sql, &[]).await.expect("it runs") {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        if is_data(&name) {
            let row = client.query_one(&format!("select count(*) from {schema}.{name}"), &[]).await.expect("it runs");
            counts.insert(name, row.get(0));
        }
    }
    counts
}

/// False for migration histories, leases, and tables that each epoch rewrites.
fn is_data(table: &str) -> bool {
    !["_migrations", "_leases", "_pending", "_stream", "_heads"].iter().any(|end| table.ends_with(end))
}

pub async fn eventually(mut there: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition did not hold within 30 seconds");
}
