//! The bad-input catalogue: wrong requests, deliberate or not, by row number in one table.
//!
//! A rejected request must change nothing. The test compares all rows of all tables before and after it.

mod access;
mod body;
mod coupons;
mod keys;
mod money;
mod raw;
mod token_forger;
mod transport;

use crate::mall::{Mall, Person, Shop, paid_order, text, unpaid_order};
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
    panic::AssertUnwindSafe,
};
use testkit::{TestRequest, TestResponse};

/// Rows that this version covers.
const ROWS: [RangeInclusive<u32>; 11] = [1..=14, 16..=24, 25..=25, 26..=32, 35..=35, 37..=38, 41..=51, 52..=52, 54..=54, 56..=59, 60..=62];

/// A mall with the data that wrong requests refer to.
pub struct World {
    pub mall: Mall,
    pub server: raw::Server,
    pub shop: Shop,
    pub sku: String,
    pub buyer: Person,
    pub other: Person,
    /// Issued to the buyer, usable.
    pub issued: String,
    /// Issued to the other member.
    pub foreign: String,
    /// The buyer's paid order.
    pub paid: Value,
    /// The buyer's order that awaits payment.
    pub unpaid: String,
}

pub enum Case<'a> {
    /// One request with this answer, which changes nothing.
    Request { name: String, request: Box<TestRequest>, status: u16, problem: &'static str },
    /// Several requests with their own assertions.
    Scenario { name: &'static str, run: BoxFuture<'a, ()> },
}

pub fn refused(name: impl Into<String>, request: TestRequest, status: u16, problem: &'static str) -> Case<'static> {
    Case::Request { name: name.into(), request: Box::new(request), status, problem }
}

pub fn scenario<'a>(name: &'static str, run: impl Future<Output = ()> + Send + 'a) -> Case<'a> {
    Case::Scenario { name, run: Box::pin(run) }
}

impl Case<'_> {
    fn row(&self) -> u32 {
        let name = match self {
            Case::Request { name, .. } => name.as_str(),
            Case::Scenario { name, .. } => name,
        };
        let number = name.strip_prefix("row ").and_then(|rest| rest.split(':').next());
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("“{name}” does not begin with its row"))
    }
}

impl World {
    async fn open() -> World {
        let mall = Mall::open().await;
        let server = raw::Server::start(&mall).await;
        let shop = mall.shop().await;
        let sku = mall.product_of(&json!({"name": "Tulips", "price": 10_000, "stock": 100, "store_id": shop.id})).await;
        let (buyer, other) = (mall.shopper(1_000_000, 5_000).await, mall.shopper(1_000_000, 0).await);
        let coupon = mall.coupon(json!({})).await;
        let (issued, foreign) = (mall.claim_issued(&buyer, &coupon).await, mall.claim_issued(&other, &coupon).await);
        let paid = mall.order_in_state(&buyer, &paid_order(&sku), "PAID").await;
        let unpaid = text(&mall.order_in_state(&buyer, &unpaid_order(&sku), "AWAITING_PAYMENT").await["id"]);
        World { mall, server, shop, sku, buyer, other, issued, foreign, paid, unpaid }
    }

    pub fn order(&self, body: &Value) -> TestRequest {
        self.mall.post(&self.buyer, "/v1/orders", body)
    }

