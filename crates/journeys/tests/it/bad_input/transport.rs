//! Rows 9 to 14, 16 to 22 and 41: errors in the request outside its JSON.

use super::{Case, World, refused, scenario};
use crate::mall::{Mall, QUIET_ROUNDS, text};
use flate2::{Compression, write::GzEncoder};
use http::Method;
use kit::http::{BODY_LIMIT, STRANGER_BODY_LIMIT};
use onrush::documents;
use serde_json::{Value, json};
use std::{io::Write, time::Duration};
use testkit::TestRequest;

pub async fn cases(world: &World) -> Vec<Case<'_>> {
    let mut cases = bodies(world);
    cases.extend(negotiation(world));
    cases.extend(sockets(world));
    cases.extend(queries(world).await);
    cases
}

fn packed(bytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let blank = vec![b' '; 1 << 20];
    for _ in 0..bytes >> 20 {
        encoder.write_all(&blank).expect("memory takes it");
    }
    encoder.finish().expect("memory takes it")
}

fn bodies(world: &World) -> Vec<Case<'_>> {
    let charge = || world.mall.app.post("/v1/wallet/charges").bearer(&world.buyer.token).key("bodies");
    let padded = |length: usize| format!("{:<16}{}", r#"{"amount":500}"#, " ".repeat(length - 16));
    vec![
        // M2
        scenario("row 9: operations open to strangers take small bodies only", strangers_bodies(world)),
        refused("row 9: one byte too many", charge().raw("application/json", padded(BODY_LIMIT + 1)), 413, "body-too-large"),
        refused("row 9: just fits, and is then read", charge().raw("application/json", padded(BODY_LIMIT)), 422, "charge-too-small"),
        scenario("row 9: a chunked body without end", async {
            let head = "POST /v1/accounts HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
            let answer = world.server.send((head.to_owned() + &chunk.repeat(40)).as_bytes()).await;
            assert_eq!((answer.status, answer.problem(), answer.closed), (413, "body-too-large", true), "{answer:?}");
        }),
        refused(
            "row 10: 100 MiB in 100 KiB",
            charge().header("content-encoding", "gzip").raw("application/json", packed(100 << 20)),
            413,
            "body-too-large",
        ),
        refused("row 10: not gzip at all", charge().header("content-encoding", "gzip").raw("application/json", "{}"), 400, "bad-request"),
    ]
}

/// Sends a body over the limit to every operation that needs no sign-in.
async fn strangers_bodies(world: &World) {
    let text = documents::text(documents::Document::Openapi).expect("the document can be made");
    let openapi: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut count = 0;
    for (path, item) in openapi["paths"].as_object().expect("paths") {
        let open =
            item["post"].as_object().filter(|operation| operation.contains_key("requestBody") && !operation.contains_key("security"));
        if open.is_some() {
            count += 1;
            let large = world.mall.app.post(path).raw("application/json", " ".repeat(STRANGER_BODY_LIMIT + 1));
            let _ = large.send().await.expect_problem(413, "body-too-large");
        }
    }
    assert!(count >= 4, "only {count} operations found");
}

