use crate::world::World;
use kit::ports::new_id;
use serde_json::json;
use std::time::Duration;

// O6, G2
#[tokio::test]
async fn an_order_shows_its_lines_amounts_and_history() {
    let world = World::new().await;
    let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
    world.app.clock.advance(Duration::from_secs(90));
    let _ = world.pay(id, "p").await.expect(200);
    let order = world.get(id).await;
    assert_eq!(order["id"], json!(id));
    assert_eq!(order["created_at"], "2026-11-20T00:00:00.000000Z");
    assert_eq!(order["paid_at"], "2026-11-20T00:01:30.000000Z");
    assert_eq!(order["payment"]["method"], "wallet");
    let line = &order["lines"][0];
    assert_eq!(
        (&line["line_no"], &line["name"], &line["quantity"], &line["unit_price"]),
        (&json!(1), &json!("thing 1"), &json!(2), &json!(5_000))
    );
    assert_eq!(line["store_id"], json!(world.store));
    let off: i64 = order["lines"].as_array().expect("lines").iter().filter_map(|line| line["discount"].as_i64()).sum();
    assert_eq!((off, &order["coupons"][0]["discount"]), (1_000, &json!(1_000)));
    let steps = order["saga"]["history"].as_array().expect("a history");
    assert_eq!(steps.len(), 5);
    assert_eq!((&steps[3]["step"], &steps[3]["at"]), (&json!("stock.take"), &json!("2026-11-20T00:01:30.000000Z")));
}

// A14, row 37
#[tokio::test]
async fn an_order_does_not_exist_for_others() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain_paid(), "PAID").await;
    let path = format!("/v1/orders/{id}");
    let unknown = world.app.get(format!("/v1/orders/{}", new_id())).bearer(&world.token).send().await.expect_problem(404, "not-found");
    for other in [world.stranger_token(), world.seller_token()] {
        let hidden = world.app.get(&path).bearer(&other).send().await.expect_problem(404, "not-found");
        assert_eq!(hidden.body["detail"], unknown.body["detail"]);
    }
    let _ = world.app.get(&path).send().await.expect_problem(401, "unauthenticated");
    let _ = world.app.get("/v1/orders/..%2f1").bearer(&world.token).send().await.expect_problem(404, "not-found");
    let seen = world.app.get(&path).bearer(&world.operator_token()).send().await.expect(200);
    assert_eq!(seen.body["id"], json!(id));
}