    /// An order of one line, with the quantity as raw text.
    pub fn quantity(&self, quantity: &str) -> TestRequest {
        self.raw_post("/v1/orders", format!(r#"{{"items":[{{"sku":"{}","quantity":{quantity}}}]}}"#, self.sku))
    }

    /// A request with a raw body and a new key.
    pub fn raw_post(&self, path: &str, body: impl Into<Vec<u8>>) -> TestRequest {
        let request = self.mall.app.post(path).bearer(&self.buyer.token).key(&kit::ports::new_id().to_string());
        request.raw("application/json", body.into())
    }

    /// Row count and digest of every table except [`EXCLUDED_TABLES`].
    async fn fingerprint(&self) -> BTreeMap<String, (i64, i64)> {
        let app = &self.mall.app;
        let tables: Vec<(String,)> = app.rows(if app.is_postgres() { POSTGRES_TABLES } else { SQLITE_TABLES }).await;
        let tables = tables.into_iter().map(|(table,)| table).filter(|table| !EXCLUDED_TABLES.iter().any(|end| table.ends_with(end)));
        if !app.is_postgres() {
            let database = rusqlite::Connection::open(self.mall.settings.database()).expect("the database opens");
            return tables.map(|table| (table.clone(), digest(&database, &table))).collect();
        }
        let digest = |table: String| {
            format!(
                "select '{table}', count(*), cast(coalesce(sum(hashtextextended(cast(t as TEXT), 0)), 0) % 4611686018427387904 as BIGINT) from {table} t"
            )
        };
        let digests: Vec<(String, i64, i64)> = app.rows(&tables.map(digest).collect::<Vec<_>>().join(" union all ")).await;
        digests.into_iter().map(|(table, rows, digest)| (table, (rows, digest))).collect()
    }
}

const SQLITE_TABLES: &str = "select name from sqlite_master where type='table'";
const POSTGRES_TABLES: &str =
    "select schemaname || '.' || tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')";
/// Tables that change without a request's effect: stored answers (refusals too), leases, and relay marks, which are written with a delay.
const EXCLUDED_TABLES: [&str; 3] = ["_idempotency", "_leases", "_relay"];

fn digest(database: &rusqlite::Connection, table: &str) -> (i64, i64) {
    let mut statement = database.prepare(&format!("select * from {table}")).expect("a table");
    let columns = statement.column_count();
    let mut rows = statement.query([]).expect("the command runs");
    let (mut count, mut hasher) = (0, DefaultHasher::new());
    while let Some(row) = rows.next().expect("rows") {
        count += 1;
        for column in 0..columns {
            format!("{:?}", row.get_ref(column).expect("a value")).hash(&mut hasher);
        }
    }
    (count, hasher.finish().cast_signed())
}

/// The difference from the expected answer. `None`: as expected.
fn wrong_answer(answer: &TestResponse, status: u16, problem: &str) -> Option<String> {
    let body = String::from_utf8_lossy(&answer.bytes);
    if (answer.status, answer.problem()) != (status, problem) {
        return Some(format!("wanted {status} {problem}, was {} {body}", answer.status));
    }
    if status < 400 {
        return None;
    }
    let header = |name: &str| answer.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let complete = answer.body["trace_id"].is_string() && answer.body["title"].is_string() && answer.body["code"].is_number();
    if header("content-type").as_deref() != Some("application/problem+json") || answer.body["status"] != status || !complete {
        return Some(format!("not a whole problem: {body}"));
    }
    let needed = match status {
        401 => "www-authenticate",
        405 => "allow",
        429 | 503 => "retry-after",
        _ => return None,
    };
    header(needed).is_none().then(|| format!("the header {needed} is missing"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_every_catalogue_row_is_refused_as_listed() {
    let world = World::open().await;
    let mut cases = body::cases(&world);
    cases.extend(transport::cases(&world).await);
    cases.extend(access::cases(&world));
    cases.extend(money::cases(&world));
    cases.extend(coupons::cases(&world).await);
    cases.extend(keys::cases(&world));
    let covered: BTreeSet<u32> = cases.iter().map(Case::row).collect();
    let wanted: BTreeSet<u32> = ROWS.into_iter().flatten().collect();
    assert_eq!(covered, wanted, "each row has a case and each case a row");

    let mut mistakes = Vec::new();
    // The preparations have come to rest, so every change from here on comes from a rejected request.
    world.mall.wait_until_quiet().await;
    let mut before = world.fingerprint().await;
    for case in cases {
        match case {
            Case::Request { name, request, status, problem } => {
                let answer = request.send().await;
                mistakes.extend(wrong_answer(&answer, status, problem).map(|mistake| format!("{name}: {mistake}")));
                let after = world.fingerprint().await;
                let changed: Vec<&String> = after.keys().filter(|table| after.get(*table) != before.get(*table)).collect();
                if !changed.is_empty() {
                    mistakes.push(format!("{name}: changed {changed:?}"));
                }
                before = after;
            }
            Case::Scenario { name, run } => {
                if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    mistakes.push(format!("{name}: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked")));
                }
                world.mall.wait_until_quiet().await;
                before = world.fingerprint().await;
            }
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    let World { mall, server, .. } = world;
    server.stop();
    mall.finish().await;
}
