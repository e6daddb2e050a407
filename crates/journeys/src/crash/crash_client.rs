//! A client that restarts its server after a crash and repeats the request with the same idempotency key.

use crate::{
    client::{BlockingClient, BlockingRequest, BlockingResponse, TIME_LIMIT},
    process::{DataDir, StartOptions, TestProcess},
};
use kit::ports::Stopwatch;
use serde_json::Value;
use std::time::Duration;

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

pub struct CrashClient<'a> {
    data_dir: &'a DataDir,
    start: StartOptions,
    server: TestProcess,
    client: BlockingClient,
    /// Crashes of the process so far.
    pub deaths: u32,
    /// From this number of crashes on, restarts have no crash point.
    max_deaths: u32,
    /// Requests with an idempotency key, and their answers.
    answered: Vec<(BlockingRequest, BlockingResponse)>,
    /// Order ids with the token of the buyer.
    orders: Vec<(String, String)>,
}

impl<'a> CrashClient<'a> {
    pub fn start(data_dir: &'a DataDir, start: StartOptions) -> CrashClient<'a> {
        let server = data_dir.start(&start);
        let client = server.client();
        CrashClient { data_dir, start, server, client, deaths: 0, max_deaths: 1, answered: Vec::new(), orders: Vec::new() }
    }

    /// From `max_deaths` crashes on, the process restarts without its crash point.
    pub fn allow_deaths(&mut self, max_deaths: u32) {
        self.max_deaths = max_deaths;
    }

    pub fn server(&self) -> &TestProcess {
        &self.server
    }

    /// Repeats the request until it is answered, and records the answer.
    pub fn send(&mut self, request: BlockingRequest) -> BlockingResponse {
        let answer = self.send_until_answered(&request);
        self.answered.push((request, answer.clone()));
        answer
    }

    /// Places an order and returns its id, also if the order was refused.
    pub fn place_order(&mut self, token: &str, body: &Value) -> String {
        let request = BlockingRequest::post("/v1/orders", body).bearer(token).with_new_key().wait();
        let answer = self.send(request);
        self.remember_order(token, &answer)
    }

    pub fn remember_order(&mut self, token: &str, answer: &BlockingResponse) -> String {
        let id = answer.body["id"].as_str().or(answer.body["order_id"].as_str());
        let id = id.unwrap_or_else(|| panic!("no order in {}", String::from_utf8_lossy(&answer.bytes))).to_owned();
        self.orders.push((id.clone(), token.to_owned()));
        id
    }

    fn send_until_answered(&mut self, request: &BlockingRequest) -> BlockingResponse {
        let time = Stopwatch::start();
        loop {
            match self.client.send(request) {
                // The first request is still running, because its order does not rest yet.
                Ok(answer) if answer.status == 503 || answer.problem() == "idempotency-in-progress" => {
                    assert!(time.elapsed() < TIME_LIMIT, "no answer in time: {}", String::from_utf8_lossy(&answer.bytes));
                    std::thread::sleep(PAUSE);
                }
                Ok(answer) => return answer,
                Err(_) => self.restart_process(),
            }
        }
    }

    /// Restarts the crashed process, with its crash point until `max_deaths` is reached.
    fn restart_process(&mut self) {
        assert!(self.server.wait_for_exit(Duration::from_secs(5)).is_some(), "the connection broke but the process still runs");
        self.deaths += 1;
        let unarmed = StartOptions { crash_point: None, ..self.start.clone() };
        self.server = loop {
            if self.deaths >= self.max_deaths {
                break self.data_dir.start(&unarmed);
            }
            match self.data_dir.try_start(&self.start) {
                Some(server) => break server,
                None => self.deaths += 1,
            }
        };
        self.client = self.server.client();
        self.data_dir.assert_no_violations("right after the restart");
    }

    /// Waits until the sagas of all orders have ended.
    pub fn wait_until_orders_rest(&mut self) {
        let time = Stopwatch::start();
        for (id, token) in self.orders.clone() {
            while !["DONE", "UNDONE"].contains(&self.order_states(&id, &token).1.as_str()) {
                assert!(time.elapsed() < TIME_LIMIT, "order {id} does not rest");
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// State of an order and of its saga.
    fn order_states(&mut self, id: &str, token: &str) -> (String, String) {
        let found = self.send_until_answered(&BlockingRequest::get(format!("/v1/orders/{id}")).bearer(token)).expect(200);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&found.body["state"]), text(&found.body["saga"]["state"]))
    }

    /// Waits for crashes in work that continues after the scenario.
    pub fn wait_for_late_deaths(&mut self) {
        while self.deaths < self.max_deaths
            && self.server.wait_for_exit(Duration::from_secs(if self.deaths == 0 { 5 } else { 1 })).is_some()
        {
            self.restart_process();
        }
    }

    /// Statuses of all answers, then states of all orders.
    pub fn outcome(&mut self) -> Vec<String> {
        let mut outcome: Vec<String> = self.answered.iter().map(|(_, answer)| answer.status.to_string()).collect();
        for (id, token) in self.orders.clone() {
            outcome.push(self.order_states(&id, &token).0);
        }
        outcome
    }

    /// Repeats every recorded request, expects the same answer, and expects no additional order.
    pub fn assert_answers_repeat(&mut self) {
        for (request, first) in self.answered.clone() {
            let again = self.send_until_answered(&request);
            assert_eq!((again.status, text(&again)), (first.status, text(&first)), "the answer to {request:?} has changed");
        }
        assert_eq!(
            self.data_dir.count("orders", "orders_orders"),
            i64::try_from(self.orders.len()).expect("a small number"),
            "no additional orders"
        );
    }
}

fn text(response: &BlockingResponse) -> String {
    String::from_utf8_lossy(&response.bytes).into_owned()
}
