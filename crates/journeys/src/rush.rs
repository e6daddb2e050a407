//! Shoppers that claim and order without a pause, what they were told, and whether it still holds afterwards.

use crate::{
    client::{Client, Request, Response, problem},
    patient::{Doors, Patient},
    process::{Member, OPERATOR},
};
use kit::ports::{Stopwatch, new_id};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// `ONRUSH_LONG=1`: the faults go on for minutes.
pub fn is_long() -> bool {
    std::env::var_os("ONRUSH_LONG").is_some()
}

/// How much load there is, and of which kind.
#[derive(Clone, Debug)]
pub struct Load {
    pub coupons: usize,
    pub connections: usize,
    /// Between two orders of a connection; longer in a long rush, which is read back whole.
    pub pause: Duration,
    /// How long an order may take to rest before it is answered as it is, in seconds.
    pub wait: u32,
    /// How long a client waits for an answer before it asks elsewhere.
    pub answer_time: Duration,
    /// Claims are taken down, and asked for until they are settled.
    pub claims_later: bool,
}

impl Default for Load {
    fn default() -> Load {
        let pause = Duration::from_millis(if is_long() { 200 } else { 20 });
        Load { coupons: 15, connections: 6, pause, wait: 10, answer_time: Duration::from_secs(15), claims_later: false }
    }
}

/// What shoppers want, and what they were told.
pub struct Rush {
    pub doors: Doors,
    load: Load,
    members: Vec<Member>,
    goods: Goods,
    /// An access token.
    operator: String,
    over: AtomicBool,
    orders: AtomicUsize,
    told: Mutex<Vec<Told>>,
}

/// What is to be had in the mall.
struct Goods {
    sku: String,
    /// First come: fewer than there are shoppers.
    rush: String,
    /// As many as anybody wants.
    endless: String,
}

struct Told {
    member: Member,
    /// None: an order.
    claimed: Option<Claimed>,
    request: Request,
    answer: Response,
}

