//! Input that the catalogue rejects. The row numbers are those of the bad-input list.

use crate::world::World;
use serde_json::json;

// P1
#[tokio::test]
async fn bad_products_are_refused() {
    let world = World::new().await;
    let long_name = format!(r#"{{"name":"{}","price":1}}"#, "x".repeat(201));
    let many =
        json!({"name": "a", "price": 1, "options": (0..101).map(|n| json!({"name": n.to_string()})).collect::<Vec<_>>()}).to_string();
    let cases: &[(&str, u16, &str, &str)] = &[
        // rows 1, 2, 6, 7
        (r#"{"name":"a","price":NaN}"#, 400, "malformed-json", ""),
        (r#"{"name":"a","name":"b","price":1}"#, 400, "duplicate-field", ""),
        (r#"{"name":"a","price":1,"state":"deleted"}"#, 422, "unknown-field", "/state"),
        (r#"{"name":"a","price":1,"id":"00000000-0000-7000-8000-000000000001"}"#, 422, "unknown-field", "/id"),
        (r#"{"name":"a","price":1,"options":[{"name":"a","sku":"x"}]}"#, 422, "unknown-field", "/options/0/sku"),
        (r#"{"name":"a","price":"1"}"#, 422, "invalid-field", "/price"),
        (r#"{"name":"a","price":true}"#, 422, "invalid-field", "/price"),
        (r#"{"name":"a","price":null}"#, 422, "invalid-field", "/price"),
        (r#"{"name":"a"}"#, 422, "invalid-field", "/price"),
        (r#"{"price":1}"#, 422, "invalid-field", "/name"),
        (r#"{"name":"a","price":1,"store_id":"mine"}"#, 422, "invalid-field", "/store_id"),
        (r#"{"name":"a","price":1,"stock_policy":"never"}"#, 422, "invalid-field", "/stock_policy"),
        // rows 5, 8, 76
        (r#"{"name":"a\u0000b","price":1}"#, 422, "invalid-field", "/name"),
        (r#"{"name":" ","price":1}"#, 422, "invalid-field", "/name"),
        (r#"{"name":"a\u202eb","price":1}"#, 422, "invalid-field", "/name"),
        (r#"{"name":"a","price":1,"description":"\u0000"}"#, 422, "invalid-field", "/description"),
        (&long_name, 422, "too-long", "/name"),
        (&many, 422, "too-many", "/options"),
        // rows 42, 43, 47
        (r#"{"name":"a","price":-1}"#, 422, "invalid-field", "/price"),
        (r#"{"name":"a","price":2147483648}"#, 422, "invalid-field", "/price"),
        (r#"{"name":"a","price":9223372036854775808}"#, 422, "", "/price"),
        (r#"{"name":"a","price":1e400}"#, 422, "", "/price"),
        (r#"{"name":"a","price":1,"stock":-1}"#, 422, "invalid-field", "/stock"),
        (r#"{"name":"a","price":1,"options":[{"name":"a","stock":-1}]}"#, 422, "invalid-field", "/options/0/stock"),
        (r#"{"name":"a","price":1,"options":[{"name":"a","stock":2147483648}]}"#, 422, "invalid-field", "/options/0/stock"),
        (r#"{"name":"a","price":1,"options":[{"name":"a","price_delta":-2}]}"#, 422, "amount-out-of-range", "/options/0/price_delta"),
        (
            r#"{"name":"a","price":1,"options":[{"name":"a","price_delta":1000000000}]}"#,
            422,
            "amount-out-of-range",
            "/options/0/price_delta",
        ),
        (r#"{"name":"a","price":1,"options":[{"name":"a"},{"name":"a"}]}"#, 422, "invalid-field", "/options/1/name"),
        (r#"{"name":"a","price":1,"stock":5,"options":[{"name":"a"}]}"#, 422, "invalid-field", "/stock"),
    ];
    for (body, status, slug, pointer) in cases {
        let answer = world.app.post("/v1/products").bearer(&world.seller()).raw("application/json", (*body).to_owned()).send().await;
        assert_eq!(answer.status, *status, "{body}: {}", answer.body);
        if !slug.is_empty() {
            assert_eq!(answer.problem(), *slug, "{body}: {}", answer.body);
        }
        if !pointer.is_empty() {
            assert_eq!(answer.body["errors"][0]["pointer"], *pointer, "{body}: {}", answer.body);
        }
    }
    // row 45: half a won
    let half = world.app.post("/v1/products").bearer(&world.seller()).raw("application/json", r#"{"name":"a","price":0.5}"#).send().await;
    assert_eq!((half.status, half.body["errors"][0]["pointer"].as_str()), (422, Some("/price")), "{}", half.body);
    assert_eq!(world.app.sql_i64("select count(*) from catalog_products").await, 0);
    assert!(world.app.messages("catalog").await.is_empty());
}

// P1
#[tokio::test]
async fn bad_changes_change_nothing() {
    let world = World::new().await;
    let (of, _) = world.product("Rose", 1_000, 5).await;
    let before = world.detail(of).await;
    let cases = [
        (r#"{"price":-1}"#, "invalid-field"),
        (r#"{"price":1000000001}"#, "invalid-field"),
        (r#"{"name":""}"#, "invalid-field"),
        (r#"{"state":"deleted"}"#, "invalid-field"),
        (r#"{"state":"sold"}"#, "invalid-field"),
        (r#"{"store_id":"00000000-0000-7000-8000-000000000001"}"#, "unknown-field"),
        (r#"{"stock_policy":"deduct_on_payment"}"#, "unknown-field"),
        (r#"{"version":9}"#, "unknown-field"),
        (r#"{"remove_options":["x"]}"#, "invalid-field"),
        (r#"{"add_options":[{"name":"b","stock":-1}]}"#, "invalid-field"),
    ];
    for (body, slug) in cases {
        let answer = world.app.patch(format!("/v1/products/{of}")).bearer(&world.seller()).raw("application/json", body).send().await;
        assert_eq!((answer.status, answer.problem()), (422, slug), "{body}: {}", answer.body);
    }
    assert_eq!(world.detail(of).await, before);
}
