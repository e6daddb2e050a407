//! Repeats whose first request, or another one since, has changed the world.

use super::{Fixture, Mutation, difference};
use crate::mall::{Mall, Person, paid_order, text, unpaid_order};
use http::Method;
use kit::ports::new_id;
use serde_json::{Value, json};
use testkit::TestResponse;

/// Requests whose preconditions do not hold any more when they are repeated.
struct ChangedWorld {
    requests: Vec<Mutation>,
    firsts: Vec<TestResponse>,
}

impl ChangedWorld {
    async fn begin(mall: &Mall, requests: Vec<Mutation>) -> Self {
        let mut firsts = Vec::new();
        for request in &requests {
            firsts.push(request.request(mall, &request.body, &request.by).send().await.expect(request.status));
        }
        mall.wait_until_quiet().await;
        Self { requests, firsts }
    }

    async fn assert_replayed(&self, mall: &Mall) {
        let mut mistakes = Vec::new();
        for (request, first) in self.requests.iter().zip(&self.firsts) {
            let replay = request.request(mall, &request.body, &request.by).send().await;
            mistakes.extend(difference(first, &replay).map(|found| format!("{}: {found}", request.operation)));
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    }
}

// Finding 8: a seller's requests, repeated after the seller opened another store, and after goods and coupons were withdrawn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_are_replayed_in_a_changed_world() {
    let mall = Mall::open().await;
    let shop = mall.shop().await;
    let made = mall.put_on_sale(&shop.seller, &json!({"name": "Tulips", "price": 2_000, "stock": 50})).await;
    let (product, sku) = (text(&made["id"]), text(&made["options"][0]["sku"]));
    let other = mall.put_on_sale(&shop.seller, &json!({"name": "Roses", "price": 1})).await;
    let buyer = mall.shopper(100_000, 0).await;
    let operator = mall.operator.clone();
    let mine = json!({"store_id": shop.id, "scope": "store"});
    let coupon = mall.coupon(mine.clone()).await;
    let fixture =
        Fixture { mall: &mall, buyer: buyer.clone(), other: buyer.clone(), seller: shop.seller.clone(), operator, sku: sku.clone() };
    let paid = fixture.order(&paid_order(&sku), "PAID").await;
    let by = |status: u16, person: &Person, operation: &'static str, method: Method, path: String, body: Value| Mutation {
        status,
        by: person.clone(),
        ..fixture.by_buyer(operation, method, path, [body, Value::Null])
    };
    let seller = &shop.seller;
    let requests = vec![
        by(201, seller, "catalog.create", Method::POST, "/v1/products".into(), json!({"name": "Lamp", "price": 5})),
        by(200, seller, "catalog.update", Method::PATCH, format!("/v1/products/{product}"), json!({"price": 3_000})),
        by(204, seller, "catalog.delete", Method::DELETE, format!("/v1/products/{}", text(&other["id"])), Value::Null),
        by(201, seller, "coupons.create", Method::POST, "/v1/coupons".into(), mall.coupon_body(mine)),
        by(200, seller, "coupons.change", Method::PATCH, format!("/v1/coupons/{coupon}"), json!({"quantity": 7})),
        by(200, seller, "stock.set", Method::PUT, format!("/v1/stock/{sku}"), json!({"on_hand": 40, "seen": 49})),
        by(200, seller, "stock.adjust", Method::POST, format!("/v1/stock/{sku}/adjustments"), json!({"delta": 2, "reason": "found"})),
        by(200, seller, "orders.advance", Method::POST, format!("/v1/orders/{paid}/fulfilment"), json!({"state": "PREPARING"})),
        by(200, &buyer, "orders.add_cart_item", Method::POST, "/v1/cart/items".into(), json!({"sku": sku, "quantity": 1})),
        by(200, &buyer, "orders.set_cart_item", Method::PUT, format!("/v1/cart/items/{sku}"), json!({"quantity": 4})),
        by(201, &buyer, "orders.create", Method::POST, "/v1/orders".into(), unpaid_order(&sku)),
    ];
    let changed = ChangedWorld::begin(&mall, requests).await;
    let second = json!({"name": "Second Shop", "seller_id": seller.id});
    let _ = mall.post(&mall.operator, "/v1/stores", &second).send().await.expect(201);
    for path in [format!("/v1/products/{product}"), format!("/v1/coupons/{coupon}")] {
        let _ = mall.app.delete(path).bearer(&mall.operator.token).send().await.expect(204);
    }
    changed.assert_replayed(&mall).await;
    mall.finish().await;
}

// Finding 8: the retry of a lost answer is no guess at a password, and does not lock the member out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_password_change_is_replayed() {
    let mall = Mall::open().await;
    let email = format!("{}@example.com", new_id());
    let (old, new) = ("correct horse battery", "battery staple horse");
    let account = json!({"email": email, "password": old, "name": "Ann"});
    let made = mall.app.post("/v1/accounts").json(&account).send().await.expect(201);
    let sign_in = |password: &str| mall.app.post("/v1/sessions").json(&json!({"email": email, "password": password})).send();
    let token = text(&sign_in(old).await.expect(200).body["access_token"]);
    let by = Person { id: made.body["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"), token };
    let body = json!({"password": new, "current_password": old});
    let (path, other_body) = ("/v1/me".to_owned(), Value::Null);
    let change =
        Mutation { operation: "accounts.edit_me", method: Method::PATCH, path, body, other_body, stranger: by.clone(), by, status: 200 };
    let changed = ChangedWorld::begin(&mall, vec![change]).await;
    // More often than the passwords that may be wrong.
    for _ in 0..7 {
        changed.assert_replayed(&mall).await;
    }
    let _ = sign_in(new).await.expect(200);
    mall.finish().await;
}
