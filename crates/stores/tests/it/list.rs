use crate::support::{app, open};
use testkit::TestResponse;

fn names(page: &TestResponse) -> Vec<String> {
    let items = page.body["items"].as_array().expect("a list");
    items.iter().map(|store| store["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn pages_list_all_stores_oldest_first() {
    let app = app().await;
    let mut expected = vec!["Onrush Mall".to_owned()];
    for n in 0..6 {
        expected.push(format!("Store {n}"));
        open(&app, &format!("Store {n}"), None).await;
    }
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = app.get(format!("/v1/stores?limit=3{next}")).send().await.expect(200);
        seen.extend(names(&page));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        assert_eq!(names(&page).len(), 3);
        next = format!("&cursor={cursor}");
        assert!(seen.len() < 20, "the pages do not end");
    }
    assert_eq!(seen, expected);
    let all = app.get("/v1/stores").send().await.expect(200);
    assert_eq!((names(&all), &all.body["next_cursor"]), (expected, &serde_json::Value::Null));
}

// rows 17, 18, 19
#[tokio::test]
async fn bad_parameters_are_refused() {
    let app = app().await;
    for (query, status, slug) in [
        ("limit=0", 422, "invalid-parameter"),
        ("limit=-1", 422, "invalid-parameter"),
        ("limit=1000000000", 422, "invalid-parameter"),
        ("limit=1&limit=9", 400, "duplicate-parameter"),
        ("sort=id;drop table", 422, "invalid-parameter"),
        ("cursor=abc", 400, "invalid-cursor"),
        ("cursor=", 400, "invalid-cursor"),
    ] {
        let uri = format!("/v1/stores?{}", query.replace(' ', "%20"));
        let _ = app.get(uri).send().await.expect_problem(status, slug);
    }
}
