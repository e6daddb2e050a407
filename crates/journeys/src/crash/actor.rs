//! A client that does not give up: when the process dies under its request, it is started again and asked again, under the same key.

use crate::{
    client::{Client, PATIENCE, Request, Response},
    process::{Place, Server, Start},
};
use kit::ports::Stopwatch;
use serde_json::Value;
use std::time::Duration;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

pub struct Actor<'a> {
    place: &'a Place,
    start: Start,
    server: Server,
    client: Client,
    /// How often the process has died.
    pub deaths: u32,
    /// How often it is started again with the crash point still in place.
    deep: u32,
    /// What was asked under a key, and answered.
    told: Vec<(Request, Response)>,
    /// Orders by their id, with the token of the buyer.
    orders: Vec<(String, String)>,
}

impl<'a> Actor<'a> {
    pub fn enter(place: &'a Place, start: Start) -> Actor<'a> {
        let server = place.start(&start);
        let client = server.client();
        Actor { place, start, server, client, deaths: 0, deep: 1, told: Vec::new(), orders: Vec::new() }
    }

    /// The process may die this often before it is started without its crash point.
    pub fn dies(&mut self, deep: u32) {
        self.deep = deep;
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Asks until there is an answer, and remembers it.
    pub fn act(&mut self, request: Request) -> Response {
        let answer = self.ask(&request);
        self.told.push((request, answer.clone()));
        answer
    }

    /// The same for an order: the id of what was placed, or refused.
    pub fn order(&mut self, token: &str, body: &Value) -> String {
        let request = Request::post("/v1/orders", body).bearer(token).once().wait();
        let answer = self.act(request);
        self.knows(token, &answer)
    }

    pub fn knows(&mut self, token: &str, answer: &Response) -> String {
        let id = answer.body["id"].as_str().or(answer.body["order_id"].as_str());
        let id = id.unwrap_or_else(|| panic!("no order in {}", String::from_utf8_lossy(&answer.bytes))).to_owned();
        self.orders.push((id.clone(), token.to_owned()));
        id
    }

    fn ask(&mut self, request: &Request) -> Response {
        let time = Stopwatch::start();
        loop {
            match self.client.send(request) {
                // The first request is still under way: its order does not rest yet.
                Ok(answer) if answer.status == 503 || answer.problem() == "idempotency-in-progress" => {
                    assert!(time.elapsed() < PATIENCE, "no answer in time: {}", String::from_utf8_lossy(&answer.bytes));
                    std::thread::sleep(PAUSE);
                }
                Ok(answer) => return answer,
                Err(_) => self.again(),
            }
        }
    }

    /// The process has died, and is started again; as often as it is to die, with its crash point.
    fn again(&mut self) {
        assert!(self.server.ended(Duration::from_secs(5)).is_some(), "the connection broke although the process lives");
        self.deaths += 1;
        let unarmed = Start { crash_point: None, ..self.start.clone() };
        self.server = loop {
            if self.deaths >= self.deep {
                break self.place.start(&unarmed);
            }
            match self.place.try_start(&self.start) {
                Some(server) => break server,
                None => self.deaths += 1,
            }
        };
        self.client = self.server.client();
        self.place.assert_in_order("right after the restart");
    }

    /// Waits until all orders have come to an end.
    pub fn rest(&mut self) {
        let time = Stopwatch::start();
        for (id, token) in self.orders.clone() {
            while !["DONE", "UNDONE"].contains(&self.look(&id, &token).1.as_str()) {
                assert!(time.elapsed() < PATIENCE, "order {id} does not come to rest");
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// State of an order, and of its saga.
    fn look(&mut self, id: &str, token: &str) -> (String, String) {
        let found = self.ask(&Request::get(format!("/v1/orders/{id}")).bearer(token)).expect(200);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&found.body["state"]), text(&found.body["saga"]["state"]))
    }

    /// What follows an order may still be under way when the play is over.
    pub fn meets_its_end(&mut self) {
        while self.deaths < self.deep && self.server.ended(Duration::from_secs(if self.deaths == 0 { 5 } else { 1 })).is_some() {
            self.again();
        }
    }

    /// Answers and ends, in order.
    pub fn story(&mut self) -> Vec<String> {
        let mut story: Vec<String> = self.told.iter().map(|(_, answer)| answer.status.to_string()).collect();
        for (id, token) in self.orders.clone() {
            story.push(self.look(&id, &token).0);
        }
        story
    }

    /// Everything that was asked under a key gets the same answer again, and did not happen twice.
    pub fn holds_its_word(&mut self) {
        for (request, first) in self.told.clone() {
            let again = self.ask(&request);
            assert_eq!((again.status, text(&again)), (first.status, text(&first)), "the answer to {request:?} has changed");
        }
        assert_eq!(
            self.place.count("orders", "orders_orders"),
            i64::try_from(self.orders.len()).expect("a small number"),
            "as many orders as were wanted"
        );
    }
}

fn text(response: &Response) -> String {
    String::from_utf8_lossy(&response.bytes).into_owned()
}
