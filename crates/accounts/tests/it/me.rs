use crate::support::{app, operator, sign_in, sign_up};
use contracts::MemberId;
use kit::{auth::Role, ports::new_id};

// A8, A14
#[tokio::test]
async fn a8_a14_members_see_only_their_own_account() {
    let app = app().await;
    let minji = sign_up(&app, "minji@example.com").await;
    let jisu = sign_up(&app, "jisu@example.com").await;
    for (email, id, other) in [("minji@example.com", minji, jisu), ("jisu@example.com", jisu, minji)] {
        let tokens = sign_in(&app, email).await;
        let me = app.get("/v1/me").bearer(&tokens.access).send().await.expect(200);
        assert_eq!((me.body["id"].as_str().unwrap(), me.body["email"].as_str().unwrap()), (id.to_string().as_str(), email));
        assert!(me.body.get("password_hash").is_none() && me.body.get("state").is_none());
        let _ = app.get(format!("/v1/accounts/{other}")).bearer(&tokens.access).send().await.expect_problem(403, "forbidden");
    }
}

// row 23
#[tokio::test]
async fn a_missing_or_bad_token_is_refused() {
    let app = app().await;
    for token in [None, Some("garbage"), Some("a.b.c")] {
        let request = app.get("/v1/me");
        let request = if let Some(token) = token { request.bearer(token) } else { request };
        let refused = request.send().await.expect_problem(401, "unauthenticated");
        assert!(refused.headers.contains_key("www-authenticate"));
    }
}

#[tokio::test]
async fn a_token_without_an_account_is_refused() {
    let app = app().await;
    let _ = app.get("/v1/me").bearer(&operator(&app)).send().await.expect_problem(401, "unauthenticated");
    let stranger = app.token(MemberId(new_id()), Role::Customer);
    let _ = app.get("/v1/me").bearer(&stranger).send().await.expect_problem(401, "unauthenticated");
}
