//! Rows 1 to 8, 42 and 45: bodies that do not parse or violate the rules of their fields.

use super::{Case, World, refused};
use kit::ports::new_id;
use serde_json::{Value, json};

pub fn cases(world: &World) -> Vec<Case<'static>> {
    let mut cases = syntax(world);
    cases.extend(fields(world));
    cases.extend(sizes(world));
    cases.extend(numbers(world));
    cases
}

fn syntax(world: &World) -> Vec<Case<'static>> {
    let charge = |body: &str| world.raw_post("/v1/wallet/charges", body);
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
    let mut cases = Vec::new();
    for body in [
        r#"{"amount":"#,
        r#"{"amount":NaN}"#,
        r#"{"amount":Infinity}"#,
        r#"{"amount":-Infinity}"#,
        r#"{"amount":5000} true"#,
        r#"{"amount":5000}{}"#,
        r#"{'amount':5000}"#,
        r#"{"amount":5000,}"#,
        "{\"amount\":5000}\0",
        "amount=5000",
    ] {
        cases.push(refused(format!("row 1: {body:?}"), charge(body), 400, "malformed-json"));
    }
    cases.push(refused("row 2: the same field twice", charge(r#"{"amount":5000,"amount":9000}"#), 400, "duplicate-field"));
    cases.push(refused(
        "row 2: the same field twice, once escaped",
        charge(r#"{"amount":5000,"\u0061mount":9000}"#),
        400,
        "duplicate-field",
    ));
    let nested = format!(r#"{{"items":[{{"sku":"{0}","quantity":1,"quantity":9}}]}}"#, world.sku);
    cases.push(refused("row 2: inside a line", world.raw_post("/v1/orders", nested), 400, "duplicate-field"));
    cases.push(refused("row 3: 10,000 arrays", charge(&deep("[", "]")), 400, "too-deep"));
    cases.push(refused("row 3: 10,000 objects", charge(&format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000))), 400, "too-deep"));
    let bytes = [br#"{"email":""#.as_slice(), b"\xff\xfe", br#"@example.com"}"#].concat();
    cases.push(refused("row 4: a body in another encoding", world.raw_post("/v1/accounts", bytes), 400, "bad-encoding"));
    cases.push(refused("row 4: half a surrogate", charge(r#"{"amount":"\ud800"}"#), 400, "malformed-json"));
    for path in ["/v1/products/%FF", "/v1/nothing/%C3%28", "/v1/orders/%80"] {
        cases.push(refused(format!("row 4: {path}"), world.mall.get(&world.buyer, path), 400, "bad-encoding"));
    }
    cases.push(refused("row 4: line ends in a search", world.mall.app.get("/v1/products?q=a%0D%0Aset-cookie:x"), 422, "invalid-parameter"));
    cases
}

fn fields(world: &World) -> Vec<Case<'static>> {
    let mall = &world.mall;
    let sign_up = |name: &str| json!({"email": format!("{}@example.com", new_id()), "password": "correct horse battery", "name": name});
    let account = |body: &Value| mall.app.post("/v1/accounts").json(body);
    let cancel = format!("/v1/orders/{}/cancellation", world.unpaid);
    let mut cases = vec![
        refused("row 5: NUL in a name", account(&sign_up("Min\u{0}ji")), 422, "invalid-field"),
        refused("row 5: NUL in a reason", mall.post(&world.buyer, &cancel, &json!({"reason": "a\u{0}b"})), 422, "invalid-field"),
        refused(
            "row 5: NUL in a product's name",
            mall.post(&mall.operator, "/v1/products", &json!({"name": "a\u{0}b", "price": 1})),
            422,
            "invalid-field",
        ),
    ];
    for (field, value) in
        [("state", json!("PAID")), ("user_id", json!(world.other.id)), ("total", json!(1)), ("member_id", json!(world.other.id))]
    {
        let mut body = json!({"items": [{"sku": world.sku, "quantity": 1}]});
        body[field] = value;
        cases.push(refused(format!("row 6: {field} of an order"), world.order(&body), 422, "unknown-field"));
    }
    let priced = json!({"items": [{"sku": world.sku, "quantity": 1, "price": 1}]});
    cases.push(refused("row 6: price of a line", world.order(&priced), 422, "unknown-field"));
    for (field, value) in [("role", json!("operator")), ("state", json!("active")), ("id", json!(world.other.id)), ("balance", json!(1))] {
        let mut body = sign_up("Minji");
        body[field] = value;
        cases.push(refused(format!("row 6: {field} of an account"), account(&body), 422, "unknown-field"));
    }
    let charge = json!({"amount": 5_000, "balance": 1_000_000});
    cases.push(refused("row 6: balance", mall.post(&world.buyer, "/v1/wallet/charges", &charge), 422, "unknown-field"));
    let me = mall.app.patch("/v1/me").bearer(&world.buyer.token).json(&json!({"role": "operator"}));
    cases.push(refused("row 6: role of a profile", me, 422, "unknown-field"));
    for quantity in ["\"2\"", "1.5", "1e3", "true", "null", "[1]", "{}", "2.0"] {
        cases.push(refused(format!("row 7: quantity {quantity}"), world.quantity(quantity), 422, "invalid-field"));
    }
    cases.push(refused("row 7: no quantity", world.order(&json!({"items": [{"sku": world.sku}]})), 422, "invalid-field"));
    cases.push(refused("row 7: an id that is none", world.order(&json!({"items": [{"sku": "1", "quantity": 1}]})), 422, "invalid-field"));
    cases.push(refused("row 7: a list is not an object", world.raw_post("/v1/orders", "[]"), 422, "invalid-field"));
    cases
}

fn sizes(world: &World) -> Vec<Case<'static>> {
    let mall = &world.mall;
    let cancel = format!("/v1/orders/{}/cancellation", world.unpaid);
    let reason = |length: usize| mall.post(&world.buyer, &cancel, &json!({"reason": "x".repeat(length)}));
    let lines = |count: usize| {
        let lines: Vec<Value> = (0..count).map(|_| json!({"sku": world.sku, "quantity": 1})).collect();
        world.order(&json!({"items": lines}))
    };
    vec![
        refused("row 8: 201 characters where 200 is the limit", reason(201), 422, "too-long"),
        refused("row 8: 200,000 characters", reason(200_000), 422, "too-long"),
        refused("row 8: 1 MiB of text is more than any body may have", reason(1 << 20), 413, "body-too-large"),
        refused("row 8: 101 lines", lines(101), 422, "too-many"),
        refused("row 8: 3,000 lines", lines(3_000), 422, "too-many"),
        refused("row 8: 10,001 lines are more than any body may have", lines(10_001), 413, "body-too-large"),
    ]
}

fn numbers(world: &World) -> Vec<Case<'static>> {
    let charge = |amount: &str| world.raw_post("/v1/wallet/charges", format!(r#"{{"amount":{amount}}}"#));
    let mut cases = Vec::new();
    for quantity in ["0", "-1", "1001", "2147483648", "9223372036854775808", "1e400", "-0.0"] {
        cases.push(refused(format!("row 42: quantity {quantity}"), world.quantity(quantity), 422, "invalid-field"));
    }
    for amount in ["1000.5", "1000.001", "1e3"] {
        cases.push(refused(format!("row 45: {amount} won"), charge(amount), 422, "invalid-amount"));
    }
    let dollars = world.raw_post("/v1/wallet/charges", r#"{"amount":5000,"currency":"USD"}"#);
    cases.push(refused("row 45: another currency", dollars, 422, "unknown-field"));
    cases
}
