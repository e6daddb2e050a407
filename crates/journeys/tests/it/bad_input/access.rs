//! Rows 23 to 32, 35, 37 and 38: authentication, and access to other members' data.

use super::{Case, World, refused, scenario, token_forger::TokenForger};
use crate::mall::{Mall, count_answers, send_all, tally, text, with_field};
use kit::ports::new_id;
use serde_json::{Value, json};
use std::{net::Ipv4Addr, time::Duration};
use testkit::{TestRequest, TestResponse};

const PASSWORD: &str = "correct horse battery";

pub fn cases(world: &World) -> Vec<Case<'_>> {
    let mut cases = tokens(world);
    cases.extend(vec![
        scenario("row 26: a token ends after an hour", expired()),
        scenario("row 26: a refresh token is no access token", refresh_as_access(world)),
        scenario("row 27: a refresh token is good once", reused(world)),
        scenario("row 28: no access after sign-out, a new password, or for a disabled account", revoked(world)),
        scenario("row 29: every failed sign-in gets the same answer", same_answer_to_all(world)),
        scenario("row 30: the sixth wrong password, and the hundredth account", attempts()),
        scenario("row 31: passwords", passwords(world)),
        scenario("row 32: 500 sign-ins at once", crowd()),
        scenario("row 35: what another site has a browser send", from_another_site(world)),
        scenario("row 38: another's coupon is like one that does not exist", foreign_coupon(world)),
    ]);
    cases.extend(others(world));
    cases
}

fn tokens(world: &World) -> Vec<Case<'_>> {
    let app = &world.mall.app;
    let forger = TokenForger { member_id: world.mall.operator.id, now: app.clock_now() };
    let plain = json!({"typ": "at+jwt", "alg": "HS256"});
    let mut bad = vec![
        (23, "Bearer ".to_owned()),
        (23, "Bearer garbage".to_owned()),
        (23, "Bearer a.b.c".to_owned()),
        (23, format!("Basic {}", world.buyer.token)),
        (23, format!("Bearer {}x", world.buyer.token)),
        (23, world.buyer.token.clone()),
    ];
    for alg in ["none", "None", "nOnE"] {
        bad.push((24, format!("Bearer {}", forger.unsigned(&json!({"typ": "at+jwt", "alg": alg})))));
    }
    for alg in ["HS384", "RS256", "ES256", "EdDSA"] {
        bad.push((24, format!("Bearer {}", forger.signed(&with_field(plain.clone(), "alg", json!(alg)), &json!({})))));
    }
    for key in [b"".as_slice(), b"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n", &[7; 32]] {
        bad.push((24, format!("Bearer {}", forger.signed_with(key, &plain, &json!({})))));
    }
    for (name, value) in [
        ("kid", json!("../../../../dev/null")),
        ("kid", json!("' union select 'secret'--")),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("jwk", json!({"kty": "oct", "k": "AAAA"})),
    ] {
        bad.push((25, format!("Bearer {}", forger.signed(&with_field(plain.clone(), name, value), &json!({})))));
    }
    let second = app.clock_now().seconds();
    for changes in [
        json!({"exp": second}),
        json!({"exp": second - 1}),
        json!({"exp": second + 100_000}),
        json!({"nbf": second + 3_000}),
        json!({"aud": "other"}),
        json!({"iss": "other"}),
        json!({"role": "root"}),
    ] {
        bad.push((26, format!("Bearer {}", forger.signed(&plain, &changes))));
    }
    for kind in ["JWT", "rt+jwt"] {
        bad.push((26, format!("Bearer {}", forger.signed(&with_field(plain.clone(), "typ", json!(kind)), &json!({})))));
    }
    let mut cases = vec![
        refused("row 23: no token", app.get("/v1/wallet"), 401, "unauthenticated"),
        scenario("row 24: the forge signs as the server does", async move {
            let _ = app.get("/v1/orders").bearer(&forger.signed(&plain, &json!({}))).send().await.expect(200);
        }),
    ];
    for (row, header) in bad {
        let request = app.get("/v1/orders").header("authorization", &header);
        cases.push(refused(format!("row {row}: {header}"), request, 401, "unauthenticated"));
    }
    cases
}

