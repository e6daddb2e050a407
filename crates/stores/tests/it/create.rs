use crate::support::{STRANGER, app, open, operator};
use contracts::{MemberId, Message, StoreId};
use futures::future::join_all;
use kit::{auth::Role, ports::new_id};
use serde_json::json;

// A5
#[tokio::test]
async fn a5_an_operator_opens_a_store_and_emits_a_message() {
    let app = app().await;
    let seller = MemberId(new_id());
    let request = app.post("/v1/stores").bearer(&operator(&app)).json(&json!({"name": " Blooming Blooms ", "seller_id": seller}));
    let created = request.send().await.expect(201);
    assert_eq!((&created.body["name"], &created.body["seller_id"]), (&json!("Blooming Blooms"), &json!(seller)));
    assert_eq!(created.body["created_at"], "2026-11-20T00:00:00.000000Z");
    let id = created.body["id"].as_str().unwrap();
    assert_eq!(created.headers["location"], format!("/v1/stores/{id}").as_str());
    let (key, message) = app.messages("stores").await.pop().unwrap();
    let Message::StoreCreated(created) = message else { panic!("{message:?}") };
    assert_eq!((key.to_string().as_str(), created.store_id.to_string().as_str()), (id, id));
    assert_eq!((created.name.as_str(), created.seller_id), ("Blooming Blooms", Some(seller)));
}

// A5; row 39
#[tokio::test]
async fn a5_only_operators_open_stores() {
    let app = app().await;
    for role in [Role::Customer, Role::Seller] {
        let token = app.token(MemberId(new_id()), role);
        let _ = app.post("/v1/stores").bearer(&token).json(&json!({"name": "Mine"})).send().await.expect_problem(403, "forbidden");
    }
    let _ = app.post("/v1/stores").json(&json!({"name": "Mine"})).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(app.sql_i64("select count(*) from stores_stores").await, 1);
}

// rows 5, 6, 7, 8, 76
#[tokio::test]
async fn bad_fields_are_named() {
    let app = app().await;
    for (body, slug, pointer) in [
        (json!({}), "invalid-field", "/name"),
        (json!({"name": "\t"}), "invalid-field", "/name"),
        (json!({"name": "Wine\u{0}"}), "invalid-field", "/name"),
        (json!({"name": "Wine\u{202e}"}), "invalid-field", "/name"),
        (json!({"name": "w".repeat(101)}), "too-long", "/name"),
        (json!({"name": "Wine", "seller_id": "me"}), "invalid-field", "/seller_id"),
        // L7, R10
        (json!({"name": "Wine", "seller_id": STRANGER}), "invalid-field", "/seller_id"),
        (json!({"name": "Wine", "id": new_id()}), "unknown-field", "/id"),
        (json!({"name": "Wine", "deleted_at": null}), "unknown-field", "/deleted_at"),
    ] {
        let refused = app.post("/v1/stores").bearer(&operator(&app)).json(&body).send().await.expect_problem(422, slug);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(app.sql_i64("select count(*) from stores_stores").await, 1);
}

#[tokio::test]
async fn simultaneously_opened_stores_all_exist() {
    let app = app().await;
    let names: Vec<String> = (0..20).map(|n| format!("Store {n}")).collect();
    let ids: Vec<StoreId> = join_all(names.iter().map(|name| open(&app, name, None))).await;
    for (id, name) in ids.iter().zip(&names) {
        let seen = app.get(format!("/v1/stores/{id}")).send().await.expect(200);
        assert_eq!(seen.body["name"], name.as_str());
    }
}

// row 60
#[tokio::test]
async fn a_repeated_request_opens_one_store() {
    let app = app().await;
    let token = operator(&app);
    let send = || app.post("/v1/stores").bearer(&token).key("k").json(&json!({"name": "Wine"})).send();
    let (first, second) = (send().await.expect(201), send().await.expect(201));
    assert_eq!((&first.bytes, first.headers["location"].clone()), (&second.bytes, second.headers["location"].clone()));
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(app.sql_i64("select count(*) from stores_stores").await, 2);
}
