//! Which headers pass the gateway, and which it sets itself.

use super::origin::ORIGIN;
use crate::{
    http::Peer,
    links::{
        SIGNATURE,
        trace::{request_id, traceparent},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use uuid::Uuid;

/// How often a request was forwarded already.
pub(super) const HOPS: HeaderName = HeaderName::from_static("onrush-hops");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Headers that speak of one connection and not of the request (RFC 9110, 7.6.1), with those that hyper writes anew.
const OF_THE_CONNECTION: &[&str] = &[
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

/// What only a proxy in front of an identity-aware server would set. Nobody here reads them; they are dropped so that nobody ever can.
const OF_AN_IDENTITY: &[&str] = &[
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

fn claims_an_identity(name: &str) -> bool {
    OF_AN_IDENTITY.contains(&name)
        || name.starts_with("x-authenticated-")
        || name.starts_with("x-auth-request-")
        || (name.starts_with("x-forwarded-") && name != FORWARDED_FOR.as_str())
        || is_ours(name)
}

/// Headers between processes: a client cannot send them, and does not get to see them.
fn is_ours(name: &str) -> bool {
    [HOPS.as_str(), SIGNATURE.as_str(), ORIGIN.as_str()].contains(&name)
}

/// Drops what belongs to the connection the message came on.
fn drop_connections(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in OF_THE_CONNECTION {
        headers.remove(*name);
    }
    for name in named {
        headers.remove(name);
    }
}

/// The headers of a request as the peer is to see them. `trace` is the request's, read from its `traceparent` if it had a good one.
pub(super) fn onward(mut headers: HeaderMap, peer: Option<Peer>, trace: Uuid, hops: u8) -> HeaderMap {
    drop_connections(&mut headers);
    // The body was read here: it is sent whole, with its length, to a host of another name.
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(name);
    }
    let claims: Vec<HeaderName> = headers.keys().filter(|name| claims_an_identity(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    if let Some(Peer(address)) = peer {
        append_forwarded_for(&mut headers, &address.ip().to_canonical().to_string());
    }
    let hex = trace.simple().to_string();
    let is_the_callers = headers.get(&TRACEPARENT).is_some_and(|value| value.as_bytes().get(3..35) == Some(hex.as_bytes()));
    if !is_the_callers {
        headers.insert(TRACEPARENT, traceparent(trace));
        headers.remove("tracestate");
    }
    headers.insert(REQUEST_ID, request_id(trace));
    headers.insert(HOPS, HeaderValue::from(u16::from(hops)));
    headers
}

/// One header with all addresses, ours last: what stands before it is what the client says.
fn append_forwarded_for(headers: &mut HeaderMap, address: &str) {
    let said = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let all: Vec<&str> = said.chain([address]).collect();
    if let Ok(value) = HeaderValue::try_from(all.join(", ")) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// The headers of an answer as the client is to see them.
pub(super) fn back(headers: &mut HeaderMap) {
    drop_connections(headers);
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
    fn claims_and_connection_headers_stay_behind() {
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
        let onward = onward(given, None, TRACE, 1);
        let passed = ["accept", "authorization", "cookie", "idempotency-key", "onrush-hops", "traceparent", "x-request-id"];
        assert_eq!(names(&onward), passed);
        assert_eq!(onward["onrush-hops"], "1");
    }

    #[test]
    fn the_trace_is_the_callers_or_a_new_one() {
        let kept = onward(headers(&[("traceparent", PARENT), ("tracestate", "a=b"), ("x-request-id", "mine")]), None, TRACE, 1);
        assert_eq!((&kept["traceparent"], &kept["tracestate"]), (&HeaderValue::from_static(PARENT), &HeaderValue::from_static("a=b")));
        assert_eq!(kept["x-request-id"], "0af7651916cd43dd8448eb211c80319c");
        let replaced = onward(headers(&[("traceparent", "garbage"), ("tracestate", "a=b")]), None, TRACE, 1);
        assert!(replaced["traceparent"].as_bytes().starts_with(&PARENT.as_bytes()[..36]));
        assert!(!replaced.contains_key("tracestate"));
    }

    #[test]
    fn the_client_is_added_to_the_way() {
        let peer = Some(Peer("[::ffff:203.0.113.9]:1".parse().expect("an address")));
        let given = headers(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-for", "10.0.0.2, 10.0.0.3")]);
        assert_eq!(onward(given, peer, TRACE, 1)["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 10.0.0.3, 203.0.113.9");
        assert_eq!(onward(HeaderMap::new(), peer, TRACE, 1)["x-forwarded-for"], "203.0.113.9");
    }

    #[test]
    fn an_answer_loses_only_what_was_the_connections() {
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
        back(&mut given);
        assert_eq!(names(&given), ["content-length", "location", "retry-after"]);
    }
}
