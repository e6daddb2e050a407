//! The stock service with stubs of the services around it.

use contracts::{
    MemberId, Message, OrderId, ProductId, Sku, StoreId, Timestamp,
    calls::{GetAvailability, GetStore, StoreCard},
    messages::{SkuListed, SkusListed, StepCommand, StockLine, StockPolicy, StockReserve, StockTake},
};
use kit::{Kit, Module, auth::Role, ports::new_id};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use testkit::{App, AppBuilder, StubService};

pub struct World {
    pub app: App,
    pub store_id: StoreId,
    pub seller_id: MemberId,
}

pub fn services(kit: &Kit, store: StoreCard) -> Vec<Arc<dyn Module>> {
    let stores = StubService::new(kit, "stores");
    vec![
        Arc::new(stock::Stock::new(kit.clone())),
        Arc::new(stores.answers::<GetStore>(move |call| Ok((call.store_id == store.store_id).then(|| store.clone())))),
        Arc::new(StubService::new(kit, "orders")),
        Arc::new(StubService::new(kit, "catalog")),
    ]
}

impl World {
    pub async fn new() -> World {
        World::with(App::builder()).await
    }

    pub async fn with(builder: AppBuilder) -> World {
        let (store_id, seller_id) = (StoreId(new_id()), MemberId(new_id()));
        let store = StoreCard { store_id, name: "Cellar".into(), seller_id: Some(seller_id) };
        let app = builder.start(|kit| services(kit, store.clone())).await;
        World { app, store_id, seller_id }
    }

    /// Lists a SKU of the store with this many units on hand.
    pub async fn sku(&self, stock: i64) -> Sku {
        let sku = Sku(new_id());
        self.list(&[(sku, stock)], StockPolicy::ReserveOnOrder).await;
        sku
    }

    pub async fn list(&self, skus: &[(Sku, i64)], policy: StockPolicy) {
        let product_id = ProductId(new_id());
        let entries = skus.iter().map(|(sku, stock)| SkuListed { sku: *sku, stock: *stock }).collect();
        let listed = SkusListed { product_id, store_id: self.store_id, policy, skus: entries };
        self.app.emit("catalog", product_id, Message::SkusListed(listed)).await;
        // Without folding, stock reads the message a moment later.
        for (sku, _) in skus {
            self.app.eventually(&format!("select count(*) from stock_items where sku=x'{}'", sku.0.simple()), 1).await;
        }
    }

    pub async fn send(&self, order_id: OrderId, messages: Vec<Message>) {
        self.app.emit_all("orders", order_id, messages).await;
    }

    /// The answers of stock to this order so far.
    pub async fn answers(&self, order_id: OrderId) -> Vec<Message> {
        let all = self.app.messages("stock").await;
        all.into_iter().filter(|(key, _)| *key == order_id.0).map(|(_, message)| message).collect()
    }

    /// The kinds of the answers to this order so far.
    pub async fn answer_kinds(&self, order_id: OrderId) -> Vec<&'static str> {
        self.answers(order_id).await.iter().map(Message::kind).collect()
    }

    /// The number of messages of this kind from stock.
    pub async fn count_messages(&self, kind: &str) -> usize {
        self.app.messages("stock").await.iter().filter(|(_, message)| message.kind() == kind).count()
    }

    pub fn seller(&self) -> String {
        self.app.token(self.seller_id, Role::Seller)
    }

    pub fn operator(&self) -> String {
        self.app.token(MemberId(new_id()), Role::Operator)
    }

    /// on_hand, reserved, available, sold: over HTTP. Compares `available` with the answer of the link.
    pub async fn levels(&self, sku: Sku) -> [i64; 4] {
        let body = self.app.get(format!("/v1/stock/{sku}")).bearer(&self.operator()).send().await.expect(200).body;
        let level = numbers(&body);
        let available = self.app.kit().links.call(GetAvailability { skus: vec![sku] }).await.expect("stock answers");
        assert_eq!(available.get(&sku), Some(&level[2]), "link and HTTP agree");
        level
    }

    pub fn deadline(&self) -> Timestamp {
        self.app.clock_now().after(Duration::from_secs(600))
    }

    pub fn reserve(&self, order_id: OrderId, lines: &[(Sku, u32)]) -> Message {
        Message::StockReserve(StockReserve { order_id, reserve: self::lines(1, lines), check_only: vec![], expires_at: self.deadline() })
    }

    pub fn check(&self, order_id: OrderId, lines: &[(Sku, u32)]) -> Message {
        Message::StockReserve(StockReserve { order_id, reserve: vec![], check_only: self::lines(1, lines), expires_at: self.deadline() })
    }

    pub fn take(&self, order_id: OrderId, lines: &[(Sku, u32)]) -> Message {
        Message::StockTake(StockTake { order_id, lines: self::lines(1, lines), expires_at: self.deadline() })
    }

    /// Checks the invariants of stock on all rows.
    pub async fn audit(&self) {
        for (name, sql) in INVARIANTS {
            assert_eq!(self.app.sql_i64(&format!("select count(*) from ({sql}) broken")).await, 0, "{name}");
        }
    }
}

pub const INVARIANTS: &[(&str, &str)] = &[
    ("I-S1", "select sku from stock_items where on_hand<0 or reserved<0 or reserved>on_hand"),
    (
        "I-S2",
        "select i.sku from stock_items i left join stock_movements m on m.sku=i.sku \
         group by i.sku, i.on_hand having coalesce(sum(m.quantity), 0)<>i.on_hand",
    ),
    (
        "I-S3",
        "select i.sku from stock_items i left join stock_holds h on h.sku=i.sku and h.state='ACTIVE' \
         group by i.sku, i.reserved having coalesce(sum(h.quantity), 0)<>i.reserved",
    ),
    ("I-S4", "select order_id from stock_movements where kind='SALE' group by order_id, line_no having count(*)>1"),
    (
        "an ended order holds nothing",
        "select h.order_id from stock_holds h left join stock_reservations r on r.order_id=h.order_id \
         where h.state='ACTIVE' and (r.state is null or r.state<>'HELD')",
    ),
    ("I-S6", "select sku from (select sku, sum(quantity) over (partition by sku order by n) b from stock_movements) sums where b<0"),
    (
        "sold is what was sold and not returned",
        "select i.sku from stock_items i left join stock_movements m on m.sku=i.sku and m.order_id is not null \
         group by i.sku, i.sold having coalesce(-sum(m.quantity), 0)<>i.sold",
    ),
    (
        "movements are numbered without hole",
        "select i.sku from stock_items i left join stock_movements m on m.sku=i.sku \
         group by i.sku, i.moves having count(*)<>i.moves or max(m.n)<>i.moves or min(m.n)<>1",
    ),
];

pub fn lines(first: u32, lines: &[(Sku, u32)]) -> Vec<StockLine> {
    (first..).zip(lines).map(|(line_no, (sku, quantity))| StockLine { line_no, sku: *sku, quantity: *quantity }).collect()
}

pub fn release(order_id: OrderId) -> Message {
    Message::StockRelease(StepCommand { order_id })
}

pub fn commit(order_id: OrderId) -> Message {
    Message::StockCommit(StepCommand { order_id })
}

pub fn order() -> OrderId {
    OrderId(new_id())
}

pub fn numbers(body: &Value) -> [i64; 4] {
    ["on_hand", "reserved", "available", "sold"].map(|name| body[name].as_i64().unwrap_or_else(|| panic!("{name} in {body}")))
}