fn negotiation(world: &World) -> Vec<Case<'_>> {
    let app = &world.mall.app;
    let mut cases = Vec::new();
    let charge = || app.post("/v1/wallet/charges").bearer(&world.buyer.token).key("kinds");
    for kind in
        ["text/plain", "application/xml", "application/x-www-form-urlencoded", "application/json; charset=euc-kr", "multipart/form-data"]
    {
        let request = charge().raw(kind, r#"{"amount":5000}"#);
        cases.push(refused(format!("row 11: {kind}"), request, 415, "unsupported-media-type"));
    }
    for encoding in ["br", "deflate", "gzip, gzip", "zstd"] {
        let request = charge().header("content-encoding", encoding).raw("application/json", r#"{"amount":5000}"#);
        cases.push(refused(format!("row 11: encoded with {encoding}"), request, 415, "unsupported-media-type"));
    }
    for accept in ["application/xml", "text/html", "application/json;q=0"] {
        cases.push(refused(format!("row 12: {accept}"), app.get("/v1/products").header("accept", accept), 406, "not-acceptable"));
    }
    for (method, path) in
        [(Method::PUT, "/v1/orders"), (Method::DELETE, "/v1/products"), (Method::TRACE, "/v1/products"), (Method::PATCH, "/v1/wallet")]
    {
        cases.push(refused(format!("row 13: {method} {path}"), app.request(method, path), 405, "method-not-allowed"));
    }
    for path in ["/v2/orders", "/v0/products", "/v10/wallet"] {
        cases.push(refused(format!("row 22: {path}"), app.get(path), 400, "unknown-version"));
    }
    for path in
        ["/v1/products/../orders", "/v1/orders/..%2F..%2Fetc%2Fpasswd", "/v1/../../etc/passwd", "/v1/products/%2e%2e", "/v1//orders"]
    {
        cases.push(refused(format!("row 21: {path}"), world.mall.get(&world.buyer, path), 404, "not-found"));
    }
    cases
}

fn sockets(world: &World) -> Vec<Case<'_>> {
    let expect = |bytes: String, status: u16, problem: &'static str| async move {
        let answer = world.server.send(bytes.as_bytes()).await;
        assert_eq!((answer.status, answer.problem(), answer.closed), (status, problem, true), "{:.80}: {answer:?}", bytes);
    };
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    let post = |headers: &str, body: &str| {
        format!("POST /v1/accounts HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}\r\n{body}")
    };
    vec![
        scenario("row 14: a target of 64 KiB", expect(get(&format!("/v1/products?q={}", "x".repeat(64 << 10)), ""), 414, "uri-too-long")),
        scenario(
            "row 14: a header of 1 MiB",
            expect(get("/v1/products", &format!("x-much: {}\r\n", "x".repeat(1 << 20))), 431, "headers-too-large"),
        ),
        scenario("row 14: 10,000 headers", expect(get("/v1/products", &"x-many: 1\r\n".repeat(10_000)), 431, "headers-too-large")),
        scenario(
            "row 16: two lengths",
            expect(post("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), 400, "bad-request"),
        ),
        scenario("row 16: two different lengths", expect(post("content-length: 2\r\ncontent-length: 3\r\n", "{} "), 400, "bad-request")),
        scenario("row 16: bare line feeds", expect("GET /v1/products HTTP/1.1\nhost: x\n\n".to_owned(), 400, "bad-request")),
        scenario("row 16: a folded header", expect(get("/v1/products", "x-fold: a\r\n b\r\n"), 400, "bad-request")),
        scenario("row 4: a header in another encoding", async {
            let head =
                format!("POST /v1/wallet/charges HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: ", world.buyer.token);
            let tail = "\r\ncontent-type: application/json\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"amount\":5000}";
            let answer = world.server.send(&[head.as_bytes(), b"\xff\xfe", tail.as_bytes()].concat()).await;
            assert_eq!((answer.status, answer.problem()), (400, "bad-encoding"), "{answer:?}");
        }),
    ]
}

async fn queries(world: &World) -> Vec<Case<'_>> {
    let mall = &world.mall;
    let list = |query: &str| mall.get(&world.buyer, &format!("/v1/products?{query}"));
    let mut cases = vec![
        refused("row 17: limit twice", list("limit=1&limit=9"), 400, "duplicate-parameter"),
        refused("row 17: twice, once escaped", list("limit=1&%6Cimit=9"), 400, "duplicate-parameter"),
        refused("row 18: an unknown parameter", list("password=1"), 422, "invalid-parameter"),
    ];
    for query in
        ["limit=0", "limit=-1", "limit=1000000000", "limit=x", "limit=", "sort=id;drop%20table", "sort=password", "min_price=-1", "store=1"]
    {
        cases.push(refused(format!("row 18: {query}"), list(query), 422, "invalid-parameter"));
    }
    for path in ["/v1/orders", "/v1/wallet/entries", "/v1/me/coupons", "/v1/coupons", "/v1/stores"] {
        for limit in ["0", "101", "-1", "99999999999999999999"] {
            let request = mall.get(&world.buyer, &format!("{path}?limit={limit}"));
            cases.push(refused(format!("row 18: {path} limit {limit}"), request, 422, "invalid-parameter"));
        }
        for cursor in ["1", "e30", "..%2F", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let request = mall.get(&world.buyer, &format!("{path}?cursor={cursor}"));
            cases.push(refused(format!("row 19: {path} cursor {cursor}"), request, 400, "invalid-cursor"));
        }
    }
    cases.extend(foreign_cursors(world).await);
    for (name, search) in
        [("a quote", "'%20or%201=1--"), ("percent", "%25"), ("underscore", "_"), ("backslash", "%5C"), ("quotes", "%22;--")]
    {
        cases.push(scenario("row 20: searches are plain text", async move {
            for path in ["/v1/products", "/v1/coupons"] {
                let found = mall.app.get(format!("{path}?q={search}")).send().await.expect(200).body;
                assert_eq!(found["items"], json!([]), "{name} in {path}");
            }
        }));
    }
    cases.push(scenario("row 20: and find what is named so", async {
        mall.product_of(&json!({"name": "100%_wool\\' or 1=1--", "price": 1_000, "stock": 1})).await;
        for search in ["%25", "_", "%5C", "'%20or%201=1--"] {
            found_once(mall, search).await;
        }
    }));
    cases.push(scenario("row 41: claimed addresses and names are ignored", claimed_names(world)));
    cases
}

