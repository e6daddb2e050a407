use crate::support::{app, open};
use contracts::{
    MALL_STORE, MemberId, StoreId,
    calls::{GetStore, GetStores, GetStoresOfSeller, StoreCard},
};
use kit::ports::new_id;

#[tokio::test]
async fn other_services_read_stores_and_their_sellers() {
    let app = app().await;
    let links = &app.kit().links;
    let seller = MemberId(new_id());
    assert_eq!(links.call(GetStoresOfSeller { seller_id: seller }).await.unwrap(), []);
    let wine = open(&app, "Wine", Some(seller)).await;
    let flowers = open(&app, "Flowers", Some(seller)).await;
    let fashion = open(&app, "Fashion", Some(MemberId(new_id()))).await;
    let card = |store_id, name: &str| StoreCard { store_id, name: name.into(), seller_id: Some(seller) };

    // The answer above was cached, but a new store is visible at once.
    assert_eq!(links.call(GetStore { store_id: wine }).await.unwrap(), Some(card(wine, "Wine")));
    assert_eq!(links.call(GetStore { store_id: StoreId(new_id()) }).await.unwrap(), None);
    assert_eq!(links.call(GetStore { store_id: MALL_STORE }).await.unwrap().map(|mall| mall.seller_id), Some(None));
    assert_eq!(links.call(GetStoresOfSeller { seller_id: seller }).await.unwrap(), [card(wine, "Wine"), card(flowers, "Flowers")]);
    let named = links.call(GetStores { store_ids: vec![fashion, StoreId(new_id()), wine] }).await.unwrap();
    assert_eq!(named.iter().map(|store| store.store_id).collect::<Vec<_>>(), [fashion, wine]);
}