/// An account with a password.
struct Account {
    id: String,
    email: String,
}

async fn sign_up(mall: &Mall) -> Account {
    let email = format!("{}@example.com", new_id());
    let made = mall.app.post("/v1/accounts").json(&json!({"email": email, "password": PASSWORD, "name": "Minji"})).send().await.expect(201);
    Account { id: text(&made.body["id"]), email }
}

fn sign_in(mall: &Mall, email: &str, password: &str) -> TestRequest {
    mall.app.post("/v1/sessions").json(&json!({"email": email, "password": password}))
}

/// (access token, refresh token)
async fn signed_in(mall: &Mall, account: &Account) -> (String, String) {
    let tokens = sign_in(mall, &account.email, PASSWORD).send().await.expect(200).body;
    (text(&tokens["access_token"]), text(&tokens["refresh_token"]))
}

fn refresh(mall: &Mall, token: &str) -> TestRequest {
    mall.app.post("/v1/sessions/refresh").json(&json!({"refresh_token": token}))
}

async fn expired() {
    let mall = Mall::open().await;
    let member = mall.member().await;
    let _ = mall.get(&member, "/v1/me").send().await.expect(200);
    mall.app.clock.advance(Duration::from_secs(3_601));
    let _ = mall.get(&member, "/v1/me").send().await.expect_problem(401, "unauthenticated");
    mall.finish().await;
}

async fn refresh_as_access(world: &World) {
    let mall = &world.mall;
    let (access, refresh_token) = signed_in(mall, &sign_up(mall).await).await;
    let _ = mall.app.get("/v1/me").bearer(&refresh_token).send().await.expect_problem(401, "unauthenticated");
    let _ = refresh(mall, &access).send().await.expect_problem(401, "unauthenticated");
    let _ = mall.app.get("/v1/me").bearer(&access).send().await.expect(200);
}

async fn reused(world: &World) {
    let mall = &world.mall;
    let (access, first) = signed_in(mall, &sign_up(mall).await).await;
    let second = text(&refresh(mall, &first).send().await.expect(200).body["refresh_token"]);
    let _ = refresh(mall, &first).send().await.expect_problem(401, "token-reused");
    let after = refresh(mall, &second).send().await;
    assert_eq!(after.status, 401, "all tokens of the session are revoked");
    mall.assert_token_refused(&access).await;
}

async fn revoked(world: &World) {
    let mall = &world.mall;
    let account = sign_up(mall).await;
    let refuses = async |access: &str, refresh_token: &str| {
        assert_eq!(refresh(mall, refresh_token).send().await.status, 401);
        mall.assert_token_refused(access).await;
    };
    let (access, refresh_token) = signed_in(mall, &account).await;
    let _ = mall.app.delete("/v1/sessions/current").bearer(&access).send().await.expect(204);
    refuses(&access, &refresh_token).await;

    let (old, old_refresh) = signed_in(mall, &account).await;
    let (current, _) = signed_in(mall, &account).await;
    let change = json!({"password": "another horse battery", "current_password": PASSWORD});
    let _ = mall.app.patch("/v1/me").bearer(&current).json(&change).send().await.expect(200);
    refuses(&old, &old_refresh).await;
    let _ = mall.app.get("/v1/me").bearer(&current).send().await.expect(200);

    let account = sign_up(mall).await;
    let (access, refresh_token) = signed_in(mall, &account).await;
    let path = format!("/v1/accounts/{}", account.id);
    let _ = mall.app.patch(path).bearer(&mall.operator.token).json(&json!({"state": "disabled"})).send().await.expect(200);
    refuses(&access, &refresh_token).await;
    let _ = sign_in(mall, &account.email, PASSWORD).send().await.expect_problem(401, "bad-credentials");
}

/// The problem without its trace id.
fn worded(answer: &TestResponse) -> Value {
    let mut body = answer.body.clone();
    body.as_object_mut().expect("a problem").remove("trace_id");
    body
}