/// Repeats the search, because another replica may serve its cached page a moment longer (its `SHARED_TTL`).
async fn found_once(mall: &Mall, search: &str) {
    for _ in 0..QUIET_ROUNDS {
        let found = mall.app.get(format!("/v1/products?q={search}")).send().await.expect(200).body;
        match found["items"].as_array().map(Vec::len) {
            Some(1) => return,
            Some(0) => tokio::time::sleep(Duration::from_millis(10)).await,
            _ => panic!("{search} finds {found}"),
        }
    }
    panic!("{search} finds nothing");
}

/// Cursors of another list, or of another member's list.
async fn foreign_cursors(world: &World) -> Vec<Case<'static>> {
    let mall = &world.mall;
    for _ in 0..2 {
        let body = json!({"amount": 1_000});
        let _ = mall.post(&world.other, "/v1/wallet/charges", &body).send().await.expect(201);
    }
    let entries = mall.get(&world.other, "/v1/wallet/entries?limit=1").send().await.expect(200).body;
    let cursor = text(&entries["next_cursor"]);
    ["/v1/wallet/entries", "/v1/products", "/v1/orders", "/v1/coupons"]
        .map(|path| {
            let request = mall.get(&world.buyer, &format!("{path}?cursor={cursor}"));
            refused(format!("row 19: another's cursor at {path}"), request, 400, "invalid-cursor")
        })
        .into()
}

async fn claimed_names(world: &World) {
    let mall = &world.mall;
    let claims = |request: TestRequest| {
        let names = ["x-user-id", "x-member-id", "x-role", "x-forwarded-user"];
        let request = names.iter().fold(request, |request, name| request.header(name, &world.other.id.to_string()));
        request.header("x-forwarded-for", "203.0.113.7").header("x-forwarded-host", "evil.example").header("host", "evil.example")
    };
    let wallet = claims(mall.get(&world.buyer, "/v1/wallet")).send().await.expect(200).body;
    assert_eq!(wallet["cash"], mall.wallet(&world.buyer).await.0);
    let _ = claims(mall.app.get("/v1/wallet")).send().await.expect_problem(401, "unauthenticated");
    let order = claims(mall.get(&world.buyer, &format!("/v1/orders/{}", world.unpaid))).send().await.expect(200);
    assert!(!String::from_utf8_lossy(&order.bytes).contains("evil"));
    let _ = claims(mall.post(&world.buyer, "/v1/stores", &json!({"name": "Mine"}))).send().await.expect_problem(403, "forbidden");
}
