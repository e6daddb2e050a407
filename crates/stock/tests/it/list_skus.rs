//! Messages about new SKUs of the catalogue.

use crate::world::World;
use crate::world::order;
use contracts::{
    Sku,
    calls::{GetAvailability, GetStockVersion},
    messages::StockPolicy,
};
use kit::ports::new_id;
use std::time::Duration;
use testkit::App;

// S4
#[tokio::test]
async fn each_option_gets_a_stock_of_its_own() {
    let world = World::new().await;
    let (small, large) = (Sku(new_id()), Sku(new_id()));
    world.list(&[(small, 5), (large, 0)], StockPolicy::DeductOnPayment).await;
    assert_eq!((world.levels(small).await, world.levels(large).await), ([5, 0, 5, 0], [0, 0, 0, 0]));
    assert_eq!(world.app.sql_i64("select count(*) from stock_movements where kind='INITIAL'").await, 2);
    world.audit().await;
}

#[tokio::test]
async fn listing_again_changes_nothing() {
    for &fold in App::fold_settings() {
        let world = World::with(App::builder().fold(fold)).await;
        world.app.faults.repeat("stock", "skus.listed", 1);
        let (old, new) = (Sku(new_id()), Sku(new_id()));
        world.list(&[(old, 5)], StockPolicy::ReserveOnOrder).await;
        world.list(&[(old, 50), (new, 1)], StockPolicy::ReserveOnOrder).await;
        world.app.eventually("select count(*) from stock_items", 2).await;
        assert_eq!((world.levels(old).await, world.levels(new).await), ([5, 0, 5, 0], [1, 0, 1, 0]));
        assert_eq!(world.app.faults.times_applied("stock", "skus.listed"), 1);
        world.audit().await;
    }
}

#[tokio::test]
async fn availability_leaves_out_unknown_skus() {
    let world = World::new().await;
    let (five, two, unknown) = (world.sku(5).await, world.sku(2).await, Sku(new_id()));
    let asked = GetAvailability { skus: vec![two, unknown, five, two] };
    let found = world.app.kit().links.call(asked).await.expect("stock answers");
    assert_eq!((found.len(), found[&five], found[&two]), (2, 5, 2));
}

/// The part of the version that counts changes. The rest changes with time if other processes write, too.
async fn version(world: &World) -> u32 {
    let version = world.app.kit().links.call(GetStockVersion {}).await.expect("stock answers");
    u32::try_from(version & u64::from(u32::MAX)).expect("masked to 32 bits")
}

/// Waits for the next version: a change is visible in the database shortly before the version changes.
async fn version_after(world: &World, before: u32) -> u32 {
    for _ in 0..1_000 {
        let now = version(world).await;
        if now != before {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the version stays {before}");
}

#[tokio::test]
async fn the_version_changes_with_every_change_only() {
    let world = World::new().await;
    let first = version(&world).await;
    let sku = world.sku(5).await;
    let second = version_after(&world, first).await;
    let of = order();
    world.send(of, vec![world.reserve(of, &[(sku, 2)])]).await;
    let third = version_after(&world, second).await;
    let short = order();
    world.send(short, vec![world.reserve(short, &[(sku, 9)])]).await;
    assert_eq!(version(&world).await, third, "a refusal changes nothing");
    assert!(first != third, "no version comes twice");
}
