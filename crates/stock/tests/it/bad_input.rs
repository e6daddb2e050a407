//! Input that stock rejects. The row numbers are those of the bad-input list.

use crate::world::World;

#[tokio::test]
async fn bad_bodies_change_nothing() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let long = format!(r#"{{"delta":1,"reason":"{}"}}"#, "x".repeat(201));
    let (set, adjust) = ("PUT", "POST");
    let cases: &[(&str, &str, u16, &str)] = &[
        // rows 1, 2, 6, 7
        (set, r#"{"on_hand":"#, 400, "malformed-json"),
        (set, r#"{"on_hand":1,"on_hand":2}"#, 400, "duplicate-field"),
        (set, r#"{"on_hand":1,"reserved":0}"#, 422, "unknown-field"),
        (set, r#"{"on_hand":1,"sold":0}"#, 422, "unknown-field"),
        (set, r#"{"on_hand":"2"}"#, 422, "invalid-field"),
        (set, r#"{"on_hand":1.5}"#, 422, "invalid-field"),
        (set, r#"{"on_hand":true}"#, 422, "invalid-field"),
        (set, r#"{"on_hand":null}"#, 422, "invalid-field"),
        (set, r#"{}"#, 422, "invalid-field"),
        // row 42
        (set, r#"{"on_hand":-1}"#, 422, "invalid-field"),
        (set, r#"{"on_hand":2147483648}"#, 422, "invalid-field"),
        (set, r#"{"on_hand":9223372036854775808}"#, 422, "invalid-field"),
        (set, r#"{"on_hand":1e400}"#, 422, "invalid-field"),
        (adjust, r#"{"delta":0,"reason":"none"}"#, 422, "invalid-field"),
        (adjust, r#"{"delta":-2147483648,"reason":"none"}"#, 422, "invalid-field"),
        (adjust, r#"{"delta":9223372036854775808,"reason":"none"}"#, 422, "invalid-field"),
        (adjust, r#"{"delta":1e400,"reason":"none"}"#, 422, "invalid-field"),
        // row 43: the sum is out of range, not the number
        (adjust, r#"{"delta":1000000000,"reason":"typo"}"#, 422, "amount-out-of-range"),
        // rows 5, 8
        (adjust, r#"{"delta":1,"reason":"a\u0000b"}"#, 422, "invalid-field"),
        (adjust, r#"{"delta":1,"reason":" "}"#, 422, "invalid-field"),
        (adjust, r#"{"delta":1}"#, 422, "invalid-field"),
        (adjust, &long, 422, "too-long"),
    ];
    for (method, body, status, slug) in cases {
        let request = match *method {
            "PUT" => world.app.put(format!("/v1/stock/{sku}")),
            _ => world.app.post(format!("/v1/stock/{sku}/adjustments")),
        };
        let answer = request.bearer(&world.seller()).raw("application/json", (*body).to_owned()).send().await;
        assert_eq!((answer.status, answer.problem()), (*status, *slug), "{method} {body}: {}", answer.body);
    }
    assert_eq!(world.levels(sku).await, [5, 0, 5, 0]);
    assert_eq!(world.app.sql_i64("select count(*) from stock_movements").await, 1);
}

// row 13
#[tokio::test]
async fn other_methods_are_not_allowed() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let _ = world.app.delete(format!("/v1/stock/{sku}")).bearer(&world.seller()).send().await.expect_problem(405, "method-not-allowed");
}
