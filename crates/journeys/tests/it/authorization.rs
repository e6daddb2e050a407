//! A5: a hand-written table of permissions, compared with the answer of every operation to every role.

use crate::mall::{Mall, Person, paid_order, text, unpaid_order};
use http::Method;
use kit::{auth::Role, ports::new_id};
use onrush::documents;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use testkit::{TestRequest, TestResponse};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Everyone,
    SignedIn,
    /// Sellers, for their own store, and operators.
    Sellers,
    Operators,
}

use Access::{Everyone, Operators, Sellers, SignedIn};

const MATRIX: &[(&str, Access)] = &[
    ("accounts.sign_up", Everyone),
    ("accounts.sign_in", Everyone),
    ("accounts.refresh", Everyone),
    ("accounts.sign_out", SignedIn),
    ("accounts.list_sessions", SignedIn),
    ("accounts.end_session", SignedIn),
    ("accounts.sign_out_everywhere", SignedIn),
    ("accounts.web_sign_in", Everyone),
    ("accounts.web_sign_out", SignedIn),
    ("accounts.me", SignedIn),
    ("accounts.edit_me", SignedIn),
    ("accounts.close_me", SignedIn),
    ("accounts.get", Operators),
    ("accounts.set_state", Operators),
    ("stores.list", Everyone),
    ("stores.get", Everyone),
    ("stores.create", Operators),
    ("catalog.list", Everyone),
    ("catalog.get", Everyone),
    ("catalog.create", Sellers),
    ("catalog.update", Sellers),
    ("catalog.delete", Sellers),
    ("stock.get", Sellers),
    ("stock.set", Sellers),
    ("stock.adjust", Sellers),
    ("coupons.list", Everyone),
    ("coupons.get", Everyone),
    ("coupons.create", Sellers),
    ("coupons.change", Sellers),
    ("coupons.delete", Sellers),
    ("coupons.claim", SignedIn),
    ("coupons.outcome", SignedIn),
    ("coupons.standing", SignedIn),
    ("coupons.give_back", SignedIn),
    ("coupons.list_mine", SignedIn),
    ("wallet.read", SignedIn),
    ("wallet.charge", SignedIn),
    ("wallet.entries", SignedIn),
    ("wallet.grant", Operators),
    ("orders.get_cart", SignedIn),
    ("orders.add_cart_item", SignedIn),
    ("orders.set_cart_item", SignedIn),
    ("orders.remove_cart_item", SignedIn),
    ("orders.quote", SignedIn),
    ("orders.create", SignedIn),
    ("orders.list", SignedIn),
    ("orders.get", SignedIn),
    ("orders.pay", SignedIn),
    ("orders.cancel", SignedIn),
    ("orders.confirm", SignedIn),
    ("orders.advance", Sellers),
    ("orders.list_sold", Sellers),
    ("payments.read", SignedIn),
];

impl Access {
    fn allows(self, role: Option<Role>) -> bool {
        match self {
            Everyone => true,
            SignedIn => role.is_some(),
            Sellers => matches!(role, Some(Role::Seller | Role::Operator)),
            Operators => matches!(role, Some(Role::Operator)),
        }
    }
}

/// A valid body, so that only the caller can be wrong.
fn body(operation: &str) -> Value {
    let id = new_id();
    match operation {
        "accounts.edit_me" => json!({"name": "Someone Else"}),
        "accounts.set_state" => json!({"state": "disabled"}),
        "stores.create" => json!({"name": "A Store"}),
        "catalog.update" => json!({"price": 1}),
        "stock.set" => json!({"on_hand": 1}),
        "stock.adjust" => json!({"delta": 1, "reason": "found"}),
        "coupons.change" => json!({"quantity": 7}),
        "wallet.charge" => json!({"amount": 1_000}),
        "wallet.grant" => json!({"member_id": id, "amount": 5, "reason": "thanks"}),
        "orders.add_cart_item" => json!({"sku": id, "quantity": 1}),
        "orders.set_cart_item" => json!({"quantity": 1}),
        "orders.quote" | "orders.create" => unpaid_order(&id.to_string()),
        "orders.pay" => json!({"method": "wallet"}),
        "orders.advance" => json!({"state": "PREPARING"}),
        // The other operations need no body, or reject an empty one after the permission check.
        _ => json!({}),
    }
}

