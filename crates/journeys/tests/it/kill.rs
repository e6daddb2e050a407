//! kill -9 under load, at moments nobody chose, again and again: every claim and every order that was acknowledged is there afterwards,
//! coupons are numbered without hole, and the audit is clean. And SIGTERM under load: what is under way finishes.
//! (F2, F31, I7.) `ONRUSH_LONG=1` kills for ten minutes.

use crate::process::{Client, Member, PATIENCE, Place, Request, Response, Server, Start};
use kit::ports::{Stopwatch, random_bytes};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

const SHOPPERS: u32 = 200;
const COUPONS: i64 = 150;
const CONNECTIONS: usize = 8;
const PAUSE: Duration = Duration::from_millis(5);

/// What shoppers want, and what they were told.
struct Rush {
    coupon: String,
    sku: String,
    /// Where the server is, since it was started last.
    address: RwLock<SocketAddr>,
    over: AtomicBool,
    /// Between two orders of a connection; longer in a long rush, which is read back whole.
    pause: Duration,
    /// Requests that were made again because the process died under them.
    broken: AtomicU64,
    /// Answers that began and broke off.
    torn: AtomicU64,
    told: Mutex<Vec<Told>>,
}

struct Told {
    member: Member,
    request: Request,
    answer: Response,
}