async fn same_answer_to_all(world: &World) {
    let mall = &world.mall;
    let (known, disabled) = (sign_up(mall).await, sign_up(mall).await);
    let path = format!("/v1/accounts/{}", disabled.id);
    let _ = mall.app.patch(path).bearer(&mall.operator.token).json(&json!({"state": "disabled"})).send().await.expect(200);
    let wrong = sign_in(mall, &known.email, "wrong horse battery").send().await.expect_problem(401, "bad-credentials");
    let unknown = sign_in(mall, "nobody@example.com", PASSWORD).send().await.expect_problem(401, "bad-credentials");
    let disabled = sign_in(mall, &disabled.email, PASSWORD).send().await.expect_problem(401, "bad-credentials");
    assert_eq!((worded(&wrong), worded(&wrong)), (worded(&unknown), worded(&disabled)));
    assert!(wrong.headers.contains_key("www-authenticate"));
}

/// Over real sockets, because the limit counts client addresses.
async fn attempts() {
    let mall = Mall::open().await;
    let server = super::raw::Server::start(&mall).await;
    let account = sign_up(&mall).await;
    let (here, there) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
    let attempt = async |from: Ipv4Addr, email: &str, password: &str| {
        let body = json!({"email": email, "password": password}).to_string();
        let head = "POST /v1/sessions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
        // A forged `X-Forwarded-For` must not help.
        let forwarded = format!("x-forwarded-for: 203.0.113.{}\r\ncontent-length: {}\r\n\r\n", email.len() % 200, body.len());
        server.send_from(from, format!("{head}{forwarded}{body}").as_bytes()).await
    };
    // Without Redis each process counts for itself. Requests go to the processes in turn.
    let processes = mall.app.instances_of("accounts");
    for _ in 0..5 * processes {
        assert_eq!(attempt(here, &account.email, "wrong horse battery").await.status, 401);
    }
    let sixth = attempt(here, &account.email, PASSWORD).await;
    assert_eq!((sixth.status, sixth.problem()), (429, "too-many-attempts"), "{sixth:?}");
    assert!(sixth.head.contains("retry-after:"), "{sixth:?}");
    assert_eq!(attempt(there, &account.email, PASSWORD).await.status, 200, "the owner elsewhere is not locked out");

    let mut more = 0;
    let hundredth = loop {
        let answer = attempt(here, &format!("nobody{more}@example.com"), PASSWORD).await;
        if answer.status != 401 {
            break answer;
        }
        more += 1;
    };
    assert_eq!((hundredth.status, hundredth.problem()), (429, "too-many-attempts"), "{hundredth:?}");
    let all = 5 * processes + more;
    // One process may be at its limit while another has room for the attempts it rejected.
    assert!(all <= 100 * processes && all > 100 * processes - 2 * processes, "{all} from one address");
    mall.app.clock.advance(Duration::from_secs(601));
    assert_eq!(attempt(here, &account.email, PASSWORD).await.status, 200, "the limit ends");
    server.stop();
    mall.finish().await;
}

async fn passwords(world: &World) {
    let mall = &world.mall;
    let sign_up =
        |email: &str, password: &str| mall.app.post("/v1/accounts").json(&json!({"email": email, "password": password, "name": "Jun"}));
    for weak in ["1234567", "seven77", "password", "12345678", "qwertyuiop", "letmein1", "iloveyou"] {
        let _ = sign_up("weak@example.com", weak).send().await.expect_problem(422, "weak-password");
    }
    let _ = sign_up("weak@example.com", &"x".repeat(1 << 20)).send().await.expect_problem(413, "body-too-large");
    // Long passwords in any script are not truncated.
    let long = "하늘을 나는 물고기 ".repeat(9);
    let _ = sign_up("long@example.com", &long).send().await.expect(201);
    let cut: String = long.chars().take(72).collect();
    let _ = sign_in(mall, "long@example.com", &cut).send().await.expect_problem(401, "bad-credentials");
    let _ = sign_in(mall, "long@example.com", &long).send().await.expect(200);
}

