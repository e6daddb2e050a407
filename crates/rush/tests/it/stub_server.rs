//! A stub server in memory with the routes that a rush uses, and with planted faults. A member's token is the member's id.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rush::{OperatorLogin, RushOptions, RushReport, Scenario};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use uuid::Uuid;

/// Faults of the stub server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Number of coupons issued beyond the quantity.
    pub over_issue: u64,
    /// Every coupon has the number 1.
    pub same_number: bool,
    /// Refuses every nth claim as sold out, although coupons are left.
    pub undersell_every: u64,
    /// Forgets the claim of every nth number.
    pub forgets_every: i64,
    /// Number of units sold beyond the stock.
    pub oversell: i64,
    /// One unit stays held.
    pub leaves_one_held: bool,
    /// Executes every nth request, but breaks off its answer.
    pub drops_every: u64,
    /// Sheds every nth request with 503.
    pub sheds_every: u64,
    /// Answers every nth claim with 500.
    pub fails_every: u64,
    /// Not a fault: defers claims with `Prefer: respond-async`.
    pub defers_claims: bool,
}

#[derive(Default)]
struct StubState {
    /// Coupons created so far. All have the quantity of the last one.
    coupons: u128,
    quantity: u64,
    waitlist: bool,
    /// By coupon and member.
    issued: HashMap<(Uuid, String), (Uuid, i64)>,
    waiting: HashMap<(Uuid, String), i64>,
    /// Deferred claims: number of polls, status and body.
    deferred: HashMap<Uuid, (u32, u16, Value)>,
    stock: i64,
    sold: i64,
    orders: HashMap<(String, String), Value>,
}

pub struct StubServer {
    faults: Faults,
    stub: Mutex<StubState>,
    requests: AtomicU64,
    claims: AtomicU64,
}

pub struct RunningStub {
    pub address: SocketAddr,
}

type SharedStub = State<Arc<StubServer>>;

const PRODUCT: Uuid = Uuid::from_u128(0xA);
const SKU: Uuid = Uuid::from_u128(0xB);
/// The first coupon. Others follow.
const COUPON: u128 = 0xC0_0000;

/// Starts a stub server on a free port. It runs until the test program ends.
pub fn start(faults: Faults) -> RunningStub {
    let state = Arc::new(StubServer { faults, stub: Mutex::default(), requests: AtomicU64::new(0), claims: AtomicU64::new(0) });
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, router(state)).await.unwrap();
        });
    });
    RunningStub { address: receiver.recv().unwrap() }
}

fn router(state: Arc<StubServer>) -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/v1/coupons", post(create_coupon))
        .route("/v1/coupons/{id}", get(read_coupon))
        .route("/v1/coupons/{id}/claims", post(claim))
        .route("/v1/coupons/{id}/claims/mine", get(mine))
        .route("/v1/coupons/{id}/claims/{claim}", get(outcome))
        .route("/v1/products", post(create_product).get(list))
        .route("/v1/products/{id}", get(product))
        .route("/v1/stock/{sku}", get(stock))
        .route("/v1/orders", post(order))
        .route("/v1/accounts", post(sign_up))
        .route("/v1/orders/{id}", get(read_order))
        .with_state(state)
}

