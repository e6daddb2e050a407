//! The catalogue with stubs of the stores and stock services.

use contracts::{
    Kind, MemberId, Message, ProductId, Sku, StoreId,
    calls::{GetAvailability, GetPrices, GetStockVersion, GetStore, GetStores, GetStoresOfSeller, PricedSku, StoreCard},
    ids::MALL_STORE,
};
use kit::{Kit, Module, auth::Role, params, ports::new_id};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use testkit::{App, AppBuilder, StubService, TestResponse};

#[derive(Default)]
struct StoresState {
    stores: Mutex<Vec<StoreCard>>,
    /// Calls for several stores fail.
    is_unavailable: AtomicBool,
}

impl StoresState {
    fn find(&self, wanted: impl Fn(&StoreCard) -> bool) -> Vec<StoreCard> {
        self.stores.lock().expect("not poisoned").iter().filter(|store| wanted(store)).cloned().collect()
    }
}

/// Stub of the stores service, with the calls that the catalogue makes.
fn stores_stub(kit: &Kit, stores: &Arc<StoresState>) -> StubService {
    let [one, many, of_seller] = std::array::from_fn(|_| Arc::clone(stores));
    StubService::new(kit, "stores")
        .answers::<GetStore>(move |call| Ok(one.find(|store| store.store_id == call.store_id).pop()))
        .answers::<GetStores>(move |call| match many.is_unavailable.load(Ordering::SeqCst) {
            true => Err("away".into()),
            false => Ok(many.find(|store| call.store_ids.contains(&store.store_id))),
        })
        .answers::<GetStoresOfSeller>(move |call| Ok(of_seller.find(|store| store.seller_id == Some(call.seller_id))))
}

#[derive(Default)]
struct StockLevels {
    known: Mutex<HashMap<Sku, i64>>,
    version: AtomicU64,
}

impl StockLevels {
    fn set(&self, changes: impl Iterator<Item = (Sku, i64)>) {
        self.known.lock().expect("not poisoned").extend(changes);
        self.version.fetch_add(1, Ordering::SeqCst);
    }
}

/// Stub of the stock service, with the calls that the catalogue makes. Listed stock is available until a test changes it.
fn stock_stub(kit: &Kit, available: &Arc<StockLevels>) -> StubService {
    let [listed, version, levels] = std::array::from_fn(|_| Arc::clone(available));
    StubService::new(kit, "stock")
        .reads(&[Kind::SkusListed])
        .on_message(move |_, envelope| {
            if let Message::SkusListed(skus) = &envelope.message {
                listed.set(skus.skus.iter().map(|sku| (sku.sku, sku.stock)));
            }
            Ok(())
        })
        .answers::<GetStockVersion>(move |_| Ok(version.version.load(Ordering::SeqCst)))
        .answers::<GetAvailability>(move |call| {
            let known = levels.known.lock().expect("not poisoned");
            Ok(call.skus.iter().filter_map(|sku| Some((*sku, *known.get(sku)?))).collect())
        })
}

pub struct World {
    pub app: App,
    pub store_id: StoreId,
    pub seller_id: MemberId,
    stores_state: Arc<StoresState>,
    available: Arc<StockLevels>,
}

fn services(kit: &Kit, stores_state: &Arc<StoresState>, available: &Arc<StockLevels>) -> Vec<Arc<dyn Module>> {
    vec![Arc::new(catalog::Catalog::new(kit.clone())), Arc::new(stores_stub(kit, stores_state)), Arc::new(stock_stub(kit, available))]
}

impl World {
    /// Starts the application with two stores: the mall's own, and one with a seller.
    pub async fn new() -> World {
        World::with(App::builder()).await
    }

    pub async fn with(builder: AppBuilder) -> World {
        let (store_id, seller_id) = (StoreId(new_id()), MemberId(new_id()));
        let mall = StoreCard { store_id: MALL_STORE, name: "Onrush".into(), seller_id: None };
        let own = StoreCard { store_id, name: "Cellar \"9\"".into(), seller_id: Some(seller_id) };
        let stores_state = Arc::new(StoresState { stores: Mutex::new(vec![mall, own]), ..StoresState::default() });
        let available: Arc<StockLevels> = Arc::default();
        let app = builder.start(|kit| services(kit, &stores_state, &available)).await;
        World { app, store_id, seller_id, stores_state, available }
    }

