//! Several processes on one database: the mall's own store is created once, and a new store reaches all processes within moments.

use crate::support::{open, services};
use contracts::{
    MemberId,
    calls::{GetStore, GetStoresOfSeller},
};
use kit::ports::new_id;
use std::time::Duration;
use testkit::App;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_store_reaches_all_processes() {
    let one = App::builder().on_postgres().start(services).await;
    let (second, third) = tokio::join!(one.start_another_process(services), one.start_another_process(services));
    assert_eq!(one.sql_i64("select count(*) from stores_stores").await, 1, "the mall's own");
    let seller_id = MemberId(new_id());
    for app in [&one, &second, &third] {
        assert_eq!(app.kit().links.call(GetStoresOfSeller { seller_id }).await.unwrap(), []);
    }
    let store_id = open(&second, "Wine", Some(seller_id)).await;
    assert!(second.kit().links.call(GetStore { store_id }).await.unwrap().is_some(), "at once where it was opened");
    for app in [&one, &third] {
        let mut found = None;
        for _ in 0..300 {
            found = app.kit().links.call(GetStore { store_id }).await.unwrap();
            if found.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(found.and_then(|store| store.seller_id), Some(seller_id));
        assert_eq!(app.get(format!("/v1/stores/{store_id}")).send().await.expect(200).body["name"], "Wine");
    }
}
