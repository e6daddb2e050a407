//! Idempotency keys of every mutating operation: a repeat gets the first answer, byte for byte, also after a restart.

mod changed_world;

use crate::mall::{Mall, Person, WAIT_SECONDS, paid_order, text, unpaid_order};
use http::Method;
use kit::{auth::Role, ports::new_id};
use onrush::documents;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::{TestRequest, TestResponse};

/// Operations that store no answer, with the reason.
const NOT_STORED: &[(&str, &str)] = &[
    ("accounts.sign_in", "its answer holds tokens, which are not stored; twice are two sessions"),
    ("accounts.refresh", "its answer holds tokens, which are not stored; a token is good once"),
    ("accounts.sign_out", "afterwards its own token is refused"),
    ("accounts.sign_out_everywhere", "afterwards its own token is refused"),
    ("accounts.web_sign_in", "its answer holds a cookie, which is not stored; twice are two sessions"),
    ("accounts.web_sign_out", "afterwards its own session is refused"),
    ("accounts.close_me", "afterwards its own token is refused"),
    ("orders.quote", "changes nothing"),
];

/// A request with one effect.
struct Mutation {
    operation: &'static str,
    method: Method,
    path: String,
    /// `Null`: no body.
    body: Value,
    /// Another body under the same key.
    other_body: Value,
    by: Person,
    /// Another member with the same key and the same permissions.
    stranger: Person,
    status: u16,
}

impl Mutation {
    fn request(&self, mall: &Mall, body: &Value, by: &Person) -> TestRequest {
        let request = mall.app.request(self.method.clone(), self.path.clone()).bearer(&by.token).key("one key for all");
        // An order is answered when it rests.
        let request = if self.operation.starts_with("orders.") { request.header("prefer", WAIT_SECONDS) } else { request };
        if body.is_null() { request } else { request.json(body) }
    }
}

/// Members and goods for the mutations.
struct Fixture<'a> {
    mall: &'a Mall,
    buyer: Person,
    other: Person,
    seller: Person,
    operator: Person,
    sku: String,
}

