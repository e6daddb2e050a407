//! Load from shoppers that claim and order continuously. Records all answers and verifies them afterwards.

use crate::{
    client::{BlockingClient, BlockingRequest, BlockingResponse, problem},
    process::{OPERATOR, SeededMember},
    retrying_client::{Addresses, RetryingClient},
};
use kit::ports::{Stopwatch, new_id};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

/// `ONRUSH_LONG=1`: fault tests run for minutes.
pub fn is_long() -> bool {
    std::env::var_os("ONRUSH_LONG").is_some()
}

/// Kind and amount of load.
#[derive(Clone, Debug)]
pub struct LoadTestOptions {
    pub coupons: usize,
    pub connections: usize,
    /// Pause between two orders of a connection. Longer in long tests, because every answer is verified at the end.
    pub pause: Duration,
    /// Longest wait for an order to rest, in seconds. The server then answers with the state so far.
    pub wait: u32,
    /// Time limit for an answer before the client tries another process.
    pub answer_timeout: Duration,
    /// True: claims are deferred (202), and the client polls for the outcome.
    pub is_claim_deferred: bool,
}

impl Default for LoadTestOptions {
    fn default() -> LoadTestOptions {
        let pause = Duration::from_millis(if is_long() { 200 } else { 20 });
        LoadTestOptions { coupons: 15, connections: 6, pause, wait: 10, answer_timeout: Duration::from_secs(15), is_claim_deferred: false }
    }
}

/// The load, its goods, and the recorded answers.
pub struct LoadTest {
    pub addresses: Addresses,
    options: LoadTestOptions,
    members: Vec<SeededMember>,
    goods: LoadGoods,
    /// The operator's access token.
    operator: String,
    over: AtomicBool,
    orders: AtomicUsize,
    recorded: Mutex<Vec<RecordedAnswer>>,
}

/// Products and coupons of the load.
struct LoadGoods {
    sku: String,
    /// Fewer first-come coupons than shoppers.
    first_come: String,
    /// Unlimited coupons.
    unlimited: String,
}

struct RecordedAnswer {
    member: SeededMember,
    /// `None`: an order.
    claimed: Option<ClaimedCoupon>,
    request: BlockingRequest,
    answer: BlockingResponse,
}

