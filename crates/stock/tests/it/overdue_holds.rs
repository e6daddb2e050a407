//! `stock.expire`: reports overdue holds.

use crate::world::{World, order};
use std::time::Duration;

// I-S5: only the saga ends holds. Stock reports overdue ones and keeps them, because the order may still be paid.
#[tokio::test]
async fn an_overdue_hold_is_reported_and_kept() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    world.send(of, vec![world.reserve(of, &[(sku, 2)])]).await;
    world.app.clock.advance(Duration::from_secs(3_600));
    world.app.job("stock.expire").await;
    assert_eq!(world.levels(sku).await, [5, 2, 3, 0]);
    world.audit().await;
}
