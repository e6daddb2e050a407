use crate::support::{
    OTHER_PASSWORD, PASSWORD, app, app_with, from_address, has_access, operator, rate, retry_after, sign_in, sign_up, try_sign_in,
    without_trace,
};
use accounts::{Accounts, NewMember};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::MemberId;
use futures::future::join_all;
use kit::{
    limits::LimitSettings,
    ports::{Stopwatch, new_id},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use testkit::App;

/// The claims of a token, without a check of its signature.
fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).expect("a JWT has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).expect("base64")).expect("JSON")
}

// A2
#[tokio::test]
async fn a2_the_right_password_gets_tokens_and_a_wrong_one_none() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect(200);
    assert_eq!((&tokens.body["token_type"], &tokens.body["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(tokens.headers["cache-control"], "no-store");
    assert!(has_access(&app, tokens.body["access_token"].as_str().unwrap()).await);
    let refused = try_sign_in(&app, "minji@example.com", OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    assert!(refused.headers.contains_key("www-authenticate"));
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions").await, 1);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Everything in the database: its files, or every row of every table as text.
async fn stored_bytes(app: &App) -> Vec<Vec<u8>> {
    if !app.is_postgres() {
        let files = std::fs::read_dir(app.folder()).expect("the folder is there");
        return files.map(|file| std::fs::read(file.expect("it is readable").path()).expect("it is readable")).collect();
    }
    let tables: Vec<(String,)> =
        app.rows("select cast(table_name as text) from information_schema.tables where table_schema='accounts'").await;
    let mut kept = Vec::new();
    for (table,) in tables {
        let rows: Vec<(String,)> = app.rows(&format!("select cast(t as text) from accounts.{table} t")).await;
        kept.extend(rows.into_iter().map(|(row,)| row.into_bytes()));
    }
    kept
}

// A2
#[tokio::test]
async fn a2_no_secret_reaches_the_database() {
    let app = app().await;
    let signed_up = json!({"email": "minji@example.com", "password": PASSWORD, "name": "Minji"});
    let _ = app.post("/v1/accounts").key("one").json(&signed_up).send().await.expect(201);
    let body = json!({"email": "minji@example.com", "password": PASSWORD});
    let tokens = app.post("/v1/sessions").key("two").json(&body).send().await.expect(200);
    let tokens = crate::support::Tokens::of(&tokens);
    let body = json!({"refresh_token": tokens.refresh});
    let renewed = app.post("/v1/sessions/refresh").key("three").json(&body).send().await.expect(200);
    let renewed = crate::support::Tokens::of(&renewed);
    let cookie = crate::support::web_sign_in(&app, "minji@example.com").await;
    let secret = cookie.strip_prefix("__Host-onrush=").unwrap().to_owned();
    let raw = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    // A plain digest of the request, which guesses could be tried against.
    let digest =
        |path: &str, body: &Value| Sha256::digest([b"POST\0", path.as_bytes(), b"\0", body.to_string().as_bytes()].concat()).to_vec();
    let secrets = [
        digest("/v1/accounts", &signed_up),
        PASSWORD.as_bytes().to_vec(),
        tokens.refresh.clone().into_bytes(),
        raw(&tokens.refresh),
        renewed.refresh.clone().into_bytes(),
        raw(&renewed.refresh),
        tokens.access.into_bytes(),
        renewed.access.into_bytes(),
        raw(&secret),
        secret.into_bytes(),
    ];
    let kept = stored_bytes(&app).await;
    assert!(kept.iter().any(|bytes| contains(bytes, b"minji@example.com")), "the test reads the database");
    for secret in &secrets {
        // As raw bytes, and in hex, the form in which PostgreSQL prints bytes.
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        for bytes in &kept {
            assert!(!contains(bytes, secret) && !contains(bytes, hex.as_bytes()), "{}", String::from_utf8_lossy(secret));
        }
    }
}

// A3; row 26
#[tokio::test]
async fn a3_a_token_names_member_role_issuer_and_expiry() {
    let app = app().await;
    let member_id = sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let claims = claims(&tokens.access);
    assert_eq!(claims["sub"], member_id.to_string());
    assert_eq!(claims["role"], "customer");
    assert!(claims["iss"].as_str().is_some_and(|issuer| !issuer.is_empty()));
    assert_eq!(claims["exp"].as_i64().unwrap(), app.clock_now().seconds() + 3600);

    app.clock.advance(Duration::from_secs(3600 - 1));
    assert!(has_access(&app, &tokens.access).await);
    app.clock.advance(Duration::from_secs(1));
    let refused = app.get("/v1/me").bearer(&tokens.access).send().await.expect_problem(401, "unauthenticated");
    assert!(refused.headers.contains_key("www-authenticate"));
}

// A3; row 24
#[tokio::test]
async fn a3_a_forged_token_is_refused() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let parts: Vec<&str> = tokens.access.split('.').collect();
    let mut as_operator = claims(&tokens.access);
    as_operator["role"] = json!("operator");
    let forged_body = URL_SAFE_NO_PAD.encode(as_operator.to_string());
    let no_algorithm = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "typ": "JWT"}).to_string());
    let mut signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    signature[0] ^= 1;
    for forged in [
        format!("{}.{forged_body}.{}", parts[0], parts[2]),
        format!("{no_algorithm}.{}.", parts[1]),
        format!("{no_algorithm}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode(signature)),
        tokens.refresh.clone(),
    ] {
        let _ = app.get("/v1/me").bearer(&forged).send().await.expect_problem(401, "unauthenticated");
    }
}

async fn imported(app: &App, email: &str) {
    let accounts = Arc::new(Accounts::new(app.kit().clone(), accounts::AccountsSettings::default()));
    let member = NewMember { member_id: MemberId(new_id()), email: email.into(), name: "Shopper".into() };
    accounts.import(vec![member]).await.expect("the import succeeds");
}

// row 29
#[tokio::test]
async fn every_refused_sign_in_gets_the_same_answer() {
    let app = app().await;
    for email in ["open@example.com", "closed@example.com", "disabled@example.com"] {
        sign_up(&app, email).await;
    }
    let closed = sign_in(&app, "closed@example.com").await;
    let _ = app.delete("/v1/me").bearer(&closed.access).send().await.expect(204);
    let (disabled,): (MemberId,) = app.rows("select id from accounts_members where email='disabled@example.com'").await.remove(0);
    let disabling = app.patch(format!("/v1/accounts/{disabled}")).bearer(&operator(&app)).json(&json!({"state": "disabled"}));
    let _ = disabling.send().await.expect(200);
    imported(&app, "imported@example.com").await;

    let known = try_sign_in(&app, "open@example.com", OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        ("closed@example.com", PASSWORD),
        ("disabled@example.com", PASSWORD),
        ("imported@example.com", "!"),
        ("not an address", PASSWORD),
        ("' or 1=1--", PASSWORD),
    ] {
        let refused = try_sign_in(&app, email, password).await.expect(401);
        assert_eq!(without_trace(&refused), without_trace(&known), "{email}");
    }
}

// row 29
#[tokio::test]
async fn an_unknown_address_costs_one_hash_as_well() {
    let app = app().await;
    for n in 0..6 {
        sign_up(&app, &format!("known{n}@example.com")).await;
    }
    let seconds = async |who: &str, n: usize| {
        let watch = Stopwatch::start();
        let _ = try_sign_in(&app, &format!("{who}{n}@example.com"), OTHER_PASSWORD).await.expect(401);
        watch.elapsed().as_secs_f64()
    };
    // Four tries of each account, below the rate limit. The two of a pair run back to back in alternating order,
    // so that other load on the machine affects both alike.
    let mut ratios: Vec<f64> = Vec::new();
    for pair in 0..24 {
        let n = pair % 6;
        ratios.push(if pair / 6 % 2 == 0 {
            let known = seconds("known", n).await;
            seconds("unknown", n).await / known
        } else {
            let unknown = seconds("unknown", n).await;
            unknown / seconds("known", n).await
        });
    }
    ratios.sort_unstable_by(f64::total_cmp);
    // The hash is nearly all of the work. Without it the ratios would be below a tenth.
    assert!((0.6..1.6).contains(&ratios[12]), "{ratios:?}");
}

// row 30
#[tokio::test]
async fn the_sixth_guess_at_a_password_is_rate_limited() {
    let mut app = app().await;
    sign_up(&app, "minji@example.com").await;
    let base = app.router.clone();
    app.router = from_address(&base, "203.0.113.7");
    for _ in 0..5 {
        let _ = try_sign_in(&app, "minji@example.com", OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    }
    for password in [OTHER_PASSWORD, PASSWORD] {
        let refused = try_sign_in(&app, " MINJI@example.com ", password).await.expect_problem(429, "too-many-attempts");
        let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=3600).contains(&wait), "{wait}");
    }
    // Row 41: headers that claim another client address change nothing.
    let body = json!({"email": "minji@example.com", "password": PASSWORD});
    let claimed = app.post("/v1/sessions").header("x-forwarded-for", "198.51.100.1").header("forwarded", "for=198.51.100.1").json(&body);
    let _ = claimed.send().await.expect_problem(429, "too-many-attempts");

    app.router = from_address(&base, "198.51.100.1");
    sign_in(&app, "minji@example.com").await;
    app.router = from_address(&base, "203.0.113.7");
    let refused = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    app.clock.advance(Duration::from_secs(wait));
    sign_in(&app, "minji@example.com").await;
}

