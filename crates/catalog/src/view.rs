//! A product as shoppers see it. Most of its JSON is made once; only the quantities are put in when it is sent.

use crate::{
    model::Product,
    query::{Position, Sort},
};
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

/// A way to buy a product.
#[derive(Debug, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[schema(as = ProductOption)]
pub struct OptionItem {
    pub sku: Sku,
    pub name: String,
    pub price: Won,
    /// Units that could be ordered now.
    pub available: i64,
}

/// A product in a list.
#[derive(Debug, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct ProductItem {
    pub id: ProductId,
    pub name: String,
    pub store: StoreName,
    /// The price that options add to.
    pub price: Won,
    /// What the cheapest option costs now.
    pub lowest_price: Won,
    pub options: Vec<OptionItem>,
    /// Units that could be ordered now, over all options.
    pub available: i64,
}

/// Why `lowest_price` is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum LowestPriceReason {
    /// It is the product's price.
    ListPrice,
    /// It is the price of an option that differs from it.
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
    pub created_at: Timestamp,
    pub version: i64,
}

#[derive(Debug)]
pub struct View {
    pub id: ProductId,
    pub skus: Vec<Sku>,
    created_at: Timestamp,
    price: Won,
    /// The JSON up to the options, each option up to its quantity, and what only the product's own page has.
    head: Vec<u8>,
    options: Vec<Vec<u8>>,
    detail: Vec<u8>,
}

/// The part of [`ProductItem`] that comes before the options.
#[derive(Serialize)]
struct Head<'p> {
    id: ProductId,
    name: &'p str,
    store: HeadStore<'p>,
    price: Won,
    lowest_price: Won,
}

#[derive(Serialize)]
struct HeadStore<'p> {
    id: StoreId,
    name: &'p str,
}

#[derive(Serialize)]
struct HeadOption<'p> {
    sku: Sku,
    name: &'p str,
    price: Won,
}

/// The part of [`ProductDetail`] that the list does not have.
#[derive(Serialize)]
struct Tail<'p> {
    lowest_price_reason: LowestPriceReason,
    description: &'p str,
    state: &'static str,
    stock_policy: StockPolicy,
    created_at: Timestamp,
    version: i64,
}

impl View {
    pub fn new(product: &Product, store_name: &str) -> View {
        let lowest_price = product.lowest_price();
        let reason = if lowest_price == product.price { LowestPriceReason::ListPrice } else { LowestPriceReason::Option };
        let head = Head {
            id: product.id,
            name: &product.name,
            store: HeadStore { id: product.store_id, name: store_name },
            price: product.price,
            lowest_price,
        };
        let options = product.live_options().map(|option| {
            let option = HeadOption { sku: option.sku, name: &option.name, price: product.price_of(option) };
            open_object(&option)
        });
        let tail = Tail {
            lowest_price_reason: reason,
            description: &product.description,
            state: product.state.as_str(),
            stock_policy: product.policy,
            created_at: product.created_at,
            version: product.version,
        };
        View {
            id: product.id,
            skus: product.live_options().map(|option| option.sku).collect(),
            created_at: product.created_at,
            price: product.price,
            head: open_object(&head),
            options: options.collect(),
            detail: open_object(&tail),
        }
    }

    pub fn position(&self, sort: Sort) -> Position {
        let value = match sort {
            Sort::Newest | Sort::Oldest => self.created_at.0,
            Sort::PriceAsc | Sort::PriceDesc => self.price.0,
        };
        Position { value, id: self.id }
    }

    /// Units that could be ordered, over all options. What stock does not know has none.
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
        // Behind its opening brace: it continues the same object.
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
            // Writing into memory does not fail.
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

    /// What is glued together is what the documented types say, nothing more and nothing less.
    #[test]
    fn the_glued_json_is_the_documented_one() {
        let view = View::new(&product(), "Cellar");
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
    fn what_stock_does_not_know_has_none() {
        let view = View::new(&product(), "Cellar");
        assert_eq!(view.available(&HashMap::new()), 0);
        let mut item = Vec::new();
        view.write_item(&mut item, &HashMap::new());
        let item: Value = serde_json::from_slice(&item).expect("JSON");
        assert_eq!((&item["available"], &item["options"][0]["available"]), (&0.into(), &0.into()));
    }
}
