//! HTTP machinery that all operations share: strict input, problems, paging, idempotency keys, trace ids, and the server itself.
//!
//! This crate knows no operation and no caller, and submits no command. A wrong request gets a problem that names the wrong field and
//! reveals nothing about the implementation.

mod body;
pub mod client;
mod connections;
mod guarded_stream;
mod head;
mod input;
mod json;
mod layer;
pub mod openapi;
pub mod ops;
mod page;
mod parts;
mod prefer;
mod problem;
mod proxies;
mod proxy_protocol;
mod query;
pub mod rules;
mod server;
#[cfg(test)]
mod server_tests;
pub mod text;
mod unread_body;

pub use axum::extract::State;
pub use body::{BodyMemory, read_whole};
pub use connections::AddressShare;
pub use contracts::problem::{FieldError, ProblemBody, ProblemField, problem_body};
pub use input::{BODY_LIMIT, Empty, Input, STRANGER_BODY_LIMIT, StrangerInput};
pub use layer::layers;
pub use page::{Cursors, DEFAULT_LIMIT, Listing, MAX_LIMIT, page_limit};
pub use parts::{Path, Peer, Trace, route_of};
pub use prefer::Preferences;
pub use problem::Problem;
pub use problem::RETRY_AFTER_SECS;
pub use proxies::{ClientHeader, NetworkError, Proxies, TrustedNetworks};
pub use query::Query;
pub use server::{ServerSettings, listen, raise_descriptor_limit, serve};

use axum::{body::Body, response::Response};
use contracts::{Code, problem::code_of};
use engine::{Answer, Reply};
use http::{HeaderValue, header};

/// Value of `Content-Type` for JSON bodies.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Builds the response for the outcome of a command.
pub fn reply(reply: Reply) -> Response {
    match reply {
        Reply::Answer(given) => answer(given),
        Reply::Pending(id) => {
            let body = format!("{{\"id\":\"{id}\"}}").into();
            answer(Answer { status: 202, body, location: None, replayed: false })
        }
    }
}

/// Builds the HTTP response for an answer.
pub fn answer(reply: Answer) -> Response {
    let status = http::StatusCode::from_u16(reply.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let problem = reply.is_problem();
    let code = if problem { code_of(&reply.body) } else { None };
    let has_body = !reply.body.is_empty();
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_body {
        headers.insert(header::CONTENT_TYPE, if problem { PROBLEM_JSON } else { JSON });
    }
    if let Some(location) = reply.location.and_then(|location| HeaderValue::try_from(location).ok()) {
        headers.insert(header::LOCATION, location);
    }
    if reply.replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    if let Some(code) = code {
        problem::add_code_headers(code, headers);
        if code == Code::IdempotencyInProgress {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::Refusal;

    fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
        response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    // rows 58, 60; I9
    #[test]
    fn responses_have_the_headers_of_their_answers() {
        let made = answer(Answer::json(201, &1).expect("a number serializes").at("/v1/orders/7"));
        assert_eq!((made.status().as_u16(), header(&made, "location")), (201, Some("/v1/orders/7")));
        assert_eq!((header(&made, "content-type"), header(&made, "idempotent-replayed")), (Some("application/json"), None));

        let replayed = answer(Answer { replayed: true, ..Answer::refusal(&Code::SoldOut.into()) });
        assert_eq!((replayed.status().as_u16(), header(&replayed, "idempotent-replayed")), (409, Some("true")));
        assert_eq!(header(&replayed, "content-type"), Some("application/problem+json"));

        let running = answer(Answer::refusal(&Code::IdempotencyInProgress.into()));
        assert_eq!(header(&running, "retry-after"), Some("1"));
        let reused = answer(Answer::refusal(&Refusal::new(Code::TokenReused, "gone")));
        assert_eq!((reused.status().as_u16(), header(&reused, "www-authenticate")), (401, Some("Bearer")));
        assert_eq!(header(&answer(Answer::empty(204)), "content-type"), None);
    }

    #[test]
    fn a_location_with_line_ends_is_dropped() {
        // row 4
        let made = answer(Answer::empty(201).at("/v1/x\r\nset-cookie: a=b"));
        assert_eq!((header(&made, "location"), header(&made, "set-cookie")), (None, None));
    }
}
