use crate::support::{
    Holdings, PASSWORD, add_operator, app, has_access, operator, services_with, sign_in, sign_up, try_refresh, try_sign_in,
};
use accounts::AccountsSettings;
use contracts::Message;
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;
use testkit::App;

// A8; row 28
#[tokio::test]
async fn a8_closing_ends_access_and_frees_the_address() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let here = sign_in(&app, "minji@example.com").await;
    let there = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/me").bearer(&here.access).send().await.expect(204);
    for tokens in [&here, &there] {
        assert!(!has_access(&app, &tokens.access).await);
        let _ = try_refresh(&app, &tokens.refresh).await.expect_problem(401, "unauthenticated");
    }
    let _ = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(401, "bad-credentials");

    let again = sign_up(&app, "minji@example.com").await;
    assert_ne!(again, id, "the address opens another account");
    let tokens = sign_in(&app, "minji@example.com").await;
    assert!(has_access(&app, &tokens.access).await);
}

// A8
#[tokio::test]
async fn a8_closing_erases_personal_data_and_keeps_the_row() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let edit = app.patch("/v1/me").bearer(&tokens.access).json(&serde_json::json!({"phone": "010-1234-5678"}));
    let _ = edit.send().await.expect(200);
    let _ = app.delete("/v1/me").bearer(&tokens.access).send().await.expect(204);
    let seen = app.get(format!("/v1/accounts/{id}")).bearer(&operator(&app)).send().await.expect(200);
    assert_eq!((&seen.body["state"], &seen.body["email"], &seen.body["name"]), (&"closed".into(), &"".into(), &"".into()));
    assert!(seen.body["closed_at"].is_string() && seen.body.get("phone").is_none());
    for column in ["email", "name", "phone", "email_normalized"] {
        let sql = format!("select count(*) from accounts_members where {column} like '%minji%' or {column} like '%1234%'");
        assert_eq!(app.sql_i64(&sql).await, 0, "{column}");
    }
}

// row 62
#[tokio::test]
async fn simultaneous_closes_close_once() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let answers = join_all((0..4).map(|_| app.delete("/v1/me").bearer(&tokens.access).send())).await;
    assert!(answers.iter().all(|answer| matches!(answer.status, 204 | 401)), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.status == 204));
    assert_eq!(app.sql_i64("select version from accounts_members").await, 2);
}

async fn closings(app: &App) -> Vec<uuid::Uuid> {
    let messages = app.messages("accounts").await.into_iter();
    messages.filter(|(_, message)| matches!(message, Message::MemberClosed(_))).map(|(key, _)| key).collect()
}

// R3, L12: the refusal names all reasons, and changes nothing.
#[tokio::test]
async fn an_account_with_cash_a_store_or_open_orders_stays() {
    for (holdings, reasons) in [
        (Holdings { cash: 50_000, ..Holdings::default() }, json!(["cash"])),
        (Holdings { stores: 1, ..Holdings::default() }, json!(["store"])),
        (Holdings { open_orders: 2, ..Holdings::default() }, json!(["open-orders"])),
        (Holdings { cash: 1, stores: 2, open_orders: 1 }, json!(["cash", "store", "open-orders"])),
    ] {
        let app = App::start(|kit| services_with(kit, AccountsSettings::default(), holdings)).await;
        sign_up(&app, "minji@example.com").await;
        let tokens = sign_in(&app, "minji@example.com").await;
        let refused = app.delete("/v1/me").bearer(&tokens.access).send().await.expect_problem(409, "account-in-use");
        assert_eq!(refused.body["reasons"], reasons);
        assert!(has_access(&app, &tokens.access).await);
        assert!(closings(&app).await.is_empty());
    }
}

// R3: the second message follows when the last access token has expired, and only once.
#[tokio::test]
async fn a_closing_is_announced_twice() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/me").bearer(&tokens.access).send().await.expect(204);
    assert_eq!(closings(&app).await, [id.0]);
    app.clock.advance(Duration::from_secs(3_600));
    app.job("accounts.settle_closings").await;
    assert_eq!(closings(&app).await.len(), 1, "an access token may still be valid");
    app.clock.advance(Duration::from_secs(601));
    app.job("accounts.settle_closings").await;
    app.job("accounts.settle_closings").await;
    assert_eq!(closings(&app).await, [id.0, id.0]);
}

