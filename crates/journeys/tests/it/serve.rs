//! `onrush serve` as operators and strangers meet it: metrics, health, proxies, and the log.

use journeys::{
    backends::Backends,
    client::{BlockingClient, BlockingRequest},
    process::{DataDir, StartOptions, TestProcess},
};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn status(address: SocketAddr, path: &str) -> u16 {
    BlockingClient::of(address).send(&BlockingRequest::get(path)).expect("the server answers").status
}

fn start(data_dir: &DataDir, more: &[&str]) -> TestProcess {
    data_dir.start(&StartOptions { more: more.iter().map(|argument| (*argument).to_owned()).collect(), ..StartOptions::default() })
}

// L3, M1
#[test]
fn metrics_are_not_on_the_address_of_the_api() {
    let data_dir = DataDir::new();
    let ops = free_address();
    let server = start(&data_dir, &["--ops-listen", &ops.to_string()]);
    assert_eq!((status(server.address, "/metrics"), status(ops, "/metrics")), (404, 200));
    for path in ["/health/live", "/health/ready"] {
        assert_eq!((status(server.address, path), status(ops, path)), (200, 200), "{path}");
    }
    assert_eq!(status(ops, "/v1/products"), 404);
}

// L3
#[test]
fn a_taken_default_port_of_metrics_does_not_stop_the_server() {
    let data_dir = DataDir::new();
    // Both ports are free a moment before.
    let (listen, taken) = std::iter::repeat_with(free_address)
        .find_map(|listen| Some((listen, TcpListener::bind((listen.ip(), listen.port().checked_add(1_000)?)).ok()?)))
        .expect("there are free ports");
    let server = data_dir.start(&StartOptions { listen: Some(listen), ..StartOptions::default() });
    assert_eq!((status(server.address, "/health/ready"), status(server.address, "/metrics")), (200, 404));
    assert!(data_dir.log().contains("metrics are not served"), "{}", data_dir.log());
    drop(server);
    drop(taken);
    let server = data_dir.start(&StartOptions { listen: Some(listen), ..StartOptions::default() });
    assert_eq!(status(SocketAddr::from((listen.ip(), listen.port() + 1_000)), "/metrics"), 200);
    drop(server);
}

fn sign_in(server: &TestProcess, client: &str, password: &str) -> u16 {
    let (email, _) = journeys::process::OPERATOR;
    let request = BlockingRequest::post("/v1/sessions", &json!({"email": email, "password": password}));
    server.client().send(&request.header("x-forwarded-for", client.to_owned())).expect("the server answers").status
}

// H2, R1
#[test]
fn a_guesser_behind_a_proxy_locks_out_itself_only() {
    let data_dir = DataDir::new();
    let server = start(&data_dir, &["--trusted-proxies", "127.0.0.1", "--limits", "default"]);
    let (_, password) = journeys::process::OPERATOR;
    let guesses: Vec<u16> = (0..6).map(|_| sign_in(&server, "203.0.113.9", "wrong horse battery")).collect();
    assert_eq!((guesses[0], guesses[5]), (401, 429), "{guesses:?}");
    assert_eq!(sign_in(&server, "203.0.113.9", password), 429);
    assert_eq!(sign_in(&server, "198.51.100.1, 203.0.113.9", password), 429, "a claim of the client does not help");
    assert_eq!(sign_in(&server, "203.0.113.10", password), 200);
}

/// Signs up with words that must not reach the log, signs in, and searches for one of them.
fn leave_traces(server: &TestProcess) {
    let account =
        json!({"email": "canary.mail@example.com", "password": "canary horse battery", "name": "Canary Name", "phone": "010-2345-6789"});
    let mut client = server.client();
    let mut send = |request: &BlockingRequest| client.send(request).expect("the server answers");
    let _ = send(&BlockingRequest::post("/v1/accounts", &account).key("canary-key")).expect(201);
    let signed_in = BlockingRequest::post("/v1/sessions", &json!({"email": account["email"], "password": account["password"]}));
    let token = send(&signed_in).expect(200).body["access_token"].as_str().expect("a token").to_owned();
    let _ = send(&BlockingRequest::get("/v1/me").bearer(&token)).expect(200);
    let _ = send(&BlockingRequest::get("/v1/products?q=canarysearch")).expect(200);
    let charge = BlockingRequest::post("/v1/wallet/charges", &json!({"amount": 5_000}));
    let _ = send(&charge.bearer(&token).key("canary-charge")).expect(201);
}

fn assert_no_traces(data_dir: &DataDir) {
    let server = data_dir.start(&StartOptions { log: Some("trace,tokio_postgres::query=trace"), ..StartOptions::default() });
    leave_traces(&server);
    drop(server);
    let log = data_dir.log();
    assert!(log.contains("request answered"), "debug lines are there");
    for word in ["canary", "Canary", "010-2345", "0102345", "$argon2", "parameters:"] {
        assert!(!log.contains(word), "{word}: {}", log.lines().find(|line| line.contains(word)).unwrap_or_default());
    }
}

// M7
#[test]
fn the_log_shows_no_personal_data_on_sqlite() {
    assert_no_traces(&DataDir::new());
}

// M7
#[test]
fn the_log_shows_no_personal_data_on_postgres() {
    assert_no_traces(&DataDir::on_backends(Backends::one_database()));
}