impl Fixture<'_> {
    fn by_buyer(&self, operation: &'static str, method: Method, path: impl Into<String>, bodies: [Value; 2]) -> Mutation {
        let [body, other] = bodies;
        let (by, stranger) = (self.buyer.clone(), self.other.clone());
        Mutation { operation, method, path: path.into(), body, other_body: other, by, stranger, status: 200 }
    }

    fn by_operator(&self, operation: &'static str, method: Method, path: impl Into<String>, bodies: [Value; 2]) -> Mutation {
        Mutation { by: self.mall.operator.clone(), stranger: self.operator.clone(), ..self.by_buyer(operation, method, path, bodies) }
    }

    async fn order(&self, body: &Value, state: &str) -> String {
        text(&self.mall.order_in_state(&self.buyer, body, state).await["id"])
    }

    async fn accounts(&self) -> Vec<Mutation> {
        let person = |name: &str| json!({"email": "keyed@example.com", "password": "correct horse battery", "name": name});
        let member = self.mall.member().await;
        let (signed_in, another_session) = self.member_with_two_sessions().await;
        vec![
            Mutation {
                status: 204,
                by: signed_in,
                ..self.by_buyer("accounts.end_session", Method::DELETE, format!("/v1/sessions/{another_session}"), [Value::Null, json!({})])
            },
            Mutation { status: 201, ..self.by_buyer("accounts.sign_up", Method::POST, "/v1/accounts", [person("Ann"), person("Bea")]) },
            self.by_buyer("accounts.edit_me", Method::PATCH, "/v1/me", [json!({"name": "Ann"}), json!({"name": "Bea"})]),
            self.by_operator(
                "accounts.set_state",
                Method::PATCH,
                format!("/v1/accounts/{}", member.id),
                [json!({"state": "disabled"}), json!({"state": "active"})],
            ),
        ]
    }

    /// A member, and the id of another session than that of its token.
    async fn member_with_two_sessions(&self) -> (Person, String) {
        let account = json!({"email": "two@example.com", "password": "correct horse battery", "name": "Two"});
        let made = self.mall.app.post("/v1/accounts").json(&account).send().await.expect(201);
        let sign_in =
            || self.mall.app.post("/v1/sessions").json(&json!({"email": account["email"], "password": account["password"]})).send();
        let (_, token) = (sign_in().await.expect(200), text(&sign_in().await.expect(200).body["access_token"]));
        let person = Person { id: text(&made.body["id"]).parse().expect("an id"), token };
        let listed = self.mall.get(&person, "/v1/sessions").send().await.expect(200).body;
        let another = listed["items"].as_array().expect("a list").iter().find(|item| item["is_current"] == json!(false));
        (person, text(&another.expect("the first session")["id"]))
    }

    async fn goods(&self) -> Vec<Mutation> {
        let product = |price: i64| json!({"name": "Lamp", "price": price});
        let made = |name: &'static str| async move {
            let body = json!({"name": name, "price": 1_000});
            text(&self.mall.post(&self.mall.operator, "/v1/products", &body).send().await.expect(201).body["id"])
        };
        let (changed, deleted) = (made("Chair").await, made("Table").await);
        let counted = self.mall.product(1_000, 5).await;
        let store = |name: &str| json!({"name": name});
        vec![
            Mutation { status: 201, ..self.by_operator("catalog.create", Method::POST, "/v1/products", [product(1), product(2)]) },
            self.by_operator(
                "catalog.update",
                Method::PATCH,
                format!("/v1/products/{changed}"),
                [json!({"price": 5}), json!({"price": 6})],
            ),
            Mutation {
                status: 204,
                ..self.by_operator("catalog.delete", Method::DELETE, format!("/v1/products/{deleted}"), [Value::Null, json!({})])
            },
            self.by_operator("stock.set", Method::PUT, format!("/v1/stock/{counted}"), [json!({"on_hand": 7}), json!({"on_hand": 8})]),
            self.by_operator(
                "stock.adjust",
                Method::POST,
                format!("/v1/stock/{counted}/adjustments"),
                [json!({"delta": 3, "reason": "found"}), json!({"delta": 4, "reason": "found"})],
            ),
            Mutation { status: 201, ..self.by_operator("stores.create", Method::POST, "/v1/stores", [store("North"), store("South")]) },
        ]
    }

    async fn coupons(&self) -> Vec<Mutation> {
        let new = |name: &str| self.mall.coupon_body(json!({"name": name}));
        let (changed, deleted) = (self.mall.coupon(json!({})).await, self.mall.coupon(json!({})).await);
        let (claimed, returned) = (self.mall.coupon(json!({})).await, self.mall.coupon(json!({})).await);
        let _ = self.mall.claim_issued(&self.buyer, &returned).await;
        vec![
            Mutation { status: 201, ..self.by_operator("coupons.create", Method::POST, "/v1/coupons", [new("One"), new("Two")]) },
            self.by_operator(
                "coupons.change",
                Method::PATCH,
                format!("/v1/coupons/{changed}"),
                [json!({"quantity": 7}), json!({"quantity": 8})],
            ),
            Mutation {
                status: 204,
                ..self.by_operator("coupons.delete", Method::DELETE, format!("/v1/coupons/{deleted}"), [Value::Null, json!({})])
            },
            Mutation {
                status: 201,
                ..self.by_buyer("coupons.claim", Method::POST, format!("/v1/coupons/{claimed}/claims"), [Value::Null, json!({})])
            },
            Mutation {
                status: 204,
                ..self.by_buyer(
                    "coupons.give_back",
                    Method::DELETE,
                    format!("/v1/coupons/{returned}/claims/mine"),
                    [Value::Null, json!({})],
                )
            },
        ]
    }

    fn wallet(&self) -> Vec<Mutation> {
        let grant = |amount: i64| json!({"member_id": self.buyer.id, "amount": amount, "reason": "thanks"});
        let charge = |amount: i64| json!({"amount": amount});
        vec![
            Mutation { status: 201, ..self.by_buyer("wallet.charge", Method::POST, "/v1/wallet/charges", [charge(5_000), charge(6_000)]) },
            Mutation { status: 201, ..self.by_operator("wallet.grant", Method::POST, "/v1/wallet/grants", [grant(50), grant(60)]) },
        ]
    }

    async fn orders(&self) -> Vec<Mutation> {
        let awaiting = self.order(&unpaid_order(&self.sku), "AWAITING_PAYMENT").await;
        let cancelled = self.order(&paid_order(&self.sku), "PAID").await;
        let moved = self.order(&paid_order(&self.sku), "PAID").await;
        let delivered = self.order(&paid_order(&self.sku), "PAID").await;
        for state in ["PREPARING", "SHIPPING", "DELIVERED"] {
            let body = json!({"state": state});
            let _ = self.mall.post(&self.seller, &format!("/v1/orders/{delivered}/fulfilment"), &body).send().await.expect(200);
        }
        let item = |quantity: i64| json!({"sku": self.sku, "quantity": quantity});
        let set = |quantity: i64| json!({"quantity": quantity});
        let move_to = |state: &str| json!({"state": state});
        let in_cart = format!("/v1/cart/items/{}", self.sku);
        let path = |id: &str, what: &str| format!("/v1/orders/{id}/{what}");
        vec![
            self.by_buyer("orders.add_cart_item", Method::POST, "/v1/cart/items", [item(1), item(2)]),
            self.by_buyer("orders.set_cart_item", Method::PUT, &in_cart, [set(5), set(6)]),
            self.by_buyer("orders.remove_cart_item", Method::DELETE, &in_cart, [Value::Null, json!({})]),
            Mutation {
                status: 201,
                ..self.by_buyer("orders.create", Method::POST, "/v1/orders", [paid_order(&self.sku), unpaid_order(&self.sku)])
            },
            self.by_buyer(
                "orders.pay",
                Method::POST,
                path(&awaiting, "payments"),
                [json!({"method": "wallet"}), json!({"method": "none"})],
            ),
            self.by_buyer("orders.cancel", Method::POST, path(&cancelled, "cancellation"), [json!({}), json!({"reason": "late"})]),
            self.by_buyer("orders.confirm", Method::POST, path(&delivered, "confirmation"), [Value::Null, json!({})]),
            Mutation {
                by: self.seller.clone(),
                stranger: self.operator.clone(),
                ..self.by_buyer("orders.advance", Method::POST, path(&moved, "fulfilment"), [move_to("PREPARING"), move_to("SHIPPING")])
            },
        ]
    }
}

