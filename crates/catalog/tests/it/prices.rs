//! `GetPrices`: the prices that orders are charged.

use crate::world::{World, id, skus};
use contracts::{Sku, Won, calls::PricedSku, messages::StockPolicy};
use kit::ports::new_id;
use serde_json::json;

// P5 P13
#[tokio::test]
async fn each_sku_has_its_price_name_store_and_policy() {
    let world = World::new().await;
    let body = json!({"name": "Merlot", "price": 500, "stock_policy": "deduct_on_payment", "options": [{"name": "a"}, {"name": "b", "price_delta": -100}]});
    let created = world.create(&body).await.expect(201).body;
    let (of, options) = (id(&created), skus(&created));
    let (_, plain) = world.product("Rose", 70, 0).await;
    let unknown = Sku(new_id());
    for _ in 0..2 {
        let mut priced = world.prices(&[options[1], unknown, plain]).await;
        priced.sort_by_key(|priced| priced.price);
        let (store_id, product_id) = (world.store_id, of);
        let policy = StockPolicy::DeductOnPayment;
        assert_eq!((priced[0].sku, priced[0].name.as_str(), priced[0].policy), (plain, "Rose", StockPolicy::ReserveOnOrder));
        assert_eq!(
            priced[1],
            PricedSku { sku: options[1], product_id, store_id, name: "Merlot / b".into(), price: Won(400), policy, max_unpaid: None }
        );
        assert_eq!(priced.len(), 2);
    }
}

// P13
#[tokio::test]
async fn a_changed_price_is_effective_at_once() {
    let world = World::new().await;
    let (of, sku) = world.product("Rose", 0, 5).await;
    for price in 1..50 {
        let _ = world.change(of, &json!({"price": price})).await.expect(200);
        assert_eq!(world.prices(&[sku]).await[0].price, Won(price));
        assert_eq!(world.detail(of).await["price"], price);
        assert_eq!(world.list("").await["items"][0]["price"], price);
    }
}
