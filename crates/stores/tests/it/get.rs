use crate::support::{app, open};
use contracts::{MALL_STORE, MemberId};
use kit::ports::new_id;
use serde_json::json;

#[tokio::test]
async fn anyone_sees_a_store_without_its_seller() {
    let app = app().await;
    let id = open(&app, "Blooming Blooms", Some(MemberId(new_id()))).await;
    let seen = app.get(format!("/v1/stores/{id}")).send().await.expect(200);
    assert_eq!(seen.body, json!({"id": id, "name": "Blooming Blooms", "created_at": "2026-11-20T00:00:00.000000Z"}));
    let mall = app.get(format!("/v1/stores/{MALL_STORE}")).send().await.expect(200);
    assert_eq!(mall.body["name"], "Onrush Mall");
}

// row 21
#[tokio::test]
async fn an_unknown_store_is_not_found() {
    let app = app().await;
    for id in [new_id().to_string(), "1".into(), "..%2f".into()] {
        let _ = app.get(format!("/v1/stores/{id}")).send().await.expect_problem(404, "not-found");
    }
}
