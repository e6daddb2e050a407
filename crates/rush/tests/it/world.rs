//! A stand-in for the server: the few routes a rush uses, kept in memory, with faults that can be planted. A member's token is its id.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rush::{Operator, Report, RushOptions, Scenario};
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

/// What the stand-in does wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Issues this many coupons above the quantity.
    pub over_issue: u64,
    /// Gives the number 1 to everyone.
    pub same_number: bool,
    /// Says of every nth claim that there is none, although there is.
    pub undersell_every: u64,
    /// Does not find the claim of every nth number any more.
    pub forgets_every: i64,
    /// Sells this many units more than there are.
    pub oversell: i64,
    /// Leaves one unit held for ever.
    pub keeps_one_held: bool,
    /// Acts on every nth request, but the answer breaks off.
    pub drops_every: u64,
    /// Turns every nth request away with 503.
    pub sheds_every: u64,
    /// Fails every nth claim with 500.
    pub fails_every: u64,
    /// No fault: answers claims that prefer it before they are settled.
    pub takes_down: bool,
}

#[derive(Default)]
struct World {
    quantity: u64,
    waitlist: bool,
    issued: HashMap<String, (Uuid, i64)>,
    waiting: HashMap<String, i64>,
    /// Claims that were answered before they were settled: how often asked for, and what they came to.
    taken: HashMap<Uuid, (u32, u16, Value)>,
    stock: i64,
    sold: i64,
    orders: HashMap<(String, String), Value>,
}

pub struct StandIn {
    faults: Faults,
    world: Mutex<World>,
    requests: AtomicU64,
    claims: AtomicU64,
}

pub struct Server {
    pub address: SocketAddr,
}

type Shared = State<Arc<StandIn>>;

const PRODUCT: Uuid = Uuid::from_u128(0xA);
const SKU: Uuid = Uuid::from_u128(0xB);
const COUPON: Uuid = Uuid::from_u128(0xC);

/// Starts a stand-in on a free port; it lives as long as the test program.
pub fn start(faults: Faults) -> Server {
    let state = Arc::new(StandIn { faults, world: Mutex::default(), requests: AtomicU64::new(0), claims: AtomicU64::new(0) });
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, router(state)).await.unwrap();
        });
    });
    Server { address: receiver.recv().unwrap() }
}