async fn mutations(mall: &Mall) -> Vec<Mutation> {
    let shop = mall.shop().await;
    let sku = mall.product_of(&json!({"name": "Tulips", "price": 2_000, "stock": 50, "store_id": shop.id})).await;
    let (buyer, other) = (mall.shopper(100_000, 0).await, mall.shopper(100_000, 0).await);
    let fixture = Fixture { mall, buyer, other, seller: shop.seller, operator: mall.stranger(Role::Operator), sku };
    let mut mutations = fixture.accounts().await;
    mutations.extend(fixture.goods().await);
    mutations.extend(fixture.coupons().await);
    mutations.extend(fixture.wallet());
    mutations.extend(fixture.orders().await);
    mutations
}

/// The difference between an answer and its replay. `None`: equal, and marked as replayed.
fn difference(first: &TestResponse, replay: &TestResponse) -> Option<String> {
    let marked = replay.headers.get("idempotent-replayed").is_some_and(|value| value == "true");
    let same =
        (first.status, &first.bytes) == (replay.status, &replay.bytes) && first.headers.get("location") == replay.headers.get("location");
    (!same || !marked).then(|| {
        let body = |answer: &TestResponse| String::from_utf8_lossy(&answer.bytes).into_owned();
        format!("{} {} became {} {}, marked: {marked}", first.status, body(first), replay.status, body(replay))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stored_answer_is_replayed() {
    let mall = Mall::open().await;
    let mutations = mutations(&mall).await;
    let mut covered: BTreeSet<String> = mutations.iter().map(|mutation| mutation.operation.to_owned()).collect();
    covered.extend(NOT_STORED.iter().map(|(operation, _)| (*operation).to_owned()));
    let operations = documents::operations(&documents::openapi(&mall.app.process)).into_iter();
    let mutating: BTreeSet<String> =
        operations.filter(|(method, ..)| *method != "GET").filter_map(|(.., operation)| operation.operation_id).collect();
    assert_eq!(covered, mutating, "every operation that changes something");

    let mut mistakes = Vec::new();
    let mut firsts = Vec::new();
    for mutation in &mutations {
        let first = mutation.request(&mall, &mutation.body, &mutation.by).send().await;
        if first.status != mutation.status || first.headers.contains_key("idempotent-replayed") {
            mistakes.push(format!("{}: {} {}", mutation.operation, first.status, String::from_utf8_lossy(&first.bytes)));
        }
        mall.wait_until_quiet().await;
        let replay = mutation.request(&mall, &mutation.body, &mutation.by).send().await;
        mistakes.extend(difference(&first, &replay).map(|found| format!("{}: {found}", mutation.operation)));
        let mismatch = mutation.request(&mall, &mutation.other_body, &mutation.by).send().await;
        if (mismatch.status, mismatch.problem()) != (422, "idempotency-key-mismatch") {
            mistakes.push(format!("{} with another body: {} {}", mutation.operation, mismatch.status, mismatch.problem()));
        }
        // A sign-up has no member yet, so its key belongs to the e-mail address.
        let body = if mutation.operation == "accounts.sign_up" {
            crate::mall::with_field(mutation.body.clone(), "email", json!("another@example.com"))
        } else {
            mutation.body.clone()
        };
        let independent = mutation.request(&mall, &body, &mutation.stranger).send().await;
        if independent.headers.contains_key("idempotent-replayed") || independent.problem() == "idempotency-key-mismatch" {
            mistakes.push(format!("{}: another member met this key", mutation.operation));
        }
        firsts.push(first);
    }
    mall.wait_until_quiet().await;
    let mall = mall.restart().await;
    for (mutation, first) in mutations.iter().zip(&firsts) {
        let replay = mutation.request(&mall, &mutation.body, &mutation.by).send().await;
        mistakes.extend(difference(first, &replay).map(|found| format!("{} after a restart: {found}", mutation.operation)));
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    mall.finish().await;
}

/// Refusals by the database are stored and replayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_refusals_are_replayed_after_a_restart() {
    let mall = Mall::open().await;
    let sku = mall.product(9_000, 1).await;
    let coupon = mall.coupon(json!({"quantity": 1})).await;
    let (buyer, other) = (mall.shopper(2_000, 0).await, mall.shopper(2_000, 0).await);
    let _ = mall.claim_issued(&other, &coupon).await;
    let claim = |mall: &Mall| mall.claim(&other, &coupon).key("c").send();
    let order = |mall: &Mall| {
        mall.app.post("/v1/orders").bearer(&buyer.token).key("o").header("prefer", WAIT_SECONDS).json(&paid_order(&sku)).send()
    };
    let owned = claim(&mall).await.expect_problem(409, "already-issued");
    let too_poor = order(&mall).await.expect_problem(409, "insufficient-funds");
    // A refusal stays under its key, even if the request would succeed now.
    let _ =
        mall.app.patch(format!("/v1/coupons/{coupon}")).bearer(&mall.operator.token).json(&json!({"quantity": 5})).send().await.expect(200);
    let _ = mall.post(&buyer, "/v1/wallet/charges", &json!({"amount": 50_000})).send().await.expect(201);
    let mall = mall.restart().await;
    for (first, replay) in [(&owned, claim(&mall).await), (&too_poor, order(&mall).await)] {
        assert_eq!(difference(first, &replay), None);
    }
    let _ = mall.claim(&buyer, &coupon).key("another").send().await.expect(201);
    mall.finish().await;
}

/// Row 60: operations whose answers hold tokens store none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_stored() {
    let mall = Mall::open().await;
    let email = format!("{}@example.com", new_id());
    let account = json!({"email": email, "password": "correct horse battery", "name": "Ann"});
    let _ = mall.app.post("/v1/accounts").key("k").json(&account).send().await.expect(201);
    let sign_in = || mall.app.post("/v1/sessions").key("k").json(&json!({"email": email, "password": "correct horse battery"})).send();
    let (first, second) = (sign_in().await.expect(200), sign_in().await.expect(200));
    assert_ne!(first.body["refresh_token"], second.body["refresh_token"]);
    let refresh = |token: &str| mall.app.post("/v1/sessions/refresh").key("k").json(&json!({"refresh_token": token})).send();
    let token = text(&first.body["refresh_token"]);
    let _ = refresh(&token).await.expect(200);
    let _ = refresh(&token).await.expect_problem(401, "token-reused");
    assert_eq!(mall.app.sql_i64("select count(*) from accounts_idempotency").await, 1);
    // The token of an ended session is refused, with or without its key.
    let access = text(&second.body["access_token"]);
    let sign_out = || mall.app.delete("/v1/sessions/current").bearer(&access).key("out").send();
    let _ = sign_out().await.expect(204);
    mall.assert_token_refused(&access).await;
    let _ = sign_out().await.expect_problem(401, "unauthenticated");
    mall.finish().await;
}