// row 30
#[tokio::test]
async fn simultaneous_guesses_share_one_limit() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let guesses = (0..12).map(|_| try_sign_in(&app, "minji@example.com", OTHER_PASSWORD));
    let statuses: Vec<u16> = join_all(guesses).await.iter().map(|answer| answer.status).collect();
    let checked = statuses.iter().filter(|status| **status == 401).count();
    assert!(checked <= 5, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429 | 503)), "{statuses:?}");
}

// row 30
#[tokio::test]
async fn one_address_can_try_a_hundred_accounts() {
    let mut app = app().await;
    sign_up(&app, "minji@example.com").await;
    let base = app.router.clone();
    app.router = from_address(&base, "203.0.113.7");
    for n in 0..100 {
        let _ = try_sign_in(&app, &format!("member{n}@example.com"), OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    }
    let _ = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    app.router = from_address(&base, "198.51.100.1");
    sign_in(&app, "minji@example.com").await;
}

// A right password is no guess: it does not count against the address's limit.
#[tokio::test]
async fn a_right_password_does_not_count_as_a_guess() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    for _ in 0..4 {
        let _ = try_sign_in(&app, "minji@example.com", OTHER_PASSWORD).await.expect(401);
    }
    sign_in(&app, "minji@example.com").await;
    for _ in 0..4 {
        let _ = try_sign_in(&app, "minji@example.com", OTHER_PASSWORD).await.expect(401);
    }
    sign_in(&app, "minji@example.com").await;
}

