//! Headers of forwarded requests and responses: removed, passed on, or set by the gateway.

use super::origin::ORIGIN;
use crate::links::SIGNATURE;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use runtime::trace::{request_id, traceparent};
use uuid::Uuid;

/// Number of times that a request was forwarded.
pub(super) const HOPS: HeaderName = HeaderName::from_static("onrush-hops");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Hop-by-hop headers, which belong to one connection (RFC 9110, 7.6.1), and headers that hyper sets itself.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers with which a proxy names the caller to its server. The gateway names the client in a signed header, so it removes all others.
const IDENTITY_HEADERS: &[&str] = &[
    "forwarded",
    "remote-user",
    "x-account-id",
    "x-client-ip",
    "x-email",
    "x-member",
    "x-member-id",
    "x-member-role",
    "x-original-user",
    "x-real-ip",
    "x-remote-user",
    "x-role",
    "x-roles",
    "x-user",
    "x-user-email",
    "x-user-id",
    "x-user-name",
    "x-user-role",
    "x-user-roles",
    "x-username",
];

fn is_identity_header(name: &str) -> bool {
    IDENTITY_HEADERS.contains(&name)
        || name.starts_with("x-authenticated-")
        || name.starts_with("x-auth-request-")
        || name.starts_with("x-forwarded-")
        || is_internal_header(name)
}

/// True for headers between processes, which the gateway removes from clients' requests and from responses to clients.
fn is_internal_header(name: &str) -> bool {
    [HOPS.as_str(), SIGNATURE.as_str(), ORIGIN.as_str()].contains(&name)
}

/// Removes the headers that belong to the connection on which the message arrived.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
    for name in named {
        headers.remove(name);
    }
}

/// Headers of the request for the peer. `trace` is the trace id of the request, from its `traceparent` if that was valid.
pub(super) fn forwarded_headers(mut headers: HeaderMap, trace: Uuid, hops: u8) -> HeaderMap {
    remove_hop_by_hop(&mut headers);
    // The gateway sends the whole body with a length of its own, to another host.
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(name);
    }
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_identity_header(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    let hex = trace.simple().to_string();
    let is_caller_trace = headers.get(&TRACEPARENT).is_some_and(|value| value.as_bytes().get(3..35) == Some(hex.as_bytes()));
    if !is_caller_trace {
        headers.insert(TRACEPARENT, traceparent(trace));
        headers.remove("tracestate");
    }
    headers.insert(REQUEST_ID, request_id(trace));
    headers.insert(HOPS, HeaderValue::from(u16::from(hops)));
    headers
}

/// Removes headers from a response that the client must not see.
pub(super) fn remove_internal_headers(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in [HOPS, SIGNATURE, ORIGIN] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    const TRACE: Uuid = Uuid::from_u128(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    // row 41; A10
    #[test]
    fn identity_and_hop_by_hop_headers_are_removed() {
        let given = headers(&[
            ("host", "evil.example"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("content-length", "7"),
            ("forwarded", "for=1.2.3.4"),
            ("x-user-id", "1"),
            ("x-member-id", "1"),
            ("x-role", "operator"),
            ("x-forwarded-user", "root"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-auth-request-email", "a@b"),
            ("x-real-ip", "1.2.3.4"),
            ("onrush-origin", "1.2.3.4:1"),
            ("onrush-signature", "t=1"),
            ("onrush-hops", "1"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("idempotency-key", "k"),
            ("accept", "application/json"),
        ]);
        let forwarded = forwarded_headers(given, TRACE, 1);
        let passed = ["accept", "authorization", "cookie", "idempotency-key", "onrush-hops", "traceparent", "x-request-id"];
        assert_eq!(names(&forwarded), passed);
        assert_eq!(forwarded["onrush-hops"], "1");
    }

    #[test]
    fn a_valid_traceparent_is_passed_on_and_a_bad_one_replaced() {
        let kept = forwarded_headers(headers(&[("traceparent", PARENT), ("tracestate", "a=b"), ("x-request-id", "mine")]), TRACE, 1);
        assert_eq!((&kept["traceparent"], &kept["tracestate"]), (&HeaderValue::from_static(PARENT), &HeaderValue::from_static("a=b")));
        assert_eq!(kept["x-request-id"], "0af7651916cd43dd8448eb211c80319c");
        let replaced = forwarded_headers(headers(&[("traceparent", "garbage"), ("tracestate", "a=b")]), TRACE, 1);
        assert!(replaced["traceparent"].as_bytes().starts_with(&PARENT.as_bytes()[..36]));
        assert!(!replaced.contains_key("tracestate"));
    }

    #[test]
    fn a_response_loses_only_hop_by_hop_and_internal_headers() {
        let mut given = headers(&[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("onrush-hops", "1"),
            ("content-length", "7"),
            ("location", "/v1/x"),
            ("retry-after", "1"),
        ]);
        remove_internal_headers(&mut given);
        assert_eq!(names(&given), ["content-length", "location", "retry-after"]);
    }
}
