//! Two processes on one database.

use crate::support::{create, member, services};
use testkit::App;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_processes_read_an_entry() {
    let one = App::builder().on_postgres().start(services).await;
    let other = one.start_another_process(services).await;
    let token = member(&one);
    let created = create(&one, &token, "First").await;
    let path = format!("/v1/@service@/{}", created.body["id"].as_str().expect("an id"));
    for app in [&one, &other] {
        assert_eq!(app.get(&path).bearer(&token).send().await.expect(200).body, created.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_counts_once_on_two_processes() {
    let one = App::builder().on_postgres().start(services).await;
    let other = one.start_another_process(services).await;
    let token = member(&one);
    for app in [&one, &other] {
        let request = app.post("/v1/@service@").bearer(&token).key("k").json(&serde_json::json!({"name": "First"}));
        let _ = request.send().await.expect(201);
    }
    assert_eq!(one.sql_i64("select count(*) from @service@_entries").await, 1);
}