// row 32
#[tokio::test]
async fn too_many_simultaneous_sign_ins_are_shed() {
    let mut app = app().await;
    sign_up(&app, "minji@example.com").await;
    let base = app.router.clone();
    let body = json!({"email": "minji@example.com", "password": PASSWORD});
    // The second round shows that shed requests were not counted as guesses.
    for _ in 0..2 {
        let mut requests = Vec::new();
        for n in 0..500 {
            app.router = from_address(&base, &format!("203.0.113.{}", n % 125));
            requests.push(app.post("/v1/sessions").json(&body).send());
        }
        let answers = join_all(requests).await;
        let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
        assert!(count(200) > 0 && count(503) > 0 && count(200) + count(503) == 500, "{} came in, {} were shed", count(200), count(503));
        for shed in answers.iter().filter(|answer| answer.status == 503) {
            assert_eq!(shed.problem(), "overloaded");
            assert!(shed.headers.contains_key("retry-after"));
        }
    }
    sign_in(&app, "minji@example.com").await;
}

// H2: guessers at an address do not lock out a customer who signed in there before
#[tokio::test]
async fn guessers_do_not_lock_out_a_known_customer() {
    let mut app = app().await;
    for name in ["minji", "jisoo"] {
        sign_up(&app, &format!("{name}@example.com")).await;
    }
    let base = app.router.clone();
    app.router = from_address(&base, "203.0.113.7");
    sign_in(&app, "minji@example.com").await;
    for n in 0..100 {
        let _ = try_sign_in(&app, &format!("member{n}@example.com"), OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    }
    let _ = try_sign_in(&app, "jisoo@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    sign_in(&app, "minji@example.com").await;
    // Known, but not to be guessed without end.
    for _ in 0..5 {
        let _ = try_sign_in(&app, "minji@example.com", OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    }
    let _ = try_sign_in(&app, "minji@example.com", OTHER_PASSWORD).await.expect_problem(429, "too-many-attempts");
}

// M10
#[tokio::test]
async fn an_account_is_not_guessed_from_everywhere() {
    let mut app = app_with(LimitSettings { wrong_password_per_account: rate("10/hour burst 10"), ..LimitSettings::off() }).await;
    sign_up(&app, "minji@example.com").await;
    let base = app.router.clone();
    app.router = from_address(&base, "198.51.100.1");
    sign_in(&app, "minji@example.com").await;
    for n in 0..10 {
        app.router = from_address(&base, &format!("203.0.113.{n}"));
        let _ = try_sign_in(&app, "minji@example.com", OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    }
    app.router = from_address(&base, "203.0.113.99");
    let refused = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    assert_eq!(retry_after(&refused), 360);
    app.router = from_address(&base, "198.51.100.1");
    sign_in(&app, "minji@example.com").await;
}

// D3
#[tokio::test]
async fn simultaneous_right_passwords_wait_a_second_at_most() {
    let mut app = app_with(LimitSettings::default()).await;
    let base = app.router.clone();
    app.router = from_address(&base, "203.0.113.7");
    sign_up(&app, "minji@example.com").await;
    let answers = join_all((0..8).map(|_| try_sign_in(&app, "minji@example.com", PASSWORD))).await;
    assert!(answers.iter().filter(|answer| answer.status == 200).count() >= 5, "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.problem(), retry_after(refused)), (429, "too-many-attempts", 1));
    }
    sign_in(&app, "minji@example.com").await;
}

// H3: a right password is no licence to fill the table of sessions
#[tokio::test]
async fn right_passwords_have_limits_too() {
    let settings =
        LimitSettings { sign_in_per_member: rate("1/hour burst 3"), sign_in_per_address: rate("1/hour burst 5"), ..LimitSettings::off() };
    let mut app = app_with(settings).await;
    for name in ["minji", "jisoo"] {
        sign_up(&app, &format!("{name}@example.com")).await;
    }
    let base = app.router.clone();
    app.router = from_address(&base, "203.0.113.7");
    for _ in 0..3 {
        sign_in(&app, "minji@example.com").await;
    }
    for _ in 0..9 {
        let _ = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    }
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions").await, 3);
    // The account beyond its own limit took nothing from the address.
    for _ in 0..2 {
        sign_in(&app, "jisoo@example.com").await;
    }
    let _ = try_sign_in(&app, "jisoo@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    app.router = from_address(&base, "198.51.100.1");
    sign_in(&app, "jisoo@example.com").await;
}