async fn call(mall: &Mall, method: &str, path: &str, operation: &str, role: Option<Role>) -> TestResponse {
    let path = path.replace("{id}", &new_id().to_string()).replace("{sku}", &new_id().to_string());
    let request = mall.app.request(Method::from_bytes(method.as_bytes()).expect("a method"), path).key(&new_id().to_string());
    let request = if method == "GET" { request } else { request.json(&body(operation)) };
    match role {
        None => request.send().await,
        Some(role) => {
            // A new member for each call, because one of the operations closes the account.
            let member = mall.member().await;
            request.bearer(&mall.app.token(member.id, role)).send().await
        }
    }
}

/// A5: calls every operation with every role.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_every_operation_obeys_the_role_matrix() {
    let mall = Mall::open().await;
    let mut matrix: BTreeMap<&str, Access> = MATRIX.iter().copied().collect();
    assert_eq!(matrix.len(), MATRIX.len(), "an operation is written twice");
    let mut mistakes = Vec::new();
    for (method, path, operation) in documents::operations(&documents::openapi(&mall.app.process)) {
        let id = operation.operation_id.expect("an id");
        let Some(access) = matrix.remove(id.as_str()) else {
            mistakes.push(format!("{id} is missing from the matrix"));
            continue;
        };
        if operation.security.is_some() != (access != Everyone) {
            mistakes.push(format!("{id} is documented as {}", if access == Everyone { "needing a sign-in" } else { "open to everyone" }));
        }
        for role in [None, Some(Role::Customer), Some(Role::Seller), Some(Role::Operator)] {
            let answer = call(&mall, method, &path, &id, role).await;
            let told = (answer.status, answer.problem());
            let right = match (access.allows(role), role) {
                (true, _) => !matches!(told.0, 401 | 403) && told.0 < 500,
                (false, None) => told == (401, "unauthenticated") && answer.headers.contains_key("www-authenticate"),
                (false, Some(_)) => told == (403, "forbidden"),
            };
            if !right {
                mistakes.push(format!("{id} for {role:?}: {told:?}, but the matrix says {access:?}"));
            }
        }
    }
    mistakes.extend(matrix.keys().map(|id| format!("{id} is in the matrix but does not exist")));
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    mall.finish().await;
}

