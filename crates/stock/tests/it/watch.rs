//! `stock.expire`: the watch over holds that outlive their time.

use crate::world::{World, order};
use std::time::Duration;

// I-S5: the saga ends holds; stock only tells, and never frees what an order may still be paying for.
#[tokio::test]
async fn an_overdue_hold_is_told_of_and_kept() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    world.tell(of, vec![world.reserve(of, &[(sku, 2)])]).await;
    world.app.clock.advance(Duration::from_secs(3_600));
    world.app.job("stock.expire").await;
    assert_eq!(world.level(sku).await, [5, 2, 3, 0]);
    world.audit().await;
}