impl RecordedAnswer {
    /// Status and body. For a deferred claim those of its outcome.
    fn outcome(&self) -> (u64, &Value) {
        let body = &self.answer.body;
        match body.get("answer") {
            Some(answer) => (body["status"].as_u64().unwrap_or(0), answer),
            None => (self.answer.status.into(), body),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimedCoupon {
    FirstCome,
    Unlimited,
}

/// Every nth order is paid at the provider, the others from the wallet.
const PROVIDER_EVERY: usize = 4;
/// Every nth order uses an unlimited coupon.
const COUPON_EVERY: usize = 5;
/// After every nth order the load creates a store, a product and an account.
const GROW_EVERY: usize = 12;

/// Ends the load on drop, also when the test panics, because the shoppers would never stop.
struct StopOnDrop<'r>(&'r AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl LoadTest {
    /// Creates product and coupons in a running mall.
    pub fn prepare(addresses: Addresses, members: Vec<SeededMember>, options: LoadTestOptions) -> LoadTest {
        let mut client = addresses.client();
        let (email, password) = OPERATOR;
        let signed_in = client.send(&BlockingRequest::post("/v1/sessions", &json!({"email": email, "password": password}))).expect(200);
        let operator = text(&signed_in.body["access_token"]);
        let mut make =
            |path: &str, body: Value| client.send(&BlockingRequest::post(path, &body).bearer(&operator).with_new_key()).expect(201).body;
        let product = make("/v1/products", json!({"name": "Umbrella", "price": 3_000, "stock": 1_000_000}));
        let mut coupon = |kind: Value| {
            let mut body = json!({"name": "Rush", "scope": "order", "discount": {"type": "amount", "won": 500},
                "issue_from": "2020-01-01T00:00:00Z", "issue_until": "2100-01-01T00:00:00Z", "valid_until": "2100-01-01T00:00:00Z"});
            for (name, value) in kind.as_object().into_iter().flatten() {
                body[name] = value.clone();
            }
            text(&make("/v1/coupons", body)["id"])
        };
        let goods = LoadGoods {
            sku: text(&product["options"][0]["sku"]),
            first_come: coupon(json!({"kind": "first_come", "quantity": options.coupons})),
            unlimited: coupon(json!({"kind": "unlimited", "per_member": 100})),
        };
        // Without folding, stock learns of the product a moment later.
        while client.send(&BlockingRequest::get(format!("/v1/stock/{}", goods.sku)).bearer(&operator)).status != 200 {
            std::thread::sleep(Duration::from_millis(10));
        }
        LoadTest {
            addresses,
            options,
            members,
            goods,
            operator,
            over: AtomicBool::new(false),
            orders: AtomicUsize::new(0),
            recorded: Mutex::default(),
        }
    }

    /// Runs the load while `fault` runs.
    pub fn run_during<T>(&self, fault: impl FnOnce() -> T) -> T {
        self.over.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            let _stop = StopOnDrop(&self.over);
            for share in self.members.chunks(self.members.len().div_ceil(self.options.connections)) {
                scope.spawn(move || self.shop(share));
            }
            fault()
        })
    }

    /// Waits for this many further answers.
    ///
    /// # Panics
    /// After half a minute without them.
    pub fn wait_for_answers(&self, answers: u64) {
        let (time, before) = (Stopwatch::start(), self.addresses.answers());
        while self.addresses.answers() < before + answers {
            assert!(time.elapsed() < crate::client::TIME_LIMIT, "the load has stalled: {} answers", self.addresses.answers() - before);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Shoppers of one connection. Each claims and orders once, then all order until the load ends.
    fn shop(&self, members: &[SeededMember]) {
        let mut client = self.addresses.client().within(self.options.answer_timeout);
        for member in members {
            let claimed = self.claim(&mut client, member, ClaimedCoupon::FirstCome);
            self.order(&mut client, member, &claimed);
        }
        for member in members.iter().cycle() {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let has_coupon = self.orders.load(Ordering::SeqCst).is_multiple_of(COUPON_EVERY);
            let claimed = if has_coupon { self.claim(&mut client, member, ClaimedCoupon::Unlimited) } else { Vec::new() };
            self.order(&mut client, member, &claimed);
            if self.orders.load(Ordering::SeqCst).is_multiple_of(GROW_EVERY) {
                self.grow(&mut client);
            }
            std::thread::sleep(self.options.pause);
        }
    }

    /// Creates a store, a product and an account, so that every service emits messages.
    fn grow(&self, client: &mut RetryingClient) {
        let mut make =
            |path: &str, body: Value| client.send(&BlockingRequest::post(path, &body).bearer(&self.operator).with_new_key()).expect(201);
        make("/v1/stores", json!({"name": "Corner Shop"}));
        make("/v1/products", json!({"name": "Scarf", "price": 2_000, "stock": 10}));
        let (email, password) = (format!("{}@test.onrush.example", new_id().simple()), new_id().to_string());
        // With an idempotency key, gateways may retry.
        let signed_up = client
            .send(&BlockingRequest::post("/v1/accounts", &json!({"email": email, "password": password, "name": "Shopper"})).with_new_key());
        // A retry may find the account already created.
        assert!([201, 409].contains(&signed_up.status), "{signed_up:?}");
    }

    /// The id of the issued coupon. Empty: none was issued.
    fn claim(&self, client: &mut RetryingClient, member: &SeededMember, which: ClaimedCoupon) -> Vec<Value> {
        let request = BlockingRequest::post(format!("/v1/coupons/{}/claims", self.goods.coupon(which)), &json!({}))
            .bearer(&member.token)
            .with_new_key();
        let request = if self.options.is_claim_deferred { request.respond_async() } else { request };
        let answer = self.send_and_record(client, member, Some(which), request);
        let answer = match answer.headers.get("location") {
            Some(outcome) if answer.status == 202 => self.poll_outcome(client, member, which, outcome),
            _ => answer.body,
        };
        answer.get("issued_coupon_id").cloned().into_iter().collect()
    }

    /// Polls for the outcome of a deferred claim.
    fn poll_outcome(&self, client: &mut RetryingClient, member: &SeededMember, which: ClaimedCoupon, path: &str) -> Value {
        let request = BlockingRequest::get(path).bearer(&member.token);
        let time = Stopwatch::start();
        loop {
            let answer = client.send(&request).expect(200);
            if answer.body["state"] != "pending" {
                let answered = RecordedAnswer { member: member.clone(), claimed: Some(which), request, answer: answer.clone() };
                self.recorded.lock().push(answered);
                return answer.body["answer"].clone();
            }
            assert!(time.elapsed() < 2 * crate::client::TIME_LIMIT, "the claim is not settled: {path}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Orders, then reads the order.
    fn order(&self, client: &mut RetryingClient, member: &SeededMember, coupons: &[Value]) {
        let number = self.orders.fetch_add(1, Ordering::SeqCst);
        let is_at_provider = number.is_multiple_of(PROVIDER_EVERY);
        let payment = if is_at_provider { json!({"method": "test", "token": "approve"}) } else { json!({"method": "wallet"}) };
        let items = [json!({"sku": self.goods.sku, "quantity": 1})];
        let body = json!({"items": items, "coupons": coupons, "points": 10, "payment": payment});
        let request = BlockingRequest::post("/v1/orders", &body).bearer(&member.token).with_new_key().wait_for(self.options.wait);
        let answer = self.send_and_record(client, member, None, request);
        if let Some(id) = answer.body["id"].as_str() {
            let _ = client.send(&BlockingRequest::get(format!("/v1/orders/{id}")).bearer(&member.token)).expect(200);
        }
    }

    /// An order whose provider behaves as `token` says. `slow` takes 300 ms.
    pub fn order_at_provider(&self, member: &SeededMember, token: &str) -> BlockingRequest {
        let body = json!({"items": [{"sku": self.goods.sku, "quantity": 1}], "payment": {"method": "test", "token": token}});
        BlockingRequest::post("/v1/orders", &body).bearer(&member.token).with_new_key().wait()
    }

    fn send_and_record(
        &self,
        client: &mut RetryingClient,
        member: &SeededMember,
        claimed: Option<ClaimedCoupon>,
        request: BlockingRequest,
    ) -> BlockingResponse {
        let answer = client.send(&request);
        let answered = RecordedAnswer { member: member.clone(), claimed, request, answer: answer.clone() };
        self.recorded.lock().push(answered);
        answer
    }

    /// Compares the recorded answers with the mall: same answers to repeats, orders paid, coupon numbers without gaps.
    pub fn verify(&self) {
        self.verify_answers_repeat();
        let recorded = self.recorded.lock();
        let first_come = || recorded.iter().filter(|answered| answered.claimed == Some(ClaimedCoupon::FirstCome));
        let numbers: Vec<i64> = first_come().filter_map(|answered| answered.outcome().1["number"].as_i64()).collect();
        let distinct: BTreeSet<i64> = numbers.iter().copied().collect();
        assert_eq!(numbers.len(), distinct.len(), "a coupon number repeats");
        let all = 1..=i64::try_from(self.options.coupons).unwrap_or(i64::MAX);
        assert_eq!(distinct, all.collect(), "every coupon was issued, without gaps");
        let refused = first_come().filter(|told| problem(told.outcome().1) == "sold-out").count();
        assert_eq!(refused, self.members.len() - self.options.coupons, "all others are sold out");
    }

    /// Repeats every request, expects the same bytes, and reads the resource that the answer promised.
    pub fn verify_answers_repeat(&self) {
        let recorded = self.recorded.lock();
        assert!(!recorded.is_empty(), "no answers recorded");
        std::thread::scope(|scope| {
            for share in recorded.chunks(recorded.len().div_ceil(self.options.connections)) {
                scope.spawn(move || {
                    let mut client = self.addresses.client();
                    share.iter().for_each(|answered| self.check(&mut client, answered));
                });
            }
        });
    }

    fn check(&self, client: &mut RetryingClient, answered: &RecordedAnswer) {
        let (RecordedAnswer { member, claimed, request, answer }, (status, body)) = (answered, answered.outcome());
        let again = client.send(request);
        let text = |answer: &BlockingResponse| String::from_utf8_lossy(&answer.bytes).into_owned();
        if problem(&answer.body) == "sold-out" {
            // Decided anew, because a refusal by the gate is not stored.
            assert_eq!((again.status, problem(&again.body)), (answer.status, "sold-out"), "the answer to {request:?} has changed");
        } else {
            assert_eq!((again.status, text(&again)), (answer.status, text(answer)), "the answer to {request:?} has changed");
        }
        if let Some(which) = claimed
            && status == 201
        {
            let path = format!("/v1/coupons/{}/claims/mine", self.goods.coupon(*which));
            let mine = client.send(&BlockingRequest::get(path).bearer(&member.token)).expect(200);
            // Of several coupons, the answer shows the last one.
            let is_shown = mine.bytes_contain(body["issued_coupon_id"].as_str().unwrap_or("no id"));
            assert!(is_shown || *which == ClaimedCoupon::Unlimited, "{mine:?}");
        } else if status == 202 && claimed.is_some() {
            // A deferred claim: its outcome is recorded separately.
        } else if status == 201 {
            let id = answer.body["id"].as_str().unwrap_or("no id");
            let order = client.send(&BlockingRequest::get(format!("/v1/orders/{id}")).bearer(&member.token)).expect(200);
            let (told, is) = (&answer.body["state"], &order.body["state"]);
            // An order answered while PENDING must have ended by now.
            let is_kept = is == "PAID" || (is == "FAILED" && told == "PENDING");
            assert!(is_kept, "told {told}: {}", text(&order));
        } else {
            let expected = if *claimed == Some(ClaimedCoupon::FirstCome) { "sold-out" } else { "step-timed-out" };
            assert!(
                claimed.is_none_or(|which| which == ClaimedCoupon::FirstCome) && problem(body) == expected,
                "unexpected refusal: {}",
                text(answer)
            );
        }
    }

    pub fn members(&self) -> &[SeededMember] {
        &self.members
    }
}

impl LoadGoods {
    fn coupon(&self, which: ClaimedCoupon) -> &str {
        match which {
            ClaimedCoupon::FirstCome => &self.first_come,
            ClaimedCoupon::Unlimited => &self.unlimited,
        }
    }
}

/// Sends a request to one address, without retries.
pub fn send_once(address: std::net::SocketAddr, request: &BlockingRequest) -> std::io::Result<BlockingResponse> {
    BlockingClient::of(address).send(request)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}
