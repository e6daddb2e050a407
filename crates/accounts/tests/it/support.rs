//! What the tests of accounts share.

use accounts::{Accounts, AccountsSettings};
use axum::{Extension, Router};
use contracts::MemberId;
use kit::{
    Kit, Service,
    auth::Role,
    http::Peer,
    ports::new_id,
    testing::{App, Puppet, TestResponse},
};
use serde_json::{Value, json};
use std::sync::Arc;

pub const PASSWORD: &str = "seoul-rain-47-lantern";
pub const OTHER_PASSWORD: &str = "busan-tide-82-compass";

pub fn services(kit: &Kit) -> Vec<Arc<dyn Service>> {
    vec![Arc::new(Accounts::new(kit.clone(), AccountsSettings::default())), Puppet::new(kit, "stores")]
}

pub async fn app() -> App {
    App::start(services).await
}

/// The same application, as it is seen from another address.
pub fn seen_from(router: &Router, address: &str) -> Router {
    let peer = Peer(format!("{address}:50000").parse().expect("an address"));
    router.clone().layer(Extension(peer))
}

pub async fn sign_up(app: &App, email: &str) -> MemberId {
    let body = json!({"email": email, "password": PASSWORD, "name": "Minji"});
    let created = app.post("/v1/accounts").json(&body).send().await.expect(201);
    MemberId(created.body["id"].as_str().expect("an id").parse().expect("a UUID"))
}

pub async fn try_sign_in(app: &App, email: &str, password: &str) -> TestResponse {
    app.post("/v1/sessions").json(&json!({"email": email, "password": password})).send().await
}

/// The tokens of one session.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    pub fn of(response: &TestResponse) -> Tokens {
        let text = |name: &str| response.body[name].as_str().expect("a token").to_owned();
        Tokens { access: text("access_token"), refresh: text("refresh_token") }
    }
}

pub async fn sign_in(app: &App, email: &str) -> Tokens {
    Tokens::of(&try_sign_in(app, email, PASSWORD).await.expect(200))
}

pub async fn try_refresh(app: &App, refresh: &str) -> TestResponse {
    app.post("/v1/sessions/refresh").json(&json!({"refresh_token": refresh})).send().await
}

/// Whether the access token opens the door.
pub async fn is_let_in(app: &App, access: &str) -> bool {
    let answer = app.get("/v1/me").bearer(access).send().await;
    assert!(answer.status == 200 || answer.status == 401, "{answer:?}");
    answer.status == 200
}

pub fn operator(app: &App) -> String {
    app.token(MemberId(new_id()), Role::Operator)
}

/// A problem without what differs from request to request.
pub fn without_trace(response: &TestResponse) -> Value {
    let mut body = response.body.clone();
    body.as_object_mut().expect("a problem").remove("trace_id").expect("problems carry a trace id");
    body
}

/// I-A2: families with two live tokens, or with a live one after a reuse.
pub async fn broken_families(app: &App) -> i64 {
    app.sql_i64(
        "select count(*) from (select session_id from accounts_refresh_tokens group by 1 \
         having count(case when state='LIVE' then 1 end)>1 \
         or (count(case when state='REUSED' then 1 end)>0 and count(case when state='LIVE' then 1 end)>0)) broken",
    )
    .await
}