async fn crowd() {
    let mall = Mall::open().await;
    let answers = send_all(500, (0..500).map(|n| sign_in(&mall, &format!("member{n}@example.com"), PASSWORD).once()).collect()).await;
    let shed: Vec<&TestResponse> = answers.iter().filter(|answer| answer.status == 503).collect();
    let counted = count_answers(&answers, 401, "bad-credentials")
        + count_answers(&answers, 429, "too-many-attempts")
        + count_answers(&answers, 503, "overloaded");
    assert!(!shed.is_empty() && counted == 500, "{:?}", tally(&answers));
    assert!(shed.iter().all(|answer| answer.headers.contains_key("retry-after")));
    // Other requests are served during the burst, and sign-in works again afterwards.
    let _ = mall.app.get("/v1/products").send().await.expect(200);
    mall.app.clock.advance(Duration::from_secs(601));
    let _ = sign_in(&mall, "member@example.com", PASSWORD).send().await.expect_problem(401, "bad-credentials");
    mall.finish().await;
}

/// With the cookie of a signed-in member, at services that do not know cookies.
async fn from_another_site(world: &World) {
    let mall = &world.mall;
    let account = sign_up(mall).await;
    let body = json!({"email": account.email, "password": PASSWORD});
    let signed_in = mall.app.post("/v1/web-sessions").json(&body).send().await.expect(200);
    let cookie = signed_in.headers["set-cookie"].to_str().expect("plain text").split(';').next().expect("a pair").to_owned();
    let order = || {
        let asked = mall.app.post("/v1/orders").header("host", "mall.example").header("cookie", &cookie).key(&new_id().to_string());
        asked.json(&json!({"items": [{"sku": world.sku, "quantity": 1}]}))
    };
    let strangers = [
        order().header("sec-fetch-site", "cross-site").header("origin", "https://evil.example"),
        order().header("sec-fetch-site", "same-site"),
        order().header("origin", "https://evil.example"),
        order().header("origin", "null"),
        order(),
    ];
    for stranger in strangers {
        let _ = stranger.send().await.expect_problem(403, "csrf");
    }
    let own = order().header("sec-fetch-site", "same-origin").header("origin", "https://mall.example");
    let _ = own.header("prefer", "wait=25").send().await.expect(201);
}

/// Row 37: resources of another member give 404.
fn others(world: &World) -> Vec<Case<'_>> {
    let mall = &world.mall;
    let (other, order) = (&world.other, &world.unpaid);
    let payment = text(&world.paid["payment"]["id"]);
    let paid = text(&world.paid["id"]);
    let requests = [
        ("read an order", mall.get(other, &format!("/v1/orders/{order}"))),
        ("pay an order", mall.post(other, &format!("/v1/orders/{order}/payments"), &json!({"method": "wallet"}))),
        ("cancel an order", mall.post(other, &format!("/v1/orders/{order}/cancellation"), &json!({}))),
        ("cancel a paid order", mall.post(other, &format!("/v1/orders/{paid}/cancellation"), &json!({}))),
        ("confirm an order", mall.post(other, &format!("/v1/orders/{paid}/confirmation"), &json!({}))),
        ("read a payment", mall.get(other, &format!("/v1/payments/{payment}"))),
        ("an order that does not exist", mall.get(other, &format!("/v1/orders/{}", new_id()))),
        ("an id that is none", mall.get(other, "/v1/orders/1")),
    ];
    requests.map(|(name, request)| refused(format!("row 37: {name}"), request, 404, "not-found")).into()
}

async fn foreign_coupon(world: &World) {
    let order = |coupon: &str| world.order(&json!({"items": [{"sku": world.sku, "quantity": 1}], "coupons": [coupon]}));
    let foreign = order(&world.foreign).send().await.expect_problem(422, "coupon-not-usable");
    let unknown = order(&new_id().to_string()).send().await.expect_problem(422, "coupon-not-usable");
    assert_eq!(worded(&foreign), worded(&unknown));
}