fn problem(status: u16, slug: &str) -> Response {
    let body = json!({"type": format!("/problems/{slug}"), "status": status});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn every(count: u64, nth: u64) -> bool {
    nth > 0 && count.is_multiple_of(nth)
}

impl StubServer {
    /// Sheds the request or breaks off the answer, as planted. A request whose answer breaks off is still executed.
    fn with_faults(&self, answer: impl FnOnce() -> Response) -> Response {
        let count = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if every(count, self.faults.sheds_every) {
            let mut shed = problem(503, "overloaded");
            shed.headers_mut().insert(header::RETRY_AFTER, "0".parse().unwrap());
            return shed;
        }
        let answer = answer();
        if every(count, self.faults.drops_every) {
            let broken = futures::stream::once(async { Err::<String, _>(std::io::Error::other("broken off")) });
            return Response::new(Body::from_stream(broken));
        }
        answer
    }
}

fn member(headers: &HeaderMap) -> String {
    headers[header::AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned()
}

async fn create_coupon(State(state): SharedStub, Json(body): Json<Value>) -> Response {
    let mut stub = state.stub.lock().unwrap();
    stub.quantity = body["quantity"].as_u64().unwrap_or(u64::MAX / 2);
    stub.waitlist = body["waitlist"].as_bool().unwrap();
    stub.coupons += 1;
    (StatusCode::CREATED, Json(json!({"id": Uuid::from_u128(COUPON + stub.coupons)}))).into_response()
}

impl StubState {
    fn issued_of(&self, coupon: Uuid) -> usize {
        self.issued.keys().filter(|(of, _)| *of == coupon).count()
    }
}

async fn read_coupon(State(state): SharedStub, Path(coupon): Path<Uuid>) -> Json<Value> {
    let stub = state.stub.lock().unwrap();
    Json(json!({"id": coupon, "remaining": stub.quantity as i64 - stub.issued_of(coupon) as i64, "waiting": stub.waiting.len()}))
}

fn claim_body(stub: &StubState, claim: &(Uuid, String)) -> Option<Value> {
    let issued = stub.issued.get(claim).map(|(id, number)| json!({"state": "issued", "issued_coupon_id": id, "number": number}));
    issued.or_else(|| stub.waiting.get(claim).map(|ticket| json!({"state": "waiting", "ticket": ticket, "position": 1})))
}

async fn claim(State(state): SharedStub, Path(coupon): Path<Uuid>, headers: HeaderMap) -> Response {
    if !headers.contains_key(header::AUTHORIZATION) {
        return problem(401, "unauthenticated");
    }
    if state.faults.defers_claims && headers.get("prefer").is_some_and(|prefer| prefer == "respond-async") {
        let settled = settle(&state, coupon, &headers);
        let (status, body) = (settled.status(), axum::body::to_bytes(settled.into_body(), usize::MAX).await.unwrap());
        let mut stub = state.stub.lock().unwrap();
        let id = Uuid::from_u128(0xD000 + stub.deferred.len() as u128);
        stub.deferred.insert(id, (0, status.as_u16(), serde_json::from_slice(&body).unwrap()));
        return (StatusCode::ACCEPTED, Json(json!({"state": "pending", "claim_id": id}))).into_response();
    }
    settle(&state, coupon, &headers)
}

/// Outcome of a deferred claim: settled at the third poll.
async fn outcome(State(state): SharedStub, Path((_, claim)): Path<(Uuid, Uuid)>) -> Response {
    let mut stub = state.stub.lock().unwrap();
    let Some((polls, status, answer)) = stub.deferred.get_mut(&claim) else { return problem(404, "not-found") };
    *polls += 1;
    if *polls < 3 {
        return Json(json!({"state": "pending", "claim_id": claim})).into_response();
    }
    let state = if *status == 201 { "issued" } else { "refused" };
    Json(json!({"state": state, "claim_id": claim, "status": status, "answer": answer})).into_response()
}

fn settle(state: &StubServer, coupon: Uuid, headers: &HeaderMap) -> Response {
    state.with_faults(|| {
        let count = state.claims.fetch_add(1, Ordering::SeqCst) + 1;
        if every(count, state.faults.fails_every) {
            return problem(500, "internal");
        }
        let mut stub = state.stub.lock().unwrap();
        let claim = (coupon, member(headers));
        if stub.issued.contains_key(&claim) {
            return problem(409, "already-issued");
        }
        let issued = stub.issued_of(coupon) as u64;
        let left = issued < stub.quantity + state.faults.over_issue;
        if left && !every(count, state.faults.undersell_every) {
            let number = if state.faults.same_number { 1 } else { issued as i64 + 1 };
            stub.issued.insert(claim.clone(), (Uuid::from_u128(0xF000 + u128::from(count)), number));
            return (StatusCode::CREATED, Json(claim_body(&stub, &claim).unwrap())).into_response();
        }
        if !stub.waitlist {
            return problem(409, "sold-out");
        }
        let ticket = stub.waiting.len() as i64 + 1;
        stub.waiting.entry(claim.clone()).or_insert(ticket);
        (StatusCode::ACCEPTED, Json(claim_body(&stub, &claim).unwrap())).into_response()
    })
}

async fn mine(State(state): SharedStub, Path(coupon): Path<Uuid>, headers: HeaderMap) -> Response {
    let stub = state.stub.lock().unwrap();
    let claim = (coupon, member(&headers));
    let number = stub.issued.get(&claim).map(|(_, number)| *number).or_else(|| stub.waiting.get(&claim).copied()).unwrap_or(0);
    match claim_body(&stub, &claim) {
        Some(body) if !every(number.unsigned_abs(), state.faults.forgets_every.unsigned_abs()) => Json(body).into_response(),
        _ => problem(404, "not-found"),
    }
}

async fn sign_up() -> Response {
    problem(422, "weak-password")
}

async fn create_product(State(state): SharedStub, Json(body): Json<Value>) -> Response {
    state.stub.lock().unwrap().stock = body["options"][0]["stock"].as_i64().unwrap();
    (StatusCode::CREATED, Json(json!({"id": PRODUCT}))).into_response()
}

async fn list() -> Json<Value> {
    Json(json!({"items": [{"id": PRODUCT}], "next_cursor": null}))
}

async fn product() -> Json<Value> {
    Json(json!({"id": PRODUCT, "options": [{"sku": SKU, "name": "one"}]}))
}

async fn stock(State(state): SharedStub) -> Json<Value> {
    let stub = state.stub.lock().unwrap();
    let on_hand = stub.stock - stub.sold;
    let reserved = i64::from(state.faults.leaves_one_held && stub.sold > 0);
    Json(json!({"sku": SKU, "on_hand": on_hand, "reserved": reserved, "available": on_hand - reserved, "sold": stub.sold}))
}

async fn order(State(state): SharedStub, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    state.with_faults(|| {
        assert_eq!(body["items"][0]["sku"], json!(SKU));
        if body["payment"].is_null() {
            return (StatusCode::CREATED, Json(json!({"id": SKU, "state": "AWAITING_PAYMENT"}))).into_response();
        }
        assert_eq!(body["payment"]["method"], "wallet");
        assert_eq!(headers["prefer"], "wait=10");
        let mut stub = state.stub.lock().unwrap();
        let key = (member(&headers), headers["idempotency-key"].to_str().unwrap().to_owned());
        let order_id = Uuid::from_u128(0xE000 + stub.orders.len() as u128);
        if !stub.orders.contains_key(&key) {
            let paid = stub.sold < stub.stock + state.faults.oversell;
            stub.sold += i64::from(paid);
            let failure = if paid { Value::Null } else { json!({"code": "out-of-stock"}) };
            let order = json!({"id": order_id, "state": if paid { "PAID" } else { "FAILED" }, "failure": failure});
            stub.orders.insert(key.clone(), order);
        }
        (StatusCode::CREATED, Json(stub.orders[&key].clone())).into_response()
    })
}

async fn read_order(State(state): SharedStub, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    let stub = state.stub.lock().unwrap();
    let member = member(&headers);
    let found = stub.orders.iter().find(|((owner, _), order)| *owner == member && order["id"] == json!(id));
    found.map_or_else(|| problem(404, "not-found"), |(_, order)| Json(order.clone()).into_response())
}

/// A directory for one test, with a file of `members` shoppers.
pub fn directory(name: &str, members: usize) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("rush-{name}"));
    std::fs::create_dir_all(&path).unwrap();
    let lines: Vec<String> = (1..=members)
        .map(|index| {
            let id = Uuid::from_u128(0x1_0000 + index as u128);
            json!({"member_id": id, "email": format!("shopper{index}@example.com"), "access_token": id}).to_string()
        })
        .collect();
    std::fs::write(path.join("tokens.jsonl"), lines.join("\n")).unwrap();
    path
}

pub fn options(server: &RunningStub, scenario: Scenario, directory: &std::path::Path) -> RushOptions {
    let mut options = RushOptions::new(scenario, format!("http://{}", server.address));
    options.tokens = Some(directory.join("tokens.jsonl"));
    options.operator = Some(OperatorLogin::Token("operator".to_owned()));
    options.concurrency = 16;
    options.progress = false;
    options.patience = Duration::from_secs(10);
    options.out = Some(directory.to_owned());
    options
}

pub fn run(options: &RushOptions) -> RushReport {
    let mut table = Vec::new();
    let report = rush::run(options, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert_eq!(table.contains("verdict: clean"), report.verdict.is_clean(), "{table}");
    report
}

/// Ids of the violated checks.
pub fn violated(report: &RushReport) -> Vec<&str> {
    report.checks.iter().filter(|check| check.violation().is_some()).map(|check| check.id.as_str()).collect()
}
