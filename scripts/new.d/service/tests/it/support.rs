//! Helpers of the @service@ tests.

use @service@::@Service@;
use contracts::MemberId;
use kit::{Kit, Module, auth::Role, ports::new_id};
use serde_json::json;
use std::sync::Arc;
use testkit::{App, TestResponse};

pub fn services(kit: &Kit) -> Vec<Arc<dyn Module>> {
    vec![Arc::new(@Service@::new(kit.clone()))]
}

pub async fn app() -> App {
    App::start(services).await
}

/// Access token of a new member.
pub fn member(app: &App) -> String {
    app.token(MemberId(new_id()), Role::Customer)
}

pub async fn create(app: &App, token: &str, name: &str) -> TestResponse {
    app.post("/v1/@service@").bearer(token).json(&json!({"name": name})).send().await.expect(201)
}
