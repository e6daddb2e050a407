//! The summaries of products, by which lists filter and sort, after an upgrade.

use crate::world::{World, names};
use kit::{
    Db, Tx,
    db::{Synchronous, migrate},
    engine::Service,
    params,
    ports::new_id,
};
use testkit::{TempFolder, TestDatabase};

/// Writes a product with options at these price differences, as the binary before the summaries does.
async fn insert_like_before(tx: &mut Tx, name: &str, price: i64, deltas: &[(i64, bool)]) {
    let id = new_id();
    let sql = "insert into catalog_products (id, store_id, name, search_name, description, price, policy, state, created_at, version) \
               values ($1, $2, $3, $4, '', $5, 'reserve_on_order', 'on_sale', 1, 3)";
    tx.execute(sql, &params![id, new_id(), name, &name.to_lowercase(), price]).await.expect("the product is new");
    let sql = "insert into catalog_options (sku, product_id, position, name, price_delta, deleted) values ($1, $2, $3, $4, $5, $6)";
    for (position, (delta, deleted)) in (0_i64..).zip(deltas) {
        let name = position.to_string();
        tx.execute(sql, &params![new_id(), id, position, &name, *delta, *deleted]).await.expect("the option is new");
    }
}

async fn prices_are_filled_in(db: Db) {
    let catalog = catalog::Catalog::new(kit::process::detached_kit());
    let migrations = catalog.migrations();
    let mut tx = db.open_writer().await.expect("opens");
    migrate(&mut tx, "catalog", &migrations[..1]).await.expect("migrates");
    insert_like_before(&mut tx, "dear", 0, &[(50, false), (90, false), (10, true), (99, true)]).await;
    insert_like_before(&mut tx, "half", 40, &[(0, false), (-25, false)]).await;
    insert_like_before(&mut tx, "gone", 7, &[(1, true)]).await;
    migrate(&mut tx, "catalog", migrations).await.expect("migrates");
    let sql = "select name, lowest_price, highest_price, summary_version from catalog_products order by name";
    let found: Vec<(String, i64, i64, i64)> = tx.query(sql, &[]).await.expect("it runs");
    let expected = [("dear", 50, 90, 0), ("gone", 7, 7, 0), ("half", 15, 40, 0)];
    assert_eq!(found, expected.map(|(name, lowest, highest, version)| (name.to_owned(), lowest, highest, version)));
}

// R6
#[tokio::test]
async fn the_migration_fills_in_prices_on_sqlite() {
    let folder = TempFolder::new();
    prices_are_filled_in(Db::sqlite(folder.path().join("catalog.db"), Synchronous::Normal)).await;
}

// R6
#[tokio::test]
async fn the_migration_fills_in_prices_on_postgres() {
    let database = TestDatabase::create().await;
    prices_are_filled_in(Db::postgres(&database.url(), &["catalog"]).expect("a URL")).await;
}

// R6 R7: during an upgrade, the binary before may still run.
#[tokio::test]
async fn changes_by_an_earlier_binary_are_summarized() {
    let world = World::new().await;
    world.product("changed", 10, 1).await;
    {
        let mut tx = world.app.kit_of("catalog").db.open_writer().await.expect("opens");
        insert_like_before(&mut tx, "ﬁsh", 20, &[(0, false), (5, false)]).await;
        let sql = "update catalog_products set price=30, version=version+1 where name='changed'";
        assert_eq!(tx.execute(sql, &[]).await.expect("it runs"), 1);
    }
    world.app.job("catalog.summarize").await;
    assert_eq!(names(&world.list("?sort=price_asc").await), ["ﬁsh", "changed"]);
    assert_eq!(names(&world.list("?min_price=25&max_price=25").await), ["ﬁsh"]);
    assert_eq!(names(&world.list("?min_price=26").await), ["changed"]);
    assert_eq!(names(&world.list("?q=FISH").await), ["ﬁsh"]);
    assert_eq!(world.app.sql_i64("select count(*) from catalog_products where summary_version <> version").await, 0);
    let versions = world.app.sql_i64("select max(version) + min(version) from catalog_products").await;
    assert_eq!(versions, 5, "a summary is no change");
}
