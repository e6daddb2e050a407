//! A client that does not give up: when the process dies under its request, it is started again and asked again, under the same key.

use crate::{
    client::{BlockingClient, BlockingRequest, BlockingResponse, TIME_LIMIT},
    process::{DataDir, ServerProcess, StartOptions},
};
use kit::ports::Stopwatch;
use serde_json::Value;
use std::time::Duration;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

pub struct CrashClient<'a> {
    data_dir: &'a DataDir,
    start: StartOptions,
    server: ServerProcess,
    client: BlockingClient,
    /// How often the process has died.
    pub deaths: u32,
    /// How often it is started again with the crash point still in place.
    max_deaths: u32,
    /// What was asked under a key, and answered.
    answered: Vec<(BlockingRequest, BlockingResponse)>,
    /// Orders by their id, with the token of the buyer.
    orders: Vec<(String, String)>,
}

impl<'a> CrashClient<'a> {
    pub fn start(data_dir: &'a DataDir, start: StartOptions) -> CrashClient<'a> {
        let server = data_dir.start(&start);
        let client = server.client();
        CrashClient { data_dir, start, server, client, deaths: 0, max_deaths: 1, answered: Vec::new(), orders: Vec::new() }
    }

    /// The process may die this often before it is started without its crash point.
    pub fn allow_deaths(&mut self, max_deaths: u32) {
        self.max_deaths = max_deaths;
    }

    pub fn server(&self) -> &ServerProcess {
        &self.server
    }

    /// Asks until there is an answer, and remembers it.
    pub fn send(&mut self, request: BlockingRequest) -> BlockingResponse {
        let answer = self.send_until_answered(&request);
        self.answered.push((request, answer.clone()));
        answer
    }

    /// The same for an order: the id of what was placed, or refused.
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
                // The first request is still under way: its order does not rest yet.
                Ok(answer) if answer.status == 503 || answer.problem() == "idempotency-in-progress" => {
                    assert!(time.elapsed() < TIME_LIMIT, "no answer in time: {}", String::from_utf8_lossy(&answer.bytes));
                    std::thread::sleep(PAUSE);
                }
                Ok(answer) => return answer,
                Err(_) => self.restart_process(),
            }
        }
    }

    /// The process has died, and is started again; as often as it is to die, with its crash point.
    fn restart_process(&mut self) {
        assert!(self.server.wait_for_exit(Duration::from_secs(5)).is_some(), "the connection broke although the process lives");
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

    /// Waits until all orders have come to an end.
    pub fn wait_until_orders_rest(&mut self) {
        let time = Stopwatch::start();
        for (id, token) in self.orders.clone() {
            while !["DONE", "UNDONE"].contains(&self.order_states(&id, &token).1.as_str()) {
                assert!(time.elapsed() < TIME_LIMIT, "order {id} does not come to rest");
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// State of an order, and of its saga.
    fn order_states(&mut self, id: &str, token: &str) -> (String, String) {
        let found = self.send_until_answered(&BlockingRequest::get(format!("/v1/orders/{id}")).bearer(token)).expect(200);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&found.body["state"]), text(&found.body["saga"]["state"]))
    }

    /// What follows an order may still be under way when the play is over.
    pub fn wait_for_late_deaths(&mut self) {
        while self.deaths < self.max_deaths
            && self.server.wait_for_exit(Duration::from_secs(if self.deaths == 0 { 5 } else { 1 })).is_some()
        {
            self.restart_process();
        }
    }

    /// Answers and ends, in order.
    pub fn outcome(&mut self) -> Vec<String> {
        let mut outcome: Vec<String> = self.answered.iter().map(|(_, answer)| answer.status.to_string()).collect();
        for (id, token) in self.orders.clone() {
            outcome.push(self.order_states(&id, &token).0);
        }
        outcome
    }

    /// Everything that was asked under a key gets the same answer again, and did not happen twice.
    pub fn assert_answers_repeat(&mut self) {
        for (request, first) in self.answered.clone() {
            let again = self.send_until_answered(&request);
            assert_eq!((again.status, text(&again)), (first.status, text(&first)), "the answer to {request:?} has changed");
        }
        assert_eq!(
            self.data_dir.count("orders", "orders_orders"),
            i64::try_from(self.orders.len()).expect("a small number"),
            "as many orders as were wanted"
        );
    }
}

fn text(response: &BlockingResponse) -> String {
    String::from_utf8_lossy(&response.bytes).into_owned()
}
