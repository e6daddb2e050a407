use crate::support::{app, open, services};
use contracts::{MALL_STORE, Message};

#[tokio::test]
async fn the_malls_own_store_is_created_once() {
    let app = app().await;
    let wine = open(&app, "Wine", None).await;
    let app = app.restart(services).await;
    assert_eq!(app.sql_i64("select count(*) from stores_stores").await, 2);
    for id in [MALL_STORE, wine] {
        let _ = app.get(format!("/v1/stores/{id}")).send().await.expect(200);
    }
    let messages = app.messages("stores").await;
    let malls = messages
        .iter()
        .filter(|(key, message)| *key == MALL_STORE.0 && matches!(message, Message::StoreCreated(created) if created.seller_id.is_none()));
    assert_eq!((malls.count(), messages.len()), (1, 2));
}