impl Told {
    /// Status and body; of a claim that was taken down those of its outcome.
    fn came_to(&self) -> (u64, &Value) {
        let body = &self.answer.body;
        match body.get("answer") {
            Some(answer) => (body["status"].as_u64().unwrap_or(0), answer),
            None => (self.answer.status.into(), body),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claimed {
    Rush,
    Endless,
}

/// One order in so many is paid at the provider, and not from the wallet.
const AT_PROVIDER: usize = 4;
/// One order in so many is made with a coupon of which there is no end.
const WITH_COUPON: usize = 5;
/// After so many orders the mall grows.
const GROWTH: usize = 12;

/// Ends the rush when it goes, also when a test fails meanwhile: nobody should shop for ever.
struct Closing<'r>(&'r AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Rush {
    /// A mall that runs is furnished for it.
    pub fn furnish(doors: Doors, members: Vec<Member>, load: Load) -> Rush {
        let mut client = doors.client();
        let (email, password) = OPERATOR;
        let signed_in = client.ask(&Request::post("/v1/sessions", &json!({"email": email, "password": password}))).expect(200);
        let operator = text(&signed_in.body["access_token"]);
        let mut make = |path: &str, body: Value| client.ask(&Request::post(path, &body).bearer(&operator).once()).expect(201).body;
        let product = make("/v1/products", json!({"name": "Umbrella", "price": 3_000, "stock": 1_000_000}));
        let mut coupon = |kind: Value| {
            let mut body = json!({"name": "Rush", "scope": "order", "discount": {"type": "amount", "won": 500},
                "issue_from": "2020-01-01T00:00:00Z", "issue_until": "2100-01-01T00:00:00Z", "valid_until": "2100-01-01T00:00:00Z"});
            for (name, value) in kind.as_object().into_iter().flatten() {
                body[name] = value.clone();
            }
            text(&make("/v1/coupons", body)["id"])
        };
        let goods = Goods {
            sku: text(&product["options"][0]["sku"]),
            rush: coupon(json!({"kind": "first_come", "quantity": load.coupons})),
            endless: coupon(json!({"kind": "unlimited", "per_member": 100})),
        };
        // In other shapes stock hears of it a moment later.
        while client.ask(&Request::get(format!("/v1/stock/{}", goods.sku)).bearer(&operator)).status != 200 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Rush { doors, load, members, goods, operator, over: AtomicBool::new(false), orders: AtomicUsize::new(0), told: Mutex::default() }
    }

    /// Everybody shops while `trouble` goes on, and stops when it is over.
    pub fn during<T>(&self, trouble: impl FnOnce() -> T) -> T {
        self.over.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            let _closing = Closing(&self.over);
            for share in self.members.chunks(self.members.len().div_ceil(self.load.connections)) {
                scope.spawn(move || self.shop(share));
            }
            trouble()
        })
    }

    /// Waits for so many answers more, under way from now on.
    ///
    /// # Panics
    /// When there are none within half a minute.
    pub fn goes_on(&self, answers: u64) {
        let (time, before) = (Stopwatch::start(), self.doors.answers());
        while self.doors.answers() < before + answers {
            assert!(time.elapsed() < crate::client::PATIENCE, "nothing goes on: {} answers", self.doors.answers() - before);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One connection's shoppers: each claims and orders with what it got, then all order on until the rush is over.
    fn shop(&self, members: &[Member]) {
        let mut client = self.doors.client().within(self.load.answer_time);
        for member in members {
            let claimed = self.claim(&mut client, member, Claimed::Rush);
            self.order(&mut client, member, &claimed);
        }
        for member in members.iter().cycle() {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let with_coupon = self.orders.load(Ordering::SeqCst).is_multiple_of(WITH_COUPON);
            let claimed = if with_coupon { self.claim(&mut client, member, Claimed::Endless) } else { Vec::new() };
            self.order(&mut client, member, &claimed);
            if self.orders.load(Ordering::SeqCst).is_multiple_of(GROWTH) {
                self.grow(&mut client);
            }
            std::thread::sleep(self.load.pause);
        }
    }

    /// A store, something to sell, someone who signs up: every service has something to tell.
    fn grow(&self, client: &mut Patient) {
        let mut make = |path: &str, body: Value| client.ask(&Request::post(path, &body).bearer(&self.operator).once()).expect(201);
        make("/v1/stores", json!({"name": "Corner Shop"}));
        make("/v1/products", json!({"name": "Scarf", "price": 2_000, "stock": 10}));
        let (email, password) = (format!("{}@test.onrush.example", new_id().simple()), new_id().to_string());
        // The key lets gateways ask again.
        let signed_up =
            client.ask(&Request::post("/v1/accounts", &json!({"email": email, "password": password, "name": "Shopper"})).once());
        // Asked again, it may be there already.
        assert!([201, 409].contains(&signed_up.status), "{signed_up:?}");
    }

    /// The coupon that was issued, if one was.
    fn claim(&self, client: &mut Patient, member: &Member, which: Claimed) -> Vec<Value> {
        let request = Request::post(format!("/v1/coupons/{}/claims", self.goods.of(which)), &json!({})).bearer(&member.token).once();
        let request = if self.load.claims_later { request.later() } else { request };
        let answer = self.ask(client, member, Some(which), request);
        let answer = match answer.headers.get("location") {
            Some(outcome) if answer.status == 202 => self.outcome(client, member, which, outcome),
            _ => answer.body,
        };
        answer.get("issued_coupon_id").cloned().into_iter().collect()
    }

    /// What a claim came to that was taken down.
    fn outcome(&self, client: &mut Patient, member: &Member, which: Claimed, path: &str) -> Value {
        let request = Request::get(path).bearer(&member.token);
        let time = Stopwatch::start();
        loop {
            let answer = client.ask(&request).expect(200);
            if answer.body["state"] != "pending" {
                let told = Told { member: member.clone(), claimed: Some(which), request, answer: answer.clone() };
                self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
                return answer.body["answer"].clone();
            }
            assert!(time.elapsed() < 2 * crate::client::PATIENCE, "the claim is not settled: {path}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Orders, and looks at what was ordered.
    fn order(&self, client: &mut Patient, member: &Member, coupons: &[Value]) {
        let number = self.orders.fetch_add(1, Ordering::SeqCst);
        let at_provider = number.is_multiple_of(AT_PROVIDER);
        let payment = if at_provider { json!({"method": "test", "token": "approve"}) } else { json!({"method": "wallet"}) };
        let items = [json!({"sku": self.goods.sku, "quantity": 1})];
        let body = json!({"items": items, "coupons": coupons, "points": 10, "payment": payment});
        let request = Request::post("/v1/orders", &body).bearer(&member.token).once().wait_for(self.load.wait);
        let answer = self.ask(client, member, None, request);
        if let Some(id) = answer.body["id"].as_str() {
            let _ = client.ask(&Request::get(format!("/v1/orders/{id}")).bearer(&member.token)).expect(200);
        }
    }

    /// An order for which the provider does what this token says: `slow` takes 300 ms.
    pub fn order_at_provider(&self, member: &Member, token: &str) -> Request {
        let body = json!({"items": [{"sku": self.goods.sku, "quantity": 1}], "payment": {"method": "test", "token": token}});
        Request::post("/v1/orders", &body).bearer(&member.token).once().wait()
    }

    fn ask(&self, client: &mut Patient, member: &Member, claimed: Option<Claimed>, request: Request) -> Response {
        let answer = client.ask(&request);
        let told = Told { member: member.clone(), claimed, request, answer: answer.clone() };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        answer
    }

    /// What was told, held against what is there now: the same answers to the same requests, orders paid, coupons numbered without hole.
    pub fn verify(&self) {
        self.answers_still_hold();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let rushed = || told.iter().filter(|told| told.claimed == Some(Claimed::Rush));
        let numbers: Vec<i64> = rushed().filter_map(|told| told.came_to().1["number"].as_i64()).collect();
        let distinct: BTreeSet<i64> = numbers.iter().copied().collect();
        assert_eq!(numbers.len(), distinct.len(), "a number was given twice");
        let all = 1..=i64::try_from(self.load.coupons).unwrap_or(i64::MAX);
        assert_eq!(distinct, all.collect(), "as many coupons as there are, numbered without hole");
        let refused = rushed().filter(|told| problem(told.came_to().1) == "sold-out").count();
        assert_eq!(refused, self.members.len() - self.load.coupons, "the others were refused");
    }

    /// Every request gets its answer again, byte for byte, and what it was told is there.
    pub fn answers_still_hold(&self) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!told.is_empty(), "nobody was told anything");
        std::thread::scope(|scope| {
            for share in told.chunks(told.len().div_ceil(self.load.connections)) {
                scope.spawn(move || {
                    let mut client = self.doors.client();
                    share.iter().for_each(|told| self.check(&mut client, told));
                });
            }
        });
    }

    fn check(&self, client: &mut Patient, told: &Told) {
        let (Told { member, claimed, request, answer }, (status, body)) = (told, told.came_to());
        let again = client.ask(request);
        let text = |answer: &Response| String::from_utf8_lossy(&answer.bytes).into_owned();
        assert_eq!((again.status, text(&again)), (answer.status, text(answer)), "the answer to {request:?} has changed");
        if let Some(which) = claimed
            && status == 201
        {
            let path = format!("/v1/coupons/{}/claims/mine", self.goods.of(*which));
            let mine = client.ask(&Request::get(path).bearer(&member.token)).expect(200);
            // Of several it shows the last one.
            let is_it = mine.bytes_contain(body["issued_coupon_id"].as_str().unwrap_or("no id"));
            assert!(is_it || *which == Claimed::Endless, "{mine:?}");
        } else if status == 202 && claimed.is_some() {
            // Taken down: what it came to was told, too.
        } else if status == 201 {
            let id = answer.body["id"].as_str().unwrap_or("no id");
            let order = client.ask(&Request::get(format!("/v1/orders/{id}")).bearer(&member.token)).expect(200);
            let (told, is) = (&answer.body["state"], &order.body["state"]);
            // Whoever was answered before his order rested was promised that it comes to an end.
            let kept = is == "PAID" || (is == "FAILED" && told == "PENDING");
            assert!(kept, "told {told}: {}", text(&order));
        } else {
            let expected = if *claimed == Some(Claimed::Rush) { "sold-out" } else { "step-timed-out" };
            assert!(
                claimed.is_none_or(|which| which == Claimed::Rush) && problem(body) == expected,
                "nobody was to be refused so: {}",
                text(answer)
            );
        }
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

impl Goods {
    fn of(&self, which: Claimed) -> &str {
        match which {
            Claimed::Rush => &self.rush,
            Claimed::Endless => &self.endless,
        }
    }
}

/// Asks one address once.
pub fn ask_once(address: std::net::SocketAddr, request: &Request) -> std::io::Result<Response> {
    Client::of(address).send(request)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}
