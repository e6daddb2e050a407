use crate::support::{OTHER_PASSWORD, PASSWORD, app, app_with, from_address, rate, retry_after, sign_in, sign_up, try_sign_in};
use contracts::Message;
use futures::future::join_all;
use kit::limits::LimitSettings;
use serde_json::json;
use std::time::Duration;
use testkit::{App, TestResponse};

// A1
#[tokio::test]
async fn a1_anyone_opens_a_customers_account() {
    let app = app().await;
    let body = json!({"email": " Kim.Minji@Example.com ", "password": PASSWORD, "name": " 김민지 ", "phone": "010-1234-5678"});
    let created = app.post("/v1/accounts").json(&body).send().await.expect(201);
    assert_eq!(created.body["email"], "Kim.Minji@Example.com");
    assert_eq!(created.body["name"], "김민지");
    assert_eq!(created.body["phone"], "01012345678");
    assert_eq!(created.body["role"], "customer");
    assert_eq!(created.body["created_at"], "2026-11-20T00:00:00.000000Z");
    assert!(!String::from_utf8_lossy(&created.bytes).contains("password"));

    let (hash,): (String,) = app.rows("select password_hash from accounts_members").await.remove(0);
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let messages = app.messages("accounts").await;
    assert_eq!(messages.len(), 1);
    let Message::MemberRegistered(registered) = &messages[0].1 else { panic!("{messages:?}") };
    assert_eq!(registered.member_id.to_string(), created.body["id"].as_str().unwrap());
}

// A1; row 76
#[tokio::test]
async fn a1_spellings_of_one_address_open_one_account() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    for same in ["minji@example.com", "MINJI@example.com", " minji@EXAMPLE.com "] {
        let body = json!({"email": same, "password": OTHER_PASSWORD, "name": "Someone"});
        let _ = app.post("/v1/accounts").json(&body).send().await.expect_problem(409, "email-taken");
        let _ = try_sign_in(&app, same, PASSWORD).await.expect(200);
    }
    assert_eq!(app.sql_i64("select count(*) from accounts_members").await, 1);
}

// A1
#[tokio::test]
async fn a1_of_eight_simultaneous_sign_ups_one_wins() {
    let app = app().await;
    let requests = (0..8).map(|n| {
        let body = json!({"email": "minji@example.com", "password": PASSWORD, "name": format!("Minji {n}")});
        app.post("/v1/accounts").json(&body).send()
    });
    let answers = join_all(requests).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    let winner = answers.iter().find(|answer| answer.status == 201).unwrap();
    let (name,): (String,) = app.rows("select name from accounts_members").await.remove(0);
    assert_eq!(winner.body["name"], name.as_str());
    assert_eq!(app.messages("accounts").await.len(), 1);
}

// row 31
#[tokio::test]
async fn weak_passwords_are_refused_and_long_ones_kept() {
    let app = app().await;
    let form = |password: &str| json!({"email": "minji@example.com", "password": password, "name": "Minji"});
    for weak in ["", "7chars!", "password", "iloveyou1", "minji@example.com"] {
        let refused = app.post("/v1/accounts").json(&form(weak)).send().await.expect_problem(422, "weak-password");
        assert_eq!(refused.body["errors"][0]["pointer"], "/password", "{weak}");
    }
    let _ = app.post("/v1/accounts").json(&form(&"x7 ".repeat(400_000))).send().await.expect_problem(413, "body-too-large");
    let long = format!("비 오는 서울의 등불 🏮 {}", "four-words-and-a-number-47 ".repeat(6));
    let _ = app.post("/v1/accounts").json(&form(&long)).send().await.expect(201);
    let _ = try_sign_in(&app, "minji@example.com", &long).await.expect(200);
    let cut: String = long.chars().take(72).collect();
    let _ = try_sign_in(&app, "minji@example.com", &cut).await.expect_problem(401, "bad-credentials");
    assert_eq!(app.sql_i64("select count(*) from accounts_members").await, 1);
}

// rows 5, 6, 7, 8, 76
#[tokio::test]
async fn bad_fields_are_named_and_change_nothing() {
    let app = app().await;
    let good = json!({"email": "minji@example.com", "password": PASSWORD, "name": "Minji", "phone": "010-1234-5678"});
    for (field, value, slug) in [
        ("email", json!("minji"), "invalid-field"),
        ("email", json!("minji@example.com\u{0}"), "invalid-field"),
        ("email", json!(format!("{}@example.com", "m".repeat(300))), "too-long"),
        ("email", json!(null), "invalid-field"),
        ("password", json!(12_345_678), "invalid-field"),
        ("name", json!("  "), "invalid-field"),
        ("name", json!("Minji\u{202e}ijniM"), "invalid-field"),
        ("name", json!("n".repeat(101)), "too-long"),
        ("phone", json!("123"), "invalid-field"),
        ("role", json!("operator"), "unknown-field"),
        ("state", json!("active"), "unknown-field"),
        ("id", json!("019a0000-0000-7000-8000-000000000000"), "unknown-field"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let refused = app.post("/v1/accounts").json(&body).send().await.expect_problem(422, slug);
        assert_eq!(refused.body["errors"][0]["pointer"], format!("/{field}"), "{field} {value}");
    }
    assert_eq!(app.sql_i64("select count(*) from accounts_members").await, 0);
}

// rows 57, 59, 60
#[tokio::test]
async fn a_repeated_sign_up_gets_the_first_answer() {
    let app = app().await;
    let form = |email: &str, name: &str| json!({"email": email, "password": PASSWORD, "name": name});
    let send = |body| app.post("/v1/accounts").key("once").json(&body).send();
    let first = send(form("minji@example.com", "Minji")).await.expect(201);
    let second = send(form("minji@example.com", "Minji")).await.expect(201);
    assert_eq!(first.bytes, second.bytes);
    assert_eq!(second.headers["idempotent-replayed"], "true");
    let _ = send(form("minji@example.com", "Another")).await.expect_problem(422, "idempotency-key-mismatch");
    let _ = send(form("jisu@example.com", "Jisu")).await.expect(201);
    assert_eq!(app.sql_i64("select count(*) from accounts_members").await, 2);
    sign_in(&app, "minji@example.com").await;
}

async fn try_sign_up(app: &App, name: &str) -> TestResponse {
    let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD, "name": "Minji"});
    app.post("/v1/accounts").json(&body).send().await
}