    /// Starts another process on the same database.
    pub async fn beside(&self) -> World {
        let app = self.app.start_another_process(|kit| services(kit, &self.stores_state, &self.available)).await;
        let (stores_state, available) = (Arc::clone(&self.stores_state), Arc::clone(&self.available));
        World { app, store_id: self.store_id, seller_id: self.seller_id, stores_state, available }
    }

    pub fn open_store(&self, seller_id: MemberId) -> StoreId {
        let store_id = StoreId(new_id());
        let store = StoreCard { store_id, name: "Another".into(), seller_id: Some(seller_id) };
        self.stores_state.stores.lock().expect("not poisoned").push(store);
        store_id
    }

    pub fn set_stores_unavailable(&self, is_unavailable: bool) {
        self.stores_state.is_unavailable.store(is_unavailable, Ordering::SeqCst);
    }

    pub fn set_available(&self, sku: Sku, available: i64) {
        self.available.set([(sku, available)].into_iter());
    }

    pub fn seller(&self) -> String {
        self.app.token(self.seller_id, Role::Seller)
    }

    pub fn operator(&self) -> String {
        self.app.token(MemberId(new_id()), Role::Operator)
    }

    pub async fn create(&self, body: &Value) -> TestResponse {
        self.app.post("/v1/products").bearer(&self.seller()).json(body).send().await
    }

    /// Creates a product with one option in the store.
    pub async fn product(&self, name: &str, price: i64, stock: i64) -> (ProductId, Sku) {
        let created = self.create(&json!({"name": name, "price": price, "stock": stock})).await.expect(201).body;
        (id(&created), skus(&created)[0])
    }

    /// Writes products straight into the table, newer than all before, each by a microsecond. Stock does not know them.
    pub async fn insert_products(&self, count: i64, name: &str, price: i64) {
        let (begin, store_id) = (self.app.clock_now().0, self.store_id);
        let sql = "insert into catalog_products (id, store_id, name, search_name, description, price, policy, state, created_at, version, \
                   lowest_price, highest_price, summary_version) \
                   values ($1, $2, $3, $3, '', $4, 'reserve_on_order', 'on_sale', $5, 1, $4, $4, 1)";
        let rows = (1..=count).map(|n| params![new_id(), store_id, name, price, begin + n]);
        let mut tx = self.app.kit_of("catalog").db.open_writer().await.expect("the database opens");
        tx.begin().await.expect("begins");
        tx.execute_many(sql, rows).await.expect("the products are new");
        tx.commit().await.expect("commits");
        self.app.clock.advance(Duration::from_micros(count.unsigned_abs() + 1));
    }

    /// Names on all pages of a list, and the number of pages.
    pub async fn list_all(&self, query: &str) -> (Vec<String>, usize) {
        let (mut found, mut pages, mut next) = (Vec::new(), 0, query.to_owned());
        loop {
            let page = self.list(&next).await;
            found.extend(names(&page).into_iter().map(str::to_owned));
            pages += 1;
            let Some(cursor) = page["next_cursor"].as_str() else { return (found, pages) };
            next = format!("{query}&cursor={cursor}");
        }
    }

    pub async fn change(&self, of: ProductId, body: &Value) -> TestResponse {
        self.app.patch(format!("/v1/products/{of}")).bearer(&self.seller()).json(body).send().await
    }

    pub async fn detail(&self, of: ProductId) -> Value {
        self.app.get(format!("/v1/products/{of}")).send().await.expect(200).body
    }

    pub async fn list(&self, query: &str) -> Value {
        self.app.get(format!("/v1/products{query}")).send().await.expect(200).body
    }

    pub async fn prices(&self, skus: &[Sku]) -> Vec<PricedSku> {
        self.app.kit().links.call(GetPrices { skus: skus.to_vec() }).await.expect("the catalogue answers")
    }
}

pub fn id(body: &Value) -> ProductId {
    body["id"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("an id in {body}"))
}

pub fn skus(body: &Value) -> Vec<Sku> {
    let options = body["options"].as_array().unwrap_or_else(|| panic!("options in {body}"));
    options.iter().map(|option| option["sku"].as_str().and_then(|text| text.parse().ok()).expect("a SKU")).collect()
}

pub fn names(body: &Value) -> Vec<&str> {
    let items = body["items"].as_array().unwrap_or_else(|| panic!("items in {body}"));
    items.iter().map(|item| item["name"].as_str().expect("a name")).collect()
}
