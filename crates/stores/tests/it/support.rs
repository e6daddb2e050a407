//! Helpers of the stores tests.

use contracts::{MemberId, StoreId, calls::HasAccount};
use kit::{Kit, Module, auth::Role, ports::new_id};
use serde_json::json;
use std::sync::Arc;
use stores::Stores;
use testkit::{App, StubService};
use uuid::Uuid;

pub fn services(kit: &Kit) -> Vec<Arc<dyn Module>> {
    let accounts = StubService::new(kit, "accounts").answers::<HasAccount>(|call| Ok(call.member_id != STRANGER));
    vec![Arc::new(Stores::new(kit.clone())), Arc::new(accounts)]
}

/// A member id without an account. All others have one.
pub const STRANGER: MemberId = MemberId(Uuid::from_u128(404));

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
