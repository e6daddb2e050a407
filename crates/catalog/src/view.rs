//! A product as shoppers see it. Its JSON is rendered once, except the quantities, which are inserted for each answer.

use crate::model::Product;
use contracts::{ProductId, Sku, StoreId, Timestamp, Won, messages::StockPolicy};
use serde::Serialize;
use std::{collections::HashMap, io::Write};
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct StoreName {
    pub id: StoreId,
    pub name: String,
}

/// An option of a product, as shoppers see it.
#[derive(Debug, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[schema(as = ProductOption)]
pub struct OptionItem {
    pub sku: Sku,
    pub name: String,
    pub price: Won,
    /// Units that can be ordered now.
    pub available: i64,
}

/// A product in a list.
#[derive(Debug, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct ProductItem {
    pub id: ProductId,
    pub name: String,
    pub store: StoreName,
    /// The base price, to which options add.
    pub price: Won,
    /// The price of the cheapest option.
    pub lowest_price: Won,
    pub options: Vec<OptionItem>,
    /// Units that can be ordered now, over all options.
    pub available: i64,
}

/// The source of `lowest_price`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum LowestPriceReason {
    /// The product's price.
    ListPrice,
    /// The price of an option, which differs from the product's price.
    Option,
}

/// A product on its own page.
#[derive(Debug, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct ProductDetail {
    #[serde(flatten)]
    pub item: ProductItem,
    pub lowest_price_reason: LowestPriceReason,
    pub description: String,
    /// `on_sale` or `paused`; a paused product cannot be ordered.
    pub state: String,
    pub stock_policy: StockPolicy,
    /// Most units of a SKU that a member's unpaid orders may reserve. Null: the mall's default.
    pub max_unpaid_per_member: Option<u32>,
    pub created_at: Timestamp,
    pub version: i64,
}

/// A product with its pre-rendered JSON.
#[derive(Debug)]
pub struct ProductView {
    pub id: ProductId,
    pub skus: Vec<Sku>,
    /// The JSON up to the options.
    head: Vec<u8>,
    /// The JSON of each option, up to its quantity.
    options: Vec<Vec<u8>>,
    /// The JSON of the fields that only [`ProductDetail`] has.
    detail: Vec<u8>,
}

/// The part of [`ProductItem`] that comes before the options.
#[derive(Serialize)]
struct ProductHead<'p> {
    id: ProductId,
    name: &'p str,
    store: StoreHead<'p>,
    price: Won,
    lowest_price: Won,
}

#[derive(Serialize)]
struct StoreHead<'p> {
    id: StoreId,
    name: &'p str,
}

#[derive(Serialize)]
struct OptionHead<'p> {
    sku: Sku,
    name: &'p str,
    price: Won,
}

/// The part of [`ProductDetail`] that is missing in the list.
#[derive(Serialize)]
struct DetailTail<'p> {
    lowest_price_reason: LowestPriceReason,
    description: &'p str,
    state: &'static str,
    stock_policy: StockPolicy,
    max_unpaid_per_member: Option<u32>,
    created_at: Timestamp,
    version: i64,
}

impl ProductView {
    pub fn new(product: &Product, store_name: &str) -> ProductView {
        let lowest_price = product.lowest_price();
        let reason = if lowest_price == product.price { LowestPriceReason::ListPrice } else { LowestPriceReason::Option };
        let head = ProductHead {
            id: product.id,
            name: &product.name,
            store: StoreHead { id: product.store_id, name: store_name },
            price: product.price,
            lowest_price,
        };
        let options = product.live_options().map(|option| {
            let option = OptionHead { sku: option.sku, name: &option.name, price: product.price_of(option) };
            open_object(&option)
        });
        let tail = DetailTail {
            lowest_price_reason: reason,
            description: &product.description,
            state: product.state.as_str(),
            stock_policy: product.policy,
            max_unpaid_per_member: product.max_unpaid,
            created_at: product.created_at,
            version: product.version,
        };
        ProductView {
            id: product.id,
            skus: product.live_options().map(|option| option.sku).collect(),
            head: open_object(&head),
            options: options.collect(),
            detail: open_object(&tail),
        }
    }

