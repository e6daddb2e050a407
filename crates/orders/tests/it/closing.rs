//! Closed accounts: unpaid orders are cancelled, the cart is emptied, and paid orders go on.

use crate::world::World;
use contracts::{Message, calls::CountOpenOrders, messages::MemberClosed};
use serde_json::{Value, json};

async fn close(world: &World) {
    world.app.emit("accounts", world.buyer, Message::MemberClosed(MemberClosed { member_id: world.buyer })).await;
}

async fn place(world: &World, body: &Value, key: &str) -> String {
    let order = world.app.post("/v1/orders").bearer(&world.token).key(key).header("prefer", "wait=10").json(body);
    order.send().await.expect(201).body["id"].as_str().expect("an id").to_owned()
}

async fn states(world: &World) -> Vec<(String,)> {
    world.app.rows("select state from orders_orders order by id").await
}

// R3: in both saga modes; also when the message comes twice.
#[tokio::test]
async fn a_closed_account_keeps_paid_orders_only() {
    for mode in World::run_modes() {
        let world = World::in_mode(mode).await;
        place(&world, &world.full(), "unpaid").await;
        place(&world, &world.full_paid(), "paid").await;
        let sku = world.sell(5_000);
        let put = world.app.put(format!("/v1/cart/items/{sku}")).bearer(&world.token).json(&json!({"quantity": 3}));
        let _ = put.send().await.expect(200);
        assert_eq!(world.app.kit_of("orders").links.call(CountOpenOrders { member_id: world.buyer }).await.expect("a count"), 1);

        world.app.faults.repeat("orders", "member.closed", 1);
        close(&world).await;
        close(&world).await;
        world.app.eventually("select count(*) from orders_orders where state='CANCELLED' and saga_state='UNDONE'", 1).await;
        assert_eq!(states(&world).await, [("CANCELLED".to_owned(),), ("PAID".to_owned(),)]);
        assert_eq!(world.app.sql_i64("select count(*) from orders_cart_items").await, 0);
        let told: Vec<(String,)> = world.app.rows("select detail from orders_events where to_state='CANCELLED'").await;
        assert_eq!(told, [("The buyer closed the account.".to_owned(),)]);
        assert_eq!(world.app.sql_i64("select count(*) from orders_idempotency where status is not null").await, 0);
    }
}