// R3: accounts that an earlier version closed are announced, too.
#[tokio::test]
async fn an_account_closed_by_an_earlier_version_is_announced() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let mut tx = app.kit().db.open_writer().await.expect("a connection");
    // The statement of that version.
    let closed = "update accounts_members set email_normalized=null, email='', name='', phone=null, password_hash='!', state='closed', \
                  closed_at=1, version=2";
    tx.batch(closed).await.expect("the account is closed");
    assert!(closings(&app).await.is_empty());
    app.job("accounts.settle_closings").await;
    assert_eq!(closings(&app).await, [id.0]);
    assert!(!has_access(&app, &tokens.access).await);
}

// M12: also the answer that an operator got about the account, and one stored in the same transaction.
#[tokio::test]
async fn no_stored_answer_shows_a_closed_account() {
    let app = app().await;
    let body = json!({"email": "minji@example.com", "password": PASSWORD, "name": "Kim Minji", "phone": "010-1234-5678"});
    let id = app.post("/v1/accounts").key("one").json(&body).send().await.expect(201).body["id"].as_str().expect("an id").to_owned();
    let other = json!({"email": "minsu@example.com", "password": PASSWORD, "name": "Lee Minsu"});
    let _ = app.post("/v1/accounts").key("one").json(&other).send().await.expect(201);
    let tokens = sign_in(&app, "minji@example.com").await;
    let edit = |key: &str| app.patch("/v1/me").bearer(&tokens.access).key(key).json(&json!({"name": "Kim Minji-Ah"}));
    let _ = edit("two").send().await.expect(200);
    for state in ["disabled", "active"] {
        let set = app.patch(format!("/v1/accounts/{id}")).bearer(&operator(&app)).key("three").json(&json!({"state": state}));
        let _ = set.send().await.expect(200);
    }
    let tokens = sign_in(&app, "minji@example.com").await;
    let shows = "select count(*) from accounts_idempotency where status<300 and length(body)>0";
    assert_eq!(app.sql_i64(shows).await, 5);
    let last_edit = app.patch("/v1/me").bearer(&tokens.access).key("four").json(&json!({"name": "Kim Minji-Ah"}));
    let close = app.delete("/v1/me").bearer(&tokens.access).key("five");
    let (_, closed) = tokio::join!(last_edit.send(), close.send());
    let _ = closed.expect(204);
    assert_eq!(app.sql_i64(shows).await, 1, "only the other member's answer is left");
}

// M6, R2
#[tokio::test]
async fn the_last_operator_cannot_close() {
    let app = app().await;
    add_operator(&app, "ops@example.com").await;
    let tokens = sign_in(&app, "ops@example.com").await;
    let _ = app.delete("/v1/me").bearer(&tokens.access).send().await.expect_problem(409, "last-operator");
    assert!(has_access(&app, &tokens.access).await, "nothing changed");
    add_operator(&app, "second@example.com").await;
    let _ = app.delete("/v1/me").bearer(&tokens.access).send().await.expect(204);
    let last = sign_in(&app, "second@example.com").await;
    let _ = app.delete("/v1/me").bearer(&last.access).send().await.expect_problem(409, "last-operator");
}

// M6: all close at once, in one process.
#[tokio::test]
async fn of_operators_that_close_together_one_stays() {
    let app = app().await;
    let mut sessions = Vec::new();
    for n in 0..4 {
        add_operator(&app, &format!("ops{n}@example.com")).await;
        sessions.push(sign_in(&app, &format!("ops{n}@example.com")).await);
    }
    let answers = join_all(sessions.iter().map(|tokens| app.delete("/v1/me").bearer(&tokens.access).send())).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(204), count(409)), (3, 1), "{answers:?}");
    assert_eq!(app.sql_i64("select count(*) from accounts_members where role='operator' and state='active'").await, 1);
}