/// A5, row 40: a seller gets 404 for everything in another seller's store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_another_sellers_things_are_not_found() {
    let mall = Mall::open().await;
    let (mine, theirs) = (mall.shop().await, mall.shop().await);
    let product = mall.put_on_sale(&theirs.seller, &json!({"name": "Roses", "price": 5_000, "stock": 9})).await;
    let (id, sku) = (text(&product["id"]), text(&product["options"][0]["sku"]));
    let body = mall.coupon_body(json!({"scope": "store", "store_id": theirs.id}));
    let coupon = text(&mall.post(&theirs.seller, "/v1/coupons", &body).send().await.expect(201).body["id"]);
    let buyer = mall.shopper(50_000, 0).await;
    let order = text(&mall.order_in_state(&buyer, &paid_order(&sku), "PAID").await["id"]);

    let token = &mine.seller.token;
    let change = |path: String, body: Value| mall.app.patch(path).bearer(token).json(&body);
    let remove = |path: String| mall.app.delete(path).bearer(token);
    let requests: Vec<(&str, TestRequest)> = vec![
        ("sell in their store", mall.post(&mine.seller, "/v1/products", &json!({"name": "X", "price": 1, "store_id": theirs.id}))),
        ("change their product", change(format!("/v1/products/{id}"), json!({"price": 1}))),
        ("delete their product", remove(format!("/v1/products/{id}"))),
        ("read their stock", mall.get(&mine.seller, &format!("/v1/stock/{sku}"))),
        ("set their stock", mall.app.put(format!("/v1/stock/{sku}")).bearer(token).json(&json!({"on_hand": 0}))),
        ("adjust their stock", mall.post(&mine.seller, &format!("/v1/stock/{sku}/adjustments"), &json!({"delta": -1, "reason": "mine"}))),
        ("announce a coupon for them", mall.post(&mine.seller, "/v1/coupons", &body)),
        ("change their coupon", change(format!("/v1/coupons/{coupon}"), json!({"quantity": 1}))),
        ("withdraw their coupon", remove(format!("/v1/coupons/{coupon}"))),
        ("read their orders", mall.get(&mine.seller, &format!("/v1/stores/{}/orders", theirs.id))),
        ("move their order", mall.post(&mine.seller, &format!("/v1/orders/{order}/fulfilment"), &json!({"state": "PREPARING"}))),
        ("read a buyer's order", mall.get(&mine.seller, &format!("/v1/orders/{order}"))),
    ];
    for (name, request) in requests {
        let answer = request.send().await;
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{name}");
    }
    let sold = mall.get(&theirs.seller, &format!("/v1/stores/{}/orders", theirs.id)).send().await.expect(200).body;
    assert_eq!(sold["items"][0]["id"], order.as_str());
    assert_eq!(mall.stock(&sku).await, (8, 0, 1));
    mall.finish().await;
}

/// A14, row 37: a buyer gets 404 for everything of another buyer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_another_buyers_things_are_not_found() {
    let mall = Mall::open().await;
    let sku = mall.product(5_000, 10).await;
    let coupon = mall.coupon(json!({})).await;
    let (owner, other) = (mall.shopper(50_000, 300).await, mall.shopper(7_000, 0).await);
    let _ = mall.claim_issued(&owner, &coupon).await;
    let order = mall.order_in_state(&owner, &unpaid_order(&sku), "AWAITING_PAYMENT").await;
    let bought = mall.order_in_state(&owner, &paid_order(&sku), "PAID").await;
    let cart = mall.app.put(format!("/v1/cart/items/{sku}")).bearer(&owner.token).json(&json!({"quantity": 3}));
    let _ = cart.send().await.expect(200);
    let (order, payment) = (text(&order["id"]), text(&bought["payment"]["id"]));

    for person in [&other, &mall.stranger(Role::Seller)] {
        for request in [
            mall.get(person, &format!("/v1/orders/{order}")),
            mall.pay(person, &order),
            mall.cancel(person, &order),
            mall.post(person, &format!("/v1/orders/{}/confirmation", text(&bought["id"])), &json!({})),
            mall.get(person, &format!("/v1/payments/{payment}")),
            mall.get(person, &format!("/v1/coupons/{coupon}/claims/mine")),
            mall.app.delete(format!("/v1/coupons/{coupon}/claims/mine")).bearer(&person.token),
        ] {
            let _ = request.send().await.expect_problem(404, "not-found");
        }
        assert_lists_are_empty(&mall, person).await;
    }
    assert_eq!((mall.wallet(&owner).await, mall.wallet(&other).await), ((45_000, 300), (7_000, 0)));
    assert_eq!(mall.state_of(&owner, &order).await, "AWAITING_PAYMENT");
    mall.finish().await;
}

/// The lists show nothing of other members.
async fn assert_lists_are_empty(mall: &Mall, person: &Person) {
    for path in ["/v1/orders", "/v1/me/coupons", "/v1/wallet/entries?account=points", "/v1/cart"] {
        let seen = mall.get(person, path).send().await.expect(200).body;
        assert_eq!(seen["items"], json!([]), "{path}");
    }
}
