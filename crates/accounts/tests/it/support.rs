//! What the tests of accounts share.

use accounts::{Accounts, AccountsSettings};
use axum::{Extension, Router};
use contracts::MemberId;
use kit::{
    Kit, Service,
    auth::Role,
    http::Peer,
    ports::new_id,
    testing::{App, Puppet, TestRequest, TestResponse},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

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

pub async fn try_web_sign_in(app: &App, email: &str, password: &str) -> TestResponse {
    app.post("/v1/web-sessions").json(&json!({"email": email, "password": password})).send().await
}

/// Signs in as a browser does: what it sends in its `Cookie` header from then on.
pub async fn web_sign_in(app: &App, email: &str) -> String {
    let answer = try_web_sign_in(app, email, PASSWORD).await.expect(200);
    let given = answer.headers["set-cookie"].to_str().expect("ASCII");
    given.split(';').next().expect("a cookie").to_owned()
}

/// What a browser says of a request that one of our own pages makes.
pub fn from_our_page(request: TestRequest) -> TestRequest {
    request.header("sec-fetch-site", "same-origin")
}

/// The browser is told to forget its cookie.
#[track_caller]
pub fn expect_cleared(answer: &TestResponse) {
    assert_eq!(answer.headers["set-cookie"], "__Host-onrush=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0");
}

/// The cookie opens no door, and the browser is told to forget it.
pub async fn expect_over(app: &App, cookie: &str) {
    let refused = app.get("/v1/me").header("cookie", cookie).send().await.expect_problem(401, "unauthenticated");
    expect_cleared(&refused);
}

/// Browsers' sessions in the database.
pub async fn cookies_kept(app: &App) -> i64 {
    app.sql_i64("select count(*) from accounts_web_sessions").await
}

/// Whether the cookie opens the door.
pub async fn is_known(app: &App, cookie: &str) -> bool {
    let answer = app.get("/v1/me").header("cookie", cookie).send().await;
    assert!(answer.status == 200 || answer.status == 401, "{answer:?}");
    answer.status == 200
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

/// Waits for what must come about, and fails when it has not after a long time.
pub async fn soon(is_so: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not come to that");
}
