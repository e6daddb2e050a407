use crate::support::{app, sign_in, sign_up};
use contracts::{MemberId, Message, StoreId, messages::StoreCreated};
use kit::ports::new_id;
use testkit::App;

pub async fn open_store(app: &App, seller_id: Option<MemberId>) {
    let store_id = StoreId(new_id());
    app.emit("stores", store_id, Message::StoreCreated(StoreCreated { store_id, seller_id, name: "Wine".into() })).await;
}

async fn role(app: &App, id: MemberId) -> String {
    let mut rows: Vec<(String, MemberId)> = app.rows("select role, id from accounts_members").await;
    rows.retain(|(_, member)| *member == id);
    rows.remove(0).0
}

// A5
#[tokio::test]
async fn a5_a_store_makes_its_member_a_seller() {
    let app = app().await;
    let seller = sign_up(&app, "seller@example.com").await;
    let shopper = sign_up(&app, "shopper@example.com").await;
    open_store(&app, Some(seller)).await;
    open_store(&app, Some(seller)).await;
    assert_eq!(role(&app, seller).await, "seller");
    assert_eq!(role(&app, shopper).await, "customer");
    assert_eq!(app.sql_i64("select max(version) from accounts_members").await, 2, "the second store changes nothing");
    let tokens = sign_in(&app, "seller@example.com").await;
    let me = app.get("/v1/me").bearer(&tokens.access).send().await.expect(200);
    assert_eq!(me.body["role"], "seller");
}

// A5
#[tokio::test]
async fn a5_a_repeated_message_changes_nothing() {
    let app = app().await;
    let seller = sign_up(&app, "seller@example.com").await;
    app.faults.repeat("accounts", "store.created", 1);
    open_store(&app, Some(seller)).await;
    assert_eq!(app.faults.times_applied("accounts", "store.created"), 1);
    assert_eq!(role(&app, seller).await, "seller");
    assert_eq!(app.sql_i64("select version from accounts_members").await, 2);
}

#[tokio::test]
async fn a_store_without_an_open_account_makes_no_seller() {
    let app = app().await;
    let gone = sign_up(&app, "gone@example.com").await;
    let tokens = sign_in(&app, "gone@example.com").await;
    let _ = app.delete("/v1/me").bearer(&tokens.access).send().await.expect(204);
    open_store(&app, None).await;
    open_store(&app, Some(MemberId(new_id()))).await;
    open_store(&app, Some(gone)).await;
    assert_eq!(role(&app, gone).await, "customer");
    assert_eq!(app.sql_i64("select count(*) from accounts_dead_letters").await, 0);
}
