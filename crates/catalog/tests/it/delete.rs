//! `catalog.delete`

use crate::world::{World, names};
use contracts::{MemberId, ProductId};
use kit::{auth::Role, ports::new_id};
use serde_json::json;

// P1
#[tokio::test]
async fn a_deleted_product_is_hidden_and_its_row_stays() {
    let world = World::new().await;
    let (of, sku) = world.product("Rose", 1_000, 5).await;
    assert_eq!((names(&world.list("").await), world.prices(&[sku]).await.len()), (vec!["Rose"], 1));
    let path = format!("/v1/products/{of}");
    let deleted = world.app.delete(&path).bearer(&world.seller()).send().await.expect(204);
    assert!(deleted.bytes.is_empty());
    let _ = world.app.get(&path).send().await.expect_problem(404, "not-found");
    assert_eq!((names(&world.list("").await).len(), world.prices(&[sku]).await.len()), (0, 0));
    let _ = world.app.delete(&path).bearer(&world.seller()).send().await.expect_problem(404, "not-found");
    let _ = world.change(of, &json!({"state": "on_sale"})).await.expect_problem(404, "not-found");
    assert_eq!(world.app.sql_i64("select count(*) from catalog_products where state='deleted' and version=2").await, 1);
}

// P1 row 40
#[tokio::test]
async fn sellers_delete_only_in_their_own_store() {
    let world = World::new().await;
    let (of, _) = world.product("Rose", 1_000, 5).await;
    let delete = |of: ProductId, token: String| world.app.delete(format!("/v1/products/{of}")).bearer(&token).key("mine").send();
    let _ = delete(of, world.app.token(MemberId(new_id()), Role::Seller)).await.expect_problem(404, "not-found");
    let _ = delete(of, world.app.token(world.seller_id, Role::Customer)).await.expect_problem(403, "forbidden");
    let _ = delete(ProductId(new_id()), world.operator()).await.expect_problem(404, "not-found");
    let _ = world.app.delete(format!("/v1/products/{of}")).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(world.detail(of).await["name"], "Rose");
}

// row 60
#[tokio::test]
async fn a_repeat_with_the_same_key_gets_the_same_answer() {
    let world = World::new().await;
    let (of, _) = world.product("Rose", 1_000, 5).await;
    let delete = || world.app.delete(format!("/v1/products/{of}")).bearer(&world.seller()).key("off-1").send();
    let _ = delete().await.expect(204);
    let again = delete().await.expect(204);
    assert!(again.headers.contains_key("idempotent-replayed"));
}
