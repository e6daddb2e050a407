use crate::support::{app, create, member};
use kit::ports::new_id;

#[tokio::test]
async fn a_member_reads_its_own_entries_only() {
    let app = app().await;
    let owner = member(&app);
    let created = create(&app, &owner, "First").await;
    let path = format!("/v1/@service@/{}", created.body["id"].as_str().expect("an id"));
    assert_eq!(app.get(&path).bearer(&owner).send().await.expect(200).body, created.body);
    let _ = app.get(&path).bearer(&member(&app)).send().await.expect_problem(404, "not-found");
    let _ = app.get(&path).send().await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn an_unknown_entry_is_not_found() {
    let app = app().await;
    let request = app.get(format!("/v1/@service@/{}", new_id())).bearer(&member(&app));
    let _ = request.send().await.expect_problem(404, "not-found");
}