fn router(state: Arc<StandIn>) -> Router {
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

impl StandIn {
    /// Sheds or breaks off, as told; `answer` has its effect all the same when broken off.
    fn trouble(&self, answer: impl FnOnce() -> Response) -> Response {
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

async fn create_coupon(State(state): Shared, Json(body): Json<Value>) -> Response {
    let mut world = state.world.lock().unwrap();
    world.quantity = body["quantity"].as_u64().unwrap_or(u64::MAX / 2);
    world.waitlist = body["waitlist"].as_bool().unwrap();
    (StatusCode::CREATED, Json(json!({"id": COUPON}))).into_response()
}

async fn read_coupon(State(state): Shared) -> Json<Value> {
    let world = state.world.lock().unwrap();
    Json(json!({"id": COUPON, "remaining": world.quantity as i64 - world.issued.len() as i64, "waiting": world.waiting.len()}))
}

fn claim_body(world: &World, member: &str) -> Option<Value> {
    let issued = world.issued.get(member).map(|(id, number)| json!({"state": "issued", "issued_coupon_id": id, "number": number}));
    issued.or_else(|| world.waiting.get(member).map(|ticket| json!({"state": "waiting", "ticket": ticket, "position": 1})))
}

async fn claim(State(state): Shared, headers: HeaderMap) -> Response {
    if state.faults.takes_down && headers.get("prefer").is_some_and(|prefer| prefer == "respond-async") {
        let settled = settle(&state, &headers);
        let (status, body) = (settled.status(), axum::body::to_bytes(settled.into_body(), usize::MAX).await.unwrap());
        let mut world = state.world.lock().unwrap();
        let id = Uuid::from_u128(0xD000 + world.taken.len() as u128);
        world.taken.insert(id, (0, status.as_u16(), serde_json::from_slice(&body).unwrap()));
        return (StatusCode::ACCEPTED, Json(json!({"state": "pending", "claim_id": id}))).into_response();
    }
    settle(&state, &headers)
}

/// What a claim came to: known when it is asked for the third time.
async fn outcome(State(state): Shared, Path((_, claim)): Path<(Uuid, Uuid)>) -> Response {
    let mut world = state.world.lock().unwrap();
    let Some((looks, status, answer)) = world.taken.get_mut(&claim) else { return problem(404, "not-found") };
    *looks += 1;
    if *looks < 3 {
        return Json(json!({"state": "pending", "claim_id": claim})).into_response();
    }
    let state = if *status == 201 { "issued" } else { "refused" };
    Json(json!({"state": state, "claim_id": claim, "status": status, "answer": answer})).into_response()
}

fn settle(state: &StandIn, headers: &HeaderMap) -> Response {
    state.trouble(|| {
        let count = state.claims.fetch_add(1, Ordering::SeqCst) + 1;
        if every(count, state.faults.fails_every) {
            return problem(500, "internal");
        }
        let mut world = state.world.lock().unwrap();
        let member = member(headers);
        if world.issued.contains_key(&member) {
            return problem(409, "already-issued");
        }
        let left = (world.issued.len() as u64) < world.quantity + state.faults.over_issue;
        if left && !every(count, state.faults.undersell_every) {
            let number = if state.faults.same_number { 1 } else { world.issued.len() as i64 + 1 };
            world.issued.insert(member.clone(), (Uuid::from_u128(0xF000 + u128::from(count)), number));
            return (StatusCode::CREATED, Json(claim_body(&world, &member).unwrap())).into_response();
        }
        if !world.waitlist {
            return problem(409, "sold-out");
        }
        let ticket = world.waiting.len() as i64 + 1;
        world.waiting.entry(member.clone()).or_insert(ticket);
        (StatusCode::ACCEPTED, Json(claim_body(&world, &member).unwrap())).into_response()
    })
}

async fn mine(State(state): Shared, headers: HeaderMap) -> Response {
    let world = state.world.lock().unwrap();
    let member = member(&headers);
    let number = world.issued.get(&member).map(|(_, number)| *number).or_else(|| world.waiting.get(&member).copied()).unwrap_or(0);
    match claim_body(&world, &member) {
        Some(body) if !every(number.unsigned_abs(), state.faults.forgets_every.unsigned_abs()) => Json(body).into_response(),
        _ => problem(404, "not-found"),
    }
}

async fn create_product(State(state): Shared, Json(body): Json<Value>) -> Response {
    state.world.lock().unwrap().stock = body["options"][0]["stock"].as_i64().unwrap();
    (StatusCode::CREATED, Json(json!({"id": PRODUCT}))).into_response()
}

async fn list() -> Json<Value> {
    Json(json!({"items": [{"id": PRODUCT}], "next_cursor": null}))
}

async fn product() -> Json<Value> {
    Json(json!({"id": PRODUCT, "options": [{"sku": SKU, "name": "one"}]}))
}

async fn stock(State(state): Shared) -> Json<Value> {
    let world = state.world.lock().unwrap();
    let on_hand = world.stock - world.sold;
    let reserved = i64::from(state.faults.keeps_one_held && world.sold > 0);
    Json(json!({"sku": SKU, "on_hand": on_hand, "reserved": reserved, "available": on_hand - reserved, "sold": world.sold}))
}

async fn order(State(state): Shared, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    state.trouble(|| {
        assert_eq!((&body["items"][0]["sku"], &body["payment"]["method"]), (&json!(SKU), &json!("wallet")));
        assert_eq!(headers["prefer"], "wait=10");
        let mut world = state.world.lock().unwrap();
        let key = (member(&headers), headers["idempotency-key"].to_str().unwrap().to_owned());
        let order_id = Uuid::from_u128(0xE000 + world.orders.len() as u128);
        if !world.orders.contains_key(&key) {
            let paid = world.sold < world.stock + state.faults.oversell;
            world.sold += i64::from(paid);
            let failure = if paid { Value::Null } else { json!({"code": "out-of-stock"}) };
            let order = json!({"id": order_id, "state": if paid { "PAID" } else { "FAILED" }, "failure": failure});
            world.orders.insert(key.clone(), order);
        }
        (StatusCode::CREATED, Json(world.orders[&key].clone())).into_response()
    })
}

async fn read_order(State(state): Shared, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    let world = state.world.lock().unwrap();
    let member = member(&headers);
    let found = world.orders.iter().find(|((owner, _), order)| *owner == member && order["id"] == json!(id));
    found.map_or_else(|| problem(404, "not-found"), |(_, order)| Json(order.clone()).into_response())
}

/// A directory of a test's own, with a file of so many shoppers in it.
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

pub fn options(server: &Server, scenario: Scenario, directory: &std::path::Path) -> RushOptions {
    let mut options = RushOptions::new(scenario, format!("http://{}", server.address));
    options.tokens = Some(directory.join("tokens.jsonl"));
    options.operator = Some(Operator::Token("operator".to_owned()));
    options.concurrency = 16;
    options.progress = false;
    options.patience = Duration::from_secs(10);
    options.out = Some(directory.to_owned());
    options
}

pub fn run(options: &RushOptions) -> Report {
    let mut table = Vec::new();
    let report = rush::run(options, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert_eq!(table.contains("verdict: clean"), report.verdict.is_clean(), "{table}");
    report
}

/// Ids of the violated checks.
pub fn violated(report: &Report) -> Vec<&str> {
    report.checks.iter().filter(|check| check.violation().is_some()).map(|check| check.id.as_str()).collect()
}
