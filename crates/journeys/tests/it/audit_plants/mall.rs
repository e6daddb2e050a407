//! A small healthy mall in which something of everything has happened.

use super::Files;
use crate::stage::{Shopper, Stage, blob};
use contracts::{MemberId, Timestamp};
use kit::testing::TestResponse;
use serde_json::{Value, json};
use std::collections::HashMap;

/// What stands in the healthy mall, by the names plants use.
pub const PLACES: &[&str] = &["paid", "ended", "unpaid", "tested", "ended_tested", "buyer", "coupon", "session", "sku"];

pub struct Healthy {
    files: Files,
    places: HashMap<&'static str, String>,
    pub now: Timestamp,
}

impl Healthy {
    pub fn copy(&self) -> Files {
        let copy = Files::new();
        std::fs::copy(self.files.database(), copy.database()).expect("the database is copied");
        std::fs::copy(self.files.book(), copy.book()).expect("the book is copied");
        copy
    }

    /// The SQL with the ids of this mall in it.
    pub fn named(&self, sql: &str) -> String {
        self.replaced(sql, blob)
    }

    pub fn shown(&self, text: &str) -> String {
        self.replaced(text, str::to_owned)
    }

    fn replaced(&self, text: &str, form: impl Fn(&str) -> String) -> String {
        PLACES.iter().fold(text.to_owned(), |text, place| text.replace(&format!("{{{place}}}"), &form(&self.places[place])))
    }
}

/// A paid order with coupon and points, an unpaid one, a cancelled one with both, a waitlist that has moved, and the test provider's
/// payments, kept and given back.
pub async fn build() -> Healthy {
    let stage = Stage::open(true).await;
    let (sku, late) = (stage.product(10_000, 50, "reserve_on_order").await, stage.product(7_000, 50, "deduct_on_payment").await);
    let buyer = signed_up(&stage).await;
    stage.furnish(&buyer, 1_000_000, 5_000).await;
    let coupon = stage.coupon(1_000, Some(3)).await;
    let canceller = stage.shopper(1_000_000, 5_000).await;
    let basket = |issued: &str, method: &str| {
        let items = json!([{"sku": sku, "quantity": 2}, {"sku": late, "quantity": 1}]);
        json!({"items": items, "coupons": [issued], "points": 500, "payment": {"method": method}})
    };
    let paid = order(&stage, &buyer, &basket(&stage.issued(&buyer, &coupon).await, "wallet")).await;
    let ended = order(&stage, &canceller, &basket(&stage.issued(&canceller, &coupon).await, "wallet")).await;
    cancel(&stage, &canceller, &ended).await;
    waitlist(&stage, &coupon).await;

    let plain = json!({"items": [{"sku": sku, "quantity": 1}]});
    let unpaid = order(&stage, &canceller, &plain).await;
    let by_provider = json!({"items": [{"sku": sku, "quantity": 1}], "payment": {"method": "test", "token": "approve"}});
    let tested = order(&stage, &buyer, &by_provider).await;
    let ended_tested = order(&stage, &buyer, &by_provider).await;
    cancel(&stage, &buyer, &ended_tested).await;

    stage.settle().await;
    let session = stage.app.rows::<(uuid::Uuid,)>("select id from accounts_sessions").await[0].0.to_string();
    let places = [
        ("paid", paid),
        ("ended", ended),
        ("unpaid", unpaid),
        ("tested", tested),
        ("ended_tested", ended_tested),
        ("buyer", buyer.id.to_string()),
        ("coupon", coupon),
        ("session", session),
        ("sku", sku),
    ];
    let (now, files) = (stage.app.clock_now(), Files::new());
    let settings = stage.settings;
    let app = stage.app;
    app.process.stop().await;
    std::fs::copy(settings.database(), files.database()).expect("the database is copied");
    // The provider outlives the process in real life; here its last pages are still in its log.
    let book = rusqlite::Connection::open(settings.provider_book()).expect("the book opens");
    book.execute("vacuum into ?1", [files.book().to_string_lossy()]).expect("the book is copied");
    Healthy { files, places: places.into_iter().collect(), now }
}

async fn signed_up(stage: &Stage) -> Shopper {
    let (email, password) = ("minji@example.com", "maple-syrup-2026");
    let account = json!({"email": email, "password": password, "name": "Kim Minji"});
    let made = stage.app.post("/v1/accounts").json(&account).send().await.expect(201);
    let session = stage.app.post("/v1/sessions").json(&json!({"email": email, "password": password})).send().await;
    let token = session.body["access_token"].as_str().expect("signed in").to_owned();
    Shopper { id: MemberId(made.body["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")), token }
}

/// Two wait; the first of them gets what a third gives back.
async fn waitlist(stage: &Stage, coupon: &str) {
    let giver = stage.shopper(0, 0).await;
    let _ = stage.issued(&giver, coupon).await;
    for _ in 0..2 {
        let late = stage.shopper(0, 0).await;
        let _ = stage.claim(&late, coupon).await.expect(202);
    }
    let given = stage.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&giver.token).send().await;
    assert!(given.status < 300, "{given:?}");
    stage.app.job("coupons.promote").await;
    stage.app.eventually("select count(*) from coupons_waiting where state='ADMITTED'", 1).await;
}

async fn order(stage: &Stage, shopper: &Shopper, body: &Value) -> String {
    id(&stage.order(shopper, body).await.expect(201))
}

async fn cancel(stage: &Stage, shopper: &Shopper, order: &str) {
    let cancelled = stage.cancel(shopper, order).await.expect(200);
    assert_eq!(cancelled.body["state"], "CANCELLED");
}

fn id(response: &TestResponse) -> String {
    response.body["id"].as_str().expect("an id").to_owned()
}
