//! Helpers of the accounts tests.

use accounts::{Accounts, AccountsSettings, OperatorAddition};
use axum::{Extension, Router};
use contracts::{
    MemberId, StoreId, Won,
    calls::{CountOpenOrders, GetCash, GetStoresOfSeller, StoreCard},
};
use kit::{Kit, Module, auth::Role, cache::buckets::Rate, http::Peer, limits::LimitSettings, ports::new_id};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use testkit::{App, StubService, TestRequest, TestResponse};

pub const PASSWORD: &str = "seoul-rain-47-lantern";
pub const OTHER_PASSWORD: &str = "busan-tide-82-compass";

pub fn services(kit: &Kit) -> Vec<Arc<dyn Module>> {
    services_with(kit, AccountsSettings::default(), Holdings::default())
}

/// The accounts service with these settings, among stubs of the services that it asks.
pub fn services_with(kit: &Kit, settings: AccountsSettings, holdings: Holdings) -> Vec<Arc<dyn Module>> {
    let Holdings { cash, stores, open_orders } = holdings;
    let card = StoreCard { store_id: StoreId(new_id()), name: "Wine".into(), seller_id: None };
    vec![
        Arc::new(Accounts::new(kit.clone(), settings)),
        Arc::new(StubService::new(kit, "stores").answers::<GetStoresOfSeller>(move |_| Ok(vec![card.clone(); stores]))),
        Arc::new(StubService::new(kit, "wallet").answers::<GetCash>(move |_| Ok(Won(cash)))),
        Arc::new(StubService::new(kit, "orders").answers::<CountOpenOrders>(move |_| Ok(open_orders))),
    ]
}

/// Things that every member has at the other services.
#[derive(Clone, Copy, Default)]
pub struct Holdings {
    pub cash: i64,
    pub stores: usize,
    pub open_orders: u64,
}

/// Creates an operator, as `onrush operator add` does. Returns its id.
pub async fn add_operator(app: &App, email: &str) -> MemberId {
    let accounts = Arc::new(Accounts::new(app.kit().clone(), AccountsSettings::default()));
    match accounts.add_operator(email, PASSWORD, true).await.expect("the operator is added") {
        OperatorAddition::Made(id) => id,
        known => panic!("{known:?}"),
    }
}

pub async fn app() -> App {
    App::start(services).await
}

/// With these limits, which other tests lift.
pub async fn app_with(limits: LimitSettings) -> App {
    App::builder().limits(limits).start(services).await
}

pub fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().expect("a rate"))
}

/// The seconds of `Retry-After`.
pub fn retry_after(response: &TestResponse) -> u64 {
    response.headers["retry-after"].to_str().expect("ASCII").parse().expect("seconds")
}

/// The same application for a client with this address.
pub fn from_address(router: &Router, address: &str) -> Router {
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

/// Signs in as a browser does. Returns the value of its `Cookie` header.
pub async fn web_sign_in(app: &App, email: &str) -> String {
    let answer = try_web_sign_in(app, email, PASSWORD).await.expect(200);
    let given = answer.headers["set-cookie"].to_str().expect("ASCII");
    given.split(';').next().expect("a cookie").to_owned()
}

/// Adds the header that a browser sends with a request from our own pages.
pub fn from_our_page(request: TestRequest) -> TestRequest {
    request.header("sec-fetch-site", "same-origin")
}

/// Expects an answer that clears the cookie.
#[track_caller]
pub fn expect_cleared(answer: &TestResponse) {
    assert_eq!(answer.headers["set-cookie"], "__Host-onrush=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0");
}

/// Expects that the cookie is refused and cleared.
pub async fn expect_cookie_refused(app: &App, cookie: &str) {
    let refused = app.get("/v1/me").header("cookie", cookie).send().await.expect_problem(401, "unauthenticated");
    expect_cleared(&refused);
}

/// Number of cookies in the database.
pub async fn cookie_count(app: &App) -> i64 {
    app.sql_i64("select count(*) from accounts_web_sessions").await
}

/// True if the cookie is accepted.
pub async fn is_signed_in(app: &App, cookie: &str) -> bool {
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

/// True if the access token is accepted.
pub async fn has_access(app: &App, access: &str) -> bool {
    let answer = app.get("/v1/me").bearer(access).send().await;
    assert!(answer.status == 200 || answer.status == 401, "{answer:?}");
    answer.status == 200
}

pub fn operator(app: &App) -> String {
    app.token(MemberId(new_id()), Role::Operator)
}

/// A problem without its trace id, which differs between requests.
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

/// Waits for a condition. Fails after 20 seconds.
pub async fn wait_until(is_met: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if is_met().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the condition was not met");
}
