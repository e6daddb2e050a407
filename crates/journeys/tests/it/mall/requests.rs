//! Request bodies that many tests share, and helpers for many answers.

use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use testkit::{TestRequest, TestResponse};
use tokio::task::JoinSet;

/// An order of one unit, paid from the wallet in the same call.
pub fn paid_order(sku: &str) -> Value {
    json!({"items": [{"sku": sku, "quantity": 1}], "payment": {"method": "wallet"}})
}

/// An order of one unit, to be paid later.
pub fn unpaid_order(sku: &str) -> Value {
    json!({"items": [{"sku": sku, "quantity": 1}]})
}

#[must_use]
pub fn with_field(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

#[track_caller]
pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Sends requests from many tasks, at most `limit` at a time. Answers are in the order of the requests.
pub async fn send_all(limit: usize, requests: Vec<TestRequest>) -> Vec<TestResponse> {
    let waiting = Arc::new(Mutex::new(requests.into_iter().enumerate()));
    let mut clients = JoinSet::new();
    for _ in 0..limit {
        let waiting = Arc::clone(&waiting);
        clients.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let next = waiting.lock().expect("no client panics with the lock").next();
                let Some((index, request)) = next else { return answers };
                answers.push((index, request.send().await));
            }
        });
    }
    let mut answers: Vec<(usize, TestResponse)> = clients.join_all().await.into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[track_caller]
pub fn expect_all(status: u16, answers: Vec<TestResponse>) {
    for answer in answers {
        let _ = answer.expect(status);
    }
}

/// Number of answers with this status and problem. "": no problem.
pub fn count_answers(answers: &[TestResponse], status: u16, problem: &str) -> usize {
    answers.iter().filter(|answer| (answer.status, answer.problem()) == (status, problem)).count()
}

/// A UUID as an SQL literal.
pub fn sql_uuid(id: &str) -> String {
    format!("x'{}'", id.replace('-', ""))
}

/// (status, problem, count) of all answers, for failure messages.
pub fn tally(answers: &[TestResponse]) -> Vec<(u16, String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for answer in answers {
        *counts.entry((answer.status, answer.problem().to_owned())).or_insert(0) += 1;
    }
    counts.into_iter().map(|((status, problem), count)| (status, problem, count)).collect()
}
