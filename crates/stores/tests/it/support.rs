//! Helpers of the stores tests.

use contracts::{MemberId, StoreId};
use kit::{Kit, Module, auth::Role, ports::new_id};
use serde_json::json;
use std::sync::Arc;
use stores::Stores;
use testkit::App;

pub fn services(kit: &Kit) -> Vec<Arc<dyn Module>> {
    vec![Arc::new(Stores::new(kit.clone()))]
}

pub async fn app() -> App {
    App::start(services).await
}

pub fn operator(app: &App) -> String {
    app.token(MemberId(new_id()), Role::Operator)
}

pub async fn open(app: &App, name: &str, seller_id: Option<MemberId>) -> StoreId {
    let mut body = json!({"name": name});
    if let Some(seller_id) = seller_id {
        body["seller_id"] = json!(seller_id);
    }
    let created = app.post("/v1/stores").bearer(&operator(app)).json(&body).send().await.expect(201);
    created.body["id"].as_str().expect("an id").parse().expect("a UUID")
}
