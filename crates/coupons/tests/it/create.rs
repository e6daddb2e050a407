use crate::support::*;
use serde_json::{Value, json};

async fn mistakes_of(mall: &Mall, fields: Value) -> Vec<String> {
    let coupon = mall.coupon(fields);
    let answer = mall.app.post("/v1/coupons").bearer(&mall.operator()).json(&coupon).send().await.expect(422);
    answer.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

// C1, C2, C3, C4, C16, C21
#[tokio::test]
async fn an_announced_coupon_is_shown_as_requested() {
    let mall = Mall::open().await;
    let written = mall.coupon(json!({
        "name": "가을 10 %", "discount": {"type": "rate", "basis_points": 1_000, "max_won": 5_000}, "scope": "store", "store_id": STORE,
        "quantity": 100, "per_member": 2, "reissue_after_cancel": true, "min_order": 20_000, "valid_days": 7, "waitlist": true,
        "valid_from": mall.now().after(HOUR),
    }));
    let made = mall.app.post("/v1/coupons").bearer(&mall.operator()).json(&written).send().await.expect(201);
    assert_eq!(made.headers["location"], format!("/v1/coupons/{}", made.body["id"].as_str().unwrap()));
    let shown = mall.coupon_now(id(&made.body["id"]).into()).await;
    assert_eq!(shown, made.body);
    for (name, value) in written.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
    for (name, value) in [("issued", json!(0)), ("remaining", json!(100)), ("waiting", json!(0)), ("state", json!("open"))] {
        assert_eq!(shown[name], value, "{name}");
    }
}

// C1
#[tokio::test]
async fn an_unlimited_coupon_has_no_quantity() {
    let mall = Mall::open().await;
    let id = mall.announce(json!({"kind": "unlimited", "quantity": null})).await;
    let shown = mall.coupon_now(id).await;
    assert_eq!((&shown["kind"], &shown["quantity"], &shown["remaining"]), (&json!("unlimited"), &Value::Null, &Value::Null));
    assert_eq!(mistakes_of(&mall, json!({"kind": "unlimited"})).await, ["/quantity"]);
    assert_eq!(mistakes_of(&mall, json!({"kind": "unlimited", "quantity": null, "waitlist": true})).await, ["/waitlist"]);
    assert_eq!(mistakes_of(&mall, json!({"quantity": null})).await, ["/quantity"]);
}

// C2: a field that does not belong to the discount is refused at its pointer; row 47 of the bad inputs
#[tokio::test]
async fn impossible_coupons_are_refused_field_by_field() {
    let mall = Mall::open().await;
    let from = mall.now();
    for (fields, pointers) in [
        (json!({"discount": {"type": "rate", "basis_points": 10_100}}), vec!["/discount/basis_points"]),
        (json!({"discount": {"type": "rate", "basis_points": -1}}), vec!["/discount/basis_points"]),
        (json!({"discount": {"type": "amount", "won": -5}}), vec!["/discount/won"]),
        (json!({"discount": {"type": "amount"}}), vec!["/discount/won"]),
        (json!({"discount": {"type": "amount", "won": 5, "max_won": 5}}), vec!["/discount/max_won"]),
        (json!({"discount": {"type": "amount", "won": 5, "basis_points": 5}}), vec!["/discount/basis_points"]),
        (json!({"discount": {"type": "rate", "basis_points": 5, "won": 5}}), vec!["/discount/won"]),
        (json!({"discount": {"type": "rate", "basis_points": 5, "max_won": 0}}), vec!["/discount/max_won"]),
        (json!({"quantity": -1}), vec!["/quantity"]),
        (json!({"quantity": 0}), vec!["/quantity"]),
        (json!({"per_member": 0}), vec!["/per_member"]),
        (json!({"min_order": -1}), vec!["/min_order"]),
        (json!({"issue_until": from}), vec!["/issue_until"]),
        (json!({"valid_until": null}), vec!["/valid_until"]),
        (json!({"valid_days": 0}), vec!["/valid_days"]),
        (json!({"valid_from": from.after(30 * DAY)}), vec!["/valid_from"]),
        (json!({"scope": "store"}), vec!["/store_id"]),
        (json!({"store_id": STORE}), vec!["/store_id"]),
        (json!({"scope": "item", "store_id": member()}), vec!["/store_id"]),
        (json!({"name": " "}), vec!["/name"]),
        (json!({"discount": {"type": "amount", "won": 0}, "issue_until": from}), vec!["/discount/won", "/issue_until"]),
    ] {
        assert_eq!(mistakes_of(&mall, fields.clone()).await, pointers, "{fields}");
    }
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_definitions").await, 0);
    for (fields, slug) in [
        (json!({"state": "open"}), "unknown-field"),
        (json!({"issued": 5}), "unknown-field"),
        (json!({"issue_from": "2026-02-30T00:00:00Z"}), "invalid-time"),
        (json!({"discount": {"type": "gift"}}), "invalid-field"),
        (json!({"name": "x".repeat(101)}), "too-long"),
    ] {
        let coupon = mall.coupon(fields);
        let _ = mall.app.post("/v1/coupons").bearer(&mall.operator()).json(&coupon).send().await.expect_problem(422, slug);
    }
}

// C13, A5, A14: row 40 of the bad inputs
#[tokio::test]
async fn a_seller_announces_only_coupons_of_an_own_store() {
    let mall = Mall::open().await;
    let post = |token: String, fields: Value| mall.app.post("/v1/coupons").bearer(&token).json(&mall.coupon(fields)).send();
    for scope in ["store", "item"] {
        let _ = post(mall.seller(), json!({"scope": scope, "store_id": STORE})).await.expect(201);
        let _ = post(mall.seller(), json!({"scope": scope, "store_id": OTHER_STORE})).await.expect_problem(404, "not-found");
        let _ = post(mall.seller(), json!({"scope": scope, "store_id": member()})).await.expect_problem(404, "not-found");
    }
    let _ = post(mall.seller(), json!({})).await.expect_problem(403, "forbidden");
    let _ = post(mall.shopper(member()), json!({})).await.expect_problem(403, "forbidden");
    let _ = mall.app.post("/v1/coupons").json(&mall.coupon(json!({}))).send().await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_repeat_with_the_same_key_announces_nothing_new() {
    let mall = Mall::open().await;
    let coupon = mall.coupon(json!({}));
    let post = || mall.app.post("/v1/coupons").bearer(&mall.operator()).key("k").json(&coupon).send();
    let (first, second) = (post().await.expect(201), post().await.expect(201));
    assert_eq!(first.bytes, second.bytes);
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_definitions").await, 1);
}