    /// Units that can be ordered, over all options. A SKU unknown to stock counts as 0.
    pub fn available(&self, available: &HashMap<Sku, i64>) -> i64 {
        self.skus.iter().filter_map(|sku| available.get(sku)).sum()
    }

    /// Writes a [`ProductItem`].
    pub fn write_item(&self, out: &mut Vec<u8>, available: &HashMap<Sku, i64>) {
        self.write_open(out, available);
        out.push(b'}');
    }

    /// Writes a [`ProductDetail`].
    pub fn write_detail(&self, out: &mut Vec<u8>, available: &HashMap<Sku, i64>) {
        self.write_open(out, available);
        out.push(b',');
        // Without its opening brace, because it continues the same object.
        out.extend_from_slice(&self.detail[1..]);
        out.push(b'}');
    }

    fn write_open(&self, out: &mut Vec<u8>, available: &HashMap<Sku, i64>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b",\"options\":[");
        let mut total = 0;
        for (index, (option, sku)) in self.options.iter().zip(&self.skus).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let left = available.get(sku).copied().unwrap_or(0);
            total += left;
            out.extend_from_slice(option);
            // Writing to memory cannot fail.
            let _ = write!(out, ",\"available\":{left}}}");
        }
        let _ = write!(out, "],\"available\":{total}");
    }
}

/// An object's JSON without its closing brace.
fn open_object(value: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec(value).expect("strings, numbers and words always serialize");
    json.pop();
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NewOption, SaleState};
    use serde_json::Value;
    use uuid::Uuid;

    fn product() -> Product {
        let mut product = Product {
            id: ProductId(Uuid::from_u128(1)),
            store_id: StoreId(Uuid::from_u128(2)),
            name: "Say \"Merlot\"\\".into(),
            description: "line\nbreak".into(),
            price: Won(1_000),
            policy: StockPolicy::DeductOnPayment,
            max_unpaid: Some(2),
            state: SaleState::Paused,
            created_at: Timestamp(1_795_132_800_000_000),
            version: 3,
            options: Vec::new(),
        };
        let option = |n: u128, name: &str, delta: i64| NewOption {
            sku: Sku(Uuid::from_u128(n)),
            name: name.into(),
            price_delta: Won(delta),
            stock: 0,
        };
        product.add_options(&[option(7, "750 ml", 0), option(8, "375 ml", -400)], "").expect("fine");
        product
    }

    /// The assembled JSON has exactly the fields of the documented types.
    #[test]
    fn the_rendered_json_matches_the_documented_types() {
        let view = ProductView::new(&product(), "Cellar");
        let available = HashMap::from([(Sku(Uuid::from_u128(7)), 5), (Sku(Uuid::from_u128(8)), 2)]);
        let (mut item, mut detail) = (Vec::new(), Vec::new());
        view.write_item(&mut item, &available);
        view.write_detail(&mut detail, &available);
        let item: Value = serde_json::from_slice(&item).expect("JSON");
        let detail: Value = serde_json::from_slice(&detail).expect("JSON");
        let item_type: ProductItem = serde_json::from_value(item.clone()).expect("all fields are there");
        let detail_type: ProductDetail = serde_json::from_value(detail.clone()).expect("all fields are there");
        assert_eq!(serde_json::to_value(item_type).expect("serializes"), item);
        assert_eq!(serde_json::to_value(detail_type).expect("serializes"), detail);
        assert_eq!((&item["available"], &item["lowest_price"], &item["options"][1]["price"]), (&7.into(), &600.into(), &600.into()));
        assert_eq!(
            (&detail["lowest_price_reason"], &detail["description"], &detail["state"]),
            (&"option".into(), &"line\nbreak".into(), &"paused".into())
        );
    }

    #[test]
    fn a_sku_unknown_to_stock_has_none_available() {
        let view = ProductView::new(&product(), "Cellar");
        assert_eq!(view.available(&HashMap::new()), 0);
        let mut item = Vec::new();
        view.write_item(&mut item, &HashMap::new());
        let item: Value = serde_json::from_slice(&item).expect("JSON");
        assert_eq!((&item["available"], &item["options"][0]["available"]), (&0.into(), &0.into()));
    }
}