impl Rush {
    fn furnish(server: &Server) -> Rush {
        let operator = server.operator();
        let make = |path: &str, body: Value| {
            server.client().send(&Request::post(path, &body).bearer(&operator).once()).expect("it answers").expect(201).body
        };
        let product = make("/v1/products", json!({"name": "Umbrella", "price": 3_000, "stock": 1_000_000}));
        let coupon = make(
            "/v1/coupons",
            json!({"name": "Rush", "kind": "first_come", "quantity": COUPONS, "scope": "order", "discount": {"type": "amount", "won": 500},
                   "issue_from": "2020-01-01T00:00:00Z", "issue_until": "2100-01-01T00:00:00Z", "valid_until": "2100-01-01T00:00:00Z"}),
        );
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Rush {
            coupon: text(&coupon["id"]),
            sku: text(&product["options"][0]["sku"]),
            address: RwLock::new(server.address),
            over: AtomicBool::new(false),
            pause: if is_long() { 20 * PAUSE } else { PAUSE },
            broken: AtomicU64::new(0),
            torn: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    /// One connection's shoppers: each claims and orders with what it got, then all order on until the rush is over.
    fn shop(&self, members: &[Member]) {
        let mut client = self.client();
        for member in members {
            let claimed = self.ask(&mut client, member, self.claim(member));
            let coupons: Vec<&Value> = claimed.body.get("issued_coupon_id").into_iter().collect();
            self.ask(&mut client, member, self.order(member, &coupons));
        }
        for member in members.iter().cycle() {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            self.ask(&mut client, member, self.order(member, &[]));
            std::thread::sleep(self.pause);
        }
    }

    fn client(&self) -> Client {
        Client::of(*self.address.read().expect("nobody panics with it"))
    }

    fn claim(&self, member: &Member) -> Request {
        Request::post(format!("/v1/coupons/{}/claims", self.coupon), &json!({})).bearer(&member.token).once()
    }

    fn order(&self, member: &Member, coupons: &[&Value]) -> Request {
        let items = [json!({"sku": self.sku, "quantity": 1})];
        let body = json!({"items": items, "coupons": coupons, "points": 10, "payment": {"method": "wallet"}});
        Request::post("/v1/orders", &body).bearer(&member.token).once().wait()
    }

    /// Asks until there is an answer, wherever the server is by then, and notes it.
    fn ask(&self, client: &mut Client, member: &Member, request: Request) -> Response {
        let time = Stopwatch::start();
        loop {
            match client.send(&request) {
                Ok(answer) if answer.status != 503 && answer.problem() != "idempotency-in-progress" => {
                    assert!(answer.status < 500, "{}", String::from_utf8_lossy(&answer.bytes));
                    let told = Told { member: member.clone(), request, answer: answer.clone() };
                    self.told.lock().expect("nobody panics with it").push(told);
                    return answer;
                }
                Ok(_) => {}
                Err(error) => {
                    self.broken.fetch_add(1, Ordering::SeqCst);
                    self.torn.fetch_add(u64::from(error.kind() == std::io::ErrorKind::InvalidData), Ordering::SeqCst);
                    *client = self.client();
                }
            }
            assert!(time.elapsed() < 2 * PATIENCE, "no answer to {request:?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// What was told, held against what is there now.
    fn verify(&self, server: &Server) {
        let mut client = server.client();
        let mut numbers = BTreeSet::new();
        let told = self.told.lock().expect("nobody panics with it");
        for Told { member, request, answer } in told.iter() {
            let again = client.send(request).expect("it answers");
            assert_eq!((again.status, &again.body), (answer.status, &answer.body), "the answer to {request:?} has changed");
            if let Some(number) = answer.body["number"].as_i64() {
                assert!(numbers.insert(number), "number {number} was given twice");
                let path = format!("/v1/coupons/{}/claims/mine", self.coupon);
                let mine = client.send(&Request::get(path).bearer(&member.token)).expect("it answers").expect(200);
                assert!(mine.bytes_contain(answer.body["issued_coupon_id"].as_str().expect("an id")), "{mine:?}");
            } else if answer.status == 201 {
                let path = format!("/v1/orders/{}", answer.body["id"].as_str().expect("an id"));
                let order = client.send(&Request::get(path).bearer(&member.token)).expect("it answers").expect(200);
                assert_eq!(order.body["state"], "PAID", "{order:?}");
            }
        }
        assert_eq!(numbers, (1..=COUPONS).collect(), "as many coupons as there are, numbered without hole");
        let refused = told.iter().filter(|told| told.answer.problem() == "sold-out").count();
        assert_eq!(refused, usize::try_from(i64::from(SHOPPERS) - COUPONS).expect("a small number"));
    }
}

fn is_long() -> bool {
    std::env::var_os("ONRUSH_LONG").is_some()
}

/// kill -9 after random times, `kills` times at least and for at least `time`; each time the server is started again.
fn kill_again_and_again(place: &Place, rush: &Rush, mut server: Server, kills: u32, time: Duration) -> Server {
    let lasting = Stopwatch::start();
    let mut killed = 0;
    while killed < kills || lasting.elapsed() < time {
        let [a, b] = random_bytes::<2>();
        std::thread::sleep(Duration::from_millis(50 + u64::from(u16::from_le_bytes([a, b])) % 400));
        server.kill();
        server = place.start(&Start { hop_by_hop: killed % 2 == 0, choreographed: killed % 4 < 2, ..Start::default() });
        *rush.address.write().expect("nobody panics with it") = server.address;
        killed += 1;
    }
    rush.over.store(true, Ordering::SeqCst);
    server
}

// F2
#[test]
fn what_was_acknowledged_outlives_kill_9_under_load() {
    let place = Place::new();
    let members = place.seed(SHOPPERS);
    let server = place.start(&Start::default());
    let rush = Rush::furnish(&server);
    let (kills, time) = if is_long() { (100, Duration::from_secs(600)) } else { (5, Duration::ZERO) };
    let server = std::thread::scope(|scope| {
        for share in members.chunks(members.len().div_ceil(CONNECTIONS)) {
            let rush = &rush;
            scope.spawn(move || rush.shop(share));
        }
        kill_again_and_again(&place, &rush, server, kills, time)
    });
    assert!(rush.broken.load(Ordering::SeqCst) > 0, "the kills hit nothing: there was no load");
    rush.verify(&server);
    place.assert_clean("killed under load");
}

// F31, I7
#[test]
fn sigterm_under_load_loses_nothing_and_ends_with_success() {
    let place = Place::new();
    let members = place.seed(SHOPPERS);
    let mut server = place.start(&Start::default());
    let rush = Rush::furnish(&server);
    let (address, under_way) = (server.address, 10);
    let slow = |member: &Member| {
        let body = json!({"items": [{"sku": rush.sku, "quantity": 1}], "payment": {"method": "test", "token": "slow"}});
        Request::post("/v1/orders", &body).bearer(&member.token).once().wait()
    };
    std::thread::scope(|scope| {
        for share in members[under_way..].chunks(SHOPPERS.div_ceil(4) as usize) {
            let rush = &rush;
            scope.spawn(move || rush.shop(share));
        }
        std::thread::sleep(Duration::from_millis(150));
        // These take 300 ms each: they are under way when the signal comes.
        let slow: Vec<_> = members[..under_way].iter().map(|member| scope.spawn(move || Client::of(address).send(&slow(member)))).collect();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ready(address), Some(200));
        server.terminate();
        std::thread::sleep(Duration::from_millis(40));
        assert_ne!(ready(address), Some(200), "readiness goes first");
        assert!(!server.is_dead(), "it waits for what is under way");
        for answer in slow {
            let answer = answer.join().expect("no panic").expect("it was under way and is answered").expect(201);
            assert_eq!(answer.body["state"], "PAID");
        }
        let status = server.ended(Duration::from_secs(20)).expect("it ends in time");
        assert_eq!(status.code(), Some(0), "{}", place.log());
        place.assert_clean("stopped under load");
        server = place.start(&Start::default());
        *rush.address.write().expect("nobody panics with it") = server.address;
        rush.over.store(true, Ordering::SeqCst);
    });
    assert!(rush.broken.load(Ordering::SeqCst) > 0, "it was stopped without load");
    assert_eq!(rush.torn.load(Ordering::SeqCst), 0, "an answer was cut off");
    rush.answers_still_hold(&server);
    place.assert_clean("started again");
}

/// What readiness says; none when nobody answers.
fn ready(address: SocketAddr) -> Option<u16> {
    Client::of(address).send(&Request::get("/health/ready")).ok().map(|answer| answer.status)
}

impl Rush {
    fn answers_still_hold(&self, server: &Server) {
        let mut client = server.client();
        for Told { request, answer, .. } in self.told.lock().expect("nobody panics with it").iter() {
            let again = client.send(request).expect("it answers");
            assert_eq!((again.status, &again.body), (answer.status, &answer.body), "the answer to {request:?} has changed");
        }
    }
}
