//! A small healthy mall with at least one row of everything.

use super::MallFiles;
use crate::mall::{Mall, Person, sql_uuid, text};
use contracts::Timestamp;
use onrush::audit;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Names of ids in the healthy mall, for use in SQL.
pub const PLACEHOLDERS: &[&str] = &["paid", "ended", "unpaid", "tested", "ended_tested", "buyer", "coupon", "session", "sku", "closed"];

pub struct HealthyMall {
    files: MallFiles,
    ids: HashMap<&'static str, String>,
    pub now: Timestamp,
}

impl HealthyMall {
    pub fn copy(&self) -> MallFiles {
        let copy = MallFiles::new();
        std::fs::copy(self.files.database(), copy.database()).expect("the database is copied");
        std::fs::copy(self.files.book(), copy.book()).expect("the book is copied");
        copy
    }

    /// The SQL with the ids of this mall.
    pub fn with_sql_ids(&self, sql: &str) -> String {
        self.replaced(sql, sql_uuid)
    }

    pub fn with_ids(&self, text: &str) -> String {
        self.replaced(text, str::to_owned)
    }

    fn replaced(&self, text: &str, form: impl Fn(&str) -> String) -> String {
        PLACEHOLDERS.iter().fold(text.to_owned(), |text, name| text.replace(&format!("{{{name}}}"), &form(&self.ids[name])))
    }
}

/// A paid order with coupon and points, an unpaid one, and a cancelled one with both. A waitlist with a promotion, and payments of the
/// test provider, captured and refunded.
pub async fn build() -> HealthyMall {
    let mall = Mall::with(|settings| settings.test_provider = true).await;
    let late = json!({"name": "Umbrella", "price": 7_000, "stock": 50, "stock_policy": "deduct_on_payment"});
    let (sku, late) = (mall.product(10_000, 50).await, mall.product_of(&late).await);
    let buyer = signed_up(&mall).await;
    mall.fill_wallets(&[&buyer], 1_000_000, 5_000).await;
    let coupon = mall.coupon(json!({"quantity": 3, "waitlist": true})).await;
    let canceller = mall.shopper(1_000_000, 5_000).await;
    let basket = |issued: &str, method: &str| {
        let items = json!([{"sku": sku, "quantity": 2}, {"sku": late, "quantity": 1}]);
        json!({"items": items, "coupons": [issued], "points": 500, "payment": {"method": method}})
    };
    let paid = order(&mall, &buyer, &basket(&mall.claim_issued(&buyer, &coupon).await, "wallet")).await;
    let ended = order(&mall, &canceller, &basket(&mall.claim_issued(&canceller, &coupon).await, "wallet")).await;
    cancel(&mall, &canceller, &ended).await;
    waitlist(&mall, &coupon).await;

    let plain = json!({"items": [{"sku": sku, "quantity": 1}]});
    let unpaid = order(&mall, &canceller, &plain).await;
    let by_provider = json!({"items": [{"sku": sku, "quantity": 1}], "payment": {"method": "test", "token": "approve"}});
    let tested = order(&mall, &buyer, &by_provider).await;
    let ended_tested = order(&mall, &buyer, &by_provider).await;
    cancel(&mall, &buyer, &ended_tested).await;

    let closed = closed_account(&mall, &sku).await;
    mall.wait_until_quiet().await;
    let session = mall.app.rows::<(uuid::Uuid,)>("select id from accounts_sessions").await[0].0.to_string();
    let ids = [
        ("paid", paid),
        ("ended", ended),
        ("unpaid", unpaid),
        ("tested", tested),
        ("ended_tested", ended_tested),
        ("buyer", buyer.id.to_string()),
        ("coupon", coupon),
        ("session", session),
        ("sku", sku),
        ("closed", closed),
    ];
    let now = mall.app.clock_now();
    HealthyMall { files: files(mall, now).await, ids: ids.into_iter().collect(), now }
}

/// Files for the audit: the SQLite database, or the copy that the audit makes of PostgreSQL.
async fn files(mall: Mall, now: Timestamp) -> MallFiles {
    let Mall { app, settings, .. } = mall;
    let files = MallFiles::new();
    if settings.postgres.is_some() {
        let copy = audit::copied::copy(&settings, now).await.expect("the database is copied");
        assert_eq!(copy.moved, None);
        std::fs::copy(copy.database(), files.database()).expect("the copy is copied");
    }
    // The test provider runs in this process, so its last pages are still in its write-ahead log.
    let book = rusqlite::Connection::open(settings.provider_book()).expect("the book opens");
    book.execute("vacuum into ?1", [files.book().to_string_lossy()]).expect("the book is copied");
    if settings.postgres.is_none() {
        // The process must close the file first. The folder is removed with the app.
        app.process.stop().await;
        std::fs::copy(settings.database(), files.database()).expect("the database is copied");
    } else {
        app.stop().await;
    }
    files
}

async fn signed_up(mall: &Mall) -> Person {
    let (email, password) = ("minji@example.com", "maple-syrup-2026");
    let account = json!({"email": email, "password": password, "name": "Kim Minji"});
    let made = mall.app.post("/v1/accounts").json(&account).send().await.expect(201);
    let session = mall.app.post("/v1/sessions").json(&json!({"email": email, "password": password})).send().await.expect(200);
    let token = text(&session.body["access_token"]);
    Person { id: text(&made.body["id"]).parse().expect("an id"), token }
}

/// A closed account, which had points, a cart and an unpaid order. Returns its id.
async fn closed_account(mall: &Mall, sku: &str) -> String {
    let member = mall.shopper(0, 300).await;
    let _ = order(mall, &member, &json!({"items": [{"sku": sku, "quantity": 1}]})).await;
    let cart = mall.app.put(format!("/v1/cart/items/{sku}")).bearer(&member.token).json(&json!({"quantity": 2}));
    let _ = cart.send().await.expect(200);
    let _ = mall.app.delete("/v1/me").bearer(&member.token).send().await.expect(204);
    member.id.to_string()
}

/// Two members wait. The first of them gets the coupon that a third returns.
async fn waitlist(mall: &Mall, coupon: &str) {
    let giver = mall.member().await;
    let _ = mall.claim_issued(&giver, coupon).await;
    for _ in 0..2 {
        let late = mall.member().await;
        let _ = mall.claim(&late, coupon).send().await.expect(202);
    }
    let given = mall.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&giver.token).send().await;
    assert!(given.status < 300, "{given:?}");
    mall.app.job("coupons.promote").await;
    mall.app.eventually("select count(*) from coupons_waiting where state='ADMITTED'", 1).await;
}

async fn order(mall: &Mall, shopper: &Person, body: &Value) -> String {
    text(&mall.order(shopper, body).send().await.expect(201).body["id"])
}

async fn cancel(mall: &Mall, shopper: &Person, order: &str) {
    let cancelled = mall.cancel(shopper, order).send().await.expect(200);
    assert_eq!(cancelled.body["state"], "CANCELLED");
}