// H3, M9: neither accounts nor answers about addresses are without limit
#[tokio::test]
async fn sign_ups_of_an_address_are_limited() {
    let mut app = app_with(LimitSettings { sign_up_per_address: rate("60/hour burst 3"), ..LimitSettings::off() }).await;
    let base = app.router.clone();
    app.router = from_address(&base, "203.0.113.7");
    for name in ["a", "b", "a"] {
        let answer = try_sign_up(&app, name).await;
        assert!(answer.status == 201 || answer.problem() == "email-taken", "{answer:?}");
    }
    let refused = try_sign_up(&app, "c").await.expect_problem(429, "too-many-requests");
    assert_eq!(retry_after(&refused), 60);
    let _ = try_sign_up(&app, "a").await.expect_problem(429, "too-many-requests");
    // A form with a mistake costs no hash and takes nothing.
    app.router = from_address(&base, "198.51.100.1");
    for _ in 0..9 {
        let _ = app.post("/v1/accounts").json(&json!({"email": "x", "password": PASSWORD, "name": "M"})).send().await.expect(422);
    }
    let _ = try_sign_up(&app, "c").await.expect(201);
    app.router = from_address(&base, "203.0.113.7");
    app.clock.advance(Duration::from_secs(60));
    let _ = try_sign_up(&app, "d").await.expect(201);
    assert_eq!(app.sql_i64("select count(*) from accounts_members").await, 4);
}

// H3
#[tokio::test]
async fn sign_ups_in_all_are_limited() {
    let mut app = app_with(LimitSettings { sign_up_in_all: rate("1/minute burst 2"), ..LimitSettings::off() }).await;
    let base = app.router.clone();
    for (number, expected) in [(1, 201), (2, 201), (3, 503), (4, 503)] {
        app.router = from_address(&base, &format!("203.0.113.{number}"));
        let answer = try_sign_up(&app, &format!("m{number}")).await.expect(expected);
        assert!(expected == 201 || (answer.problem() == "overloaded" && retry_after(&answer) == 60), "{answer:?}");
    }
    // Members sign in as before.
    sign_in(&app, "m1@example.com").await;
}

// H3: many sign-ups at once delay sign-ins a little, and refuse none
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_sign_ups_refuses_no_sign_in() {
    let mut app = app_with(LimitSettings::off()).await;
    sign_up(&app, "minji@example.com").await;
    let base = app.router.clone();
    let mut flood = Vec::new();
    for number in 0..60 {
        app.router = from_address(&base, "203.0.113.7");
        let body = json!({"email": format!("flood{number}@example.com"), "password": PASSWORD, "name": "Minji"});
        flood.push(app.post("/v1/accounts").json(&body).send());
    }
    app.router = from_address(&base, "198.51.100.1");
    let sign_ins = async {
        for _ in 0..20 {
            sign_in(&app, "minji@example.com").await;
        }
    };
    let (flood, ()) = tokio::join!(join_all(flood), sign_ins);
    let shed = flood.iter().filter(|answer| answer.problem() == "overloaded").count();
    assert!(shed > 0 && flood.iter().all(|answer| answer.status == 201 || answer.problem() == "overloaded"), "{shed} were shed");
}

// L5, R7
#[tokio::test]
async fn a_name_shows_and_has_one_form() {
    let app = app().await;
    let sign_up = |email: &str, name: &str| {
        let body = json!({"email": email, "password": PASSWORD, "name": name});
        app.post("/v1/accounts").json(&body).send()
    };
    for hidden in
        ["\u{200b}", "\u{3164}", "\u{2800}", "\u{ad}", "\u{2060}", "\u{115f}", "\u{fe0f}", "\u{34f}", "\u{e0041}", "Min\u{2028}ji"]
    {
        let refused = sign_up("minji@example.com", hidden).await.expect_problem(422, "invalid-field");
        assert_eq!(refused.body["errors"][0]["pointer"], "/name", "{hidden:?}");
    }
    let made = sign_up("minji@example.com", " \u{1106}\u{1175}\u{11ab}\u{110c}\u{1175} 👩\u{200d}🚀 ").await.expect(201);
    assert_eq!(made.body["name"], "민지 👩\u{200d}🚀");
}

// L6, R7: set on one system, typed on another.
#[tokio::test]
async fn a_password_is_accepted_in_any_normal_form() {
    let app = app().await;
    let (composed, decomposed) = ("우리집-고양이-까매요", "\u{110b}\u{116e}\u{1105}\u{1175}\u{110c}\u{1175}\u{11b8}-고양이-까매요");
    let body = json!({"email": "minji@example.com", "password": decomposed, "name": "Minji"});
    let _ = app.post("/v1/accounts").json(&body).send().await.expect(201);
    for typed in [composed, decomposed] {
        let _ = try_sign_in(&app, "minji@example.com", typed).await.expect(200);
    }
}
