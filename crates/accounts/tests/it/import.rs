use crate::support::{PASSWORD, app, has_access, sign_in, sign_up, try_sign_in};
use accounts::{Accounts, AccountsSettings, ImportError, NewMember};
use contracts::{MemberId, Message};
use kit::ports::new_id;
use std::{collections::HashSet, sync::Arc};
use testkit::App;

fn accounts_of(app: &App) -> Arc<Accounts> {
    Arc::new(Accounts::new(app.kit().clone(), AccountsSettings::default()))
}

fn shoppers(count: usize) -> Vec<NewMember> {
    let member = |n| NewMember { member_id: MemberId(new_id()), email: format!("shopper{n}@example.com"), name: format!("Shopper {n}") };
    (0..count).map(member).collect()
}

#[tokio::test]
async fn imported_members_have_sessions_and_no_password() {
    let app = app().await;
    let wanted = shoppers(1_234);
    let ids: Vec<MemberId> = wanted.iter().map(|member| member.member_id).collect();
    let imported = accounts_of(&app).import(wanted).await.expect("the import succeeds");
    assert_eq!(imported.iter().map(|member| member.member_id).collect::<Vec<_>>(), ids);
    assert_eq!(imported[700].email, "shopper700@example.com");

    let messages = app.messages("accounts").await;
    let announced: HashSet<MemberId> = messages
        .iter()
        .map(|(key, message)| match message {
            Message::MemberRegistered(registered) if *key == registered.member_id.0 => registered.member_id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((messages.len(), announced), (1_234, ids.iter().copied().collect()));

    for member in [&imported[0], &imported[499], &imported[500], &imported[1_233]] {
        let me = app.get("/v1/me").bearer(&member.access_token).send().await.expect(200);
        assert_eq!(me.body["id"], member.member_id.to_string());
        for password in ["!", "", PASSWORD] {
            let _ = try_sign_in(&app, &member.email, password).await.expect_problem(401, "bad-credentials");
        }
    }
    // The session is a real one, so it can be ended.
    let _ = app.delete("/v1/sessions/current").bearer(&imported[0].access_token).send().await.expect(204);
    assert!(!has_access(&app, &imported[0].access_token).await);
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions where reason='signed_out'").await, 1);
}

#[tokio::test]
async fn importing_again_gives_the_same_members_with_new_sessions() {
    let app = app().await;
    let first = accounts_of(&app).import(shoppers(10)).await.expect("the import succeeds");
    let second = accounts_of(&app).import(shoppers(12)).await.expect("the import succeeds");
    for (before, after) in first.iter().zip(&second) {
        assert_eq!(before.member_id, after.member_id);
        assert_ne!(before.access_token, after.access_token);
        assert!(has_access(&app, &after.access_token).await);
    }
    assert_eq!(app.sql_i64("select count(*) from accounts_members").await, 12);
    assert_eq!(app.messages("accounts").await.len(), 12);
}

#[tokio::test]
async fn an_account_that_was_not_imported_is_refused() {
    let app = app().await;
    sign_up(&app, "shopper3@example.com").await;
    let refused = accounts_of(&app).import(shoppers(5)).await;
    assert!(matches!(refused, Err(ImportError::Taken)), "{refused:?}");
    assert_eq!(app.sql_i64("select count(*) from accounts_members").await, 1, "the chunk is all or nothing");
    sign_in(&app, "shopper3@example.com").await;
    let bad = NewMember { email: "nowhere".into(), ..shoppers(1).remove(0) };
    assert!(matches!(accounts_of(&app).import(vec![bad]).await, Err(ImportError::BadEmail(_))));
}
